//! What a start reads from disk, and when it refuses.

use super::context::Locks;
use super::fence::{self, Divergence};
use super::keys::OperatorKeys;
use super::ledger::Store;
use super::testimony;
use crate::audit::{entries, record_or_warn};
use crate::config::RunConfig;
use crate::epochs;
use crate::exit::ExitError;
use crate::keys::Operator;
use crate::store_key;
use aequa_chain::{Chain, StateRead};
use aequa_crypto::lock::VerifiedLock;
use aequa_crypto::verify::Verifier;
use aequa_host::recording::{ReadState, Start};
use aequa_mempool::{Cap, Limits, Mempool};
use aequa_replica::{Config, Recovery, Replica, SigningHistory};
use aequa_storage::atomic::Loaded;
use aequa_storage::chain_store::{self, ChainOptions, ChainStore, FjallChainStore};
use aequa_storage::{
    DataDir, FenceMark, Identity, LastState, SigningDb, SigningDbOptions, StorageError, Votes, Wal,
    WalOptions,
};
use aequa_telemetry::Metrics;
use aequa_types::limits::OPERATORS_MAX;
use aequa_types::sync::Status;
use aequa_types::{
    Certificate, Digest, DutyId, DutyKind, DutyOutcome, Height, InstanceId, Quorum, Record, Value,
};
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Blocks below the tip whose missing seals are made up for at start: as many as may have been in
/// the making when the process ended, and some.
const UNSEALED_LOOKED_AT: u64 = 64;
/// Newest duties per kind whose missing seals are made up for at start: as many as may have been
/// open when the process ended.
const UNSEALED_DUTIES_LOOKED_AT: usize = 256;
/// Results of duties read at once: each may be some megabytes.
const DUTIES_READ_AT_ONCE: usize = 8;

/// Everything a start found.
pub struct Opened {
    /// Held for the life of the process.
    pub data_dir: DataDir,
    /// The vote log and the signing database.
    pub votes: Votes,
    /// The block store.
    pub store: Store,
    /// The chain at its last stored block.
    pub chain: Chain,
    /// Checks what arrives, and what the log gives back.
    pub verifier: Arc<Verifier>,
    /// Which locks members may be under.
    pub locks: Locks,
    /// Why the node does not trust its state, if it does not.
    pub fence: Option<FenceMark>,
    /// What the chain reads, where that is recorded.
    read: Option<Arc<ReadState>>,
    recovery: Recovery,
    /// The last height of this epoch, where it was promised.
    last_height: Option<Height>,
}

/// Why a data directory was not opened.
#[derive(Debug)]
pub enum NotOpened {
    /// What it remembers of the chain cannot be trusted; the members have it.
    Diverged(Divergence),
    /// For another reason.
    Refused(ExitError),
}

impl From<ExitError> for NotOpened {
    fn from(error: ExitError) -> Self {
        Self::Refused(error)
    }
}

/// Opens the data directory: whose it is, the vote log, the chain.
pub fn open(config: &RunConfig, operator: &Operator, metrics: &Metrics) -> Result<Opened, NotOpened> {
    let lock = &operator.lock;
    let identity = Identity {
        cluster_id: lock.cluster_id(),
        operator: operator.index,
        lock_hash: lock.lock().lock_hash,
        created: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
    };
    let mut data_dir = DataDir::open(&config.data_dir, identity).map_err(refusal)?;
    let fence = fence::heed(&config.data_dir)?;
    let before = epochs::history(&config.data_dir, lock)?;
    if (before.len() as u64) < lock.lock().epoch {
        let text = format!(
            "{} locks of earlier epochs are missing in {}/epochs: blocks of then are believed where they have the group's \
             seal; put each as epochs/<n>/cluster-lock.json",
            lock.lock().epoch - before.len() as u64,
            config.data_dir.display()
        );
        tracing::warn!(target: "event", text, "warning");
    }
    let last_height = epochs::promised(&config.data_dir, lock)?;
    metrics.p2p_dkg_cluster_checks_total.inc(["ok"]);
    report_last_state(config, metrics);
    suspect_if_lost(&data_dir)?;
    let history = signing_history(&data_dir, lock.quorum())?;
    let verifier = Arc::new(Verifier::with_history(lock, &before));

    let (wal, mut recovered) =
        Wal::open(&data_dir.wal_dir(), identity.cluster_id, identity.operator, WalOptions::default())
            .inspect_err(|_| metrics.qbft_wal_recover_total.inc(["corrupt"]))
            .map_err(|error| refused_log(error, lock.quorum()))?;
    let result = if recovered.torn { "torn" } else { "ok" };
    metrics.qbft_wal_recover_total.inc([result]);
    tracing::info!(target: "event", op = "recover", result, "qbft_wal");

    data_dir.take_over_marks().map_err(refusal)?;
    let mut votes = Votes::join(wal, &recovered.records, open_signing_db(&data_dir)?).map_err(refusal)?;
    data_dir.settle().map_err(refusal)?;
    let mut over = Vec::new();
    if lock.lock().epoch > 0 {
        let is_first_start = data_dir.identity().lock_hash != identity.lock_hash;
        let first_height = lock.lock().first_height();
        over = leave_before(is_first_start, &mut votes, &mut recovered.records, &verifier, first_height)?;
        data_dir.adopt_lock(identity.lock_hash).map_err(refusal)?;
    }

    let options = chain_options(config, lock)?;
    if chain_store::install(&data_dir.chain_dir(), identity.cluster_id, &options).map_err(refusal)? {
        record_or_warn(&config.data_dir, &entries::state_taken());
        tracing::info!(target: "event", op = "apply", result = "ok", "snapshot");
    }
    let is_recorded = config.record_bytes_max.is_some();
    let (store, read, chain) = open_chain(operator, &data_dir.chain_dir(), options, is_recorded)?;
    let newest = testimony::newest_duties(&*store).map_err(refusal)?;
    let recovery = Recovery {
        values: values(&verifier, &recovered.records, chain.tip().height)?,
        records: recovered.records,
        closed_duties: store.closed_duties().map_err(refusal)?,
        newest_duties: newest.into_iter().filter_map(|certificate| certificate.instance.as_duty()).collect(),
        duty_watermarks: store.duty_watermarks().map_err(refusal)?.into_iter().chain(over).collect(),
        votes: votes.db().votes().collect(),
        watermarks: votes.db().watermarks().collect(),
        history,
        unsealed: unsealed(&store, lock.lock().first_height(), chain.tip().height)?,
        // What does not hold any more, after a resharing say, is nobody's to judge.
        evidence: store
            .pending_evidence()
            .map_err(refusal)?
            .into_iter()
            .filter_map(|evidence| verifier.evidence(evidence).ok())
            .collect(),
    };
    let locks = Locks::new(before.iter().chain([lock]));
    Ok(Opened { data_dir, votes, store, chain, verifier, locks, fence, read, recovery, last_height })
}

/// How the block store of this operator is opened.
pub fn chain_options(config: &RunConfig, lock: &VerifiedLock) -> Result<ChainOptions, ExitError> {
    let key = store_key::of_node(config.storage_encrypt, config.storage_key_file.as_deref())?;
    let default = ChainOptions::default();
    // Two checkpoints, and time to fetch the older one.
    let intervals = lock.lock().consensus.params.checkpoint_interval.saturating_mul(3);
    Ok(ChainOptions { states_kept: default.states_kept.max(intervals), key, ..default })
}

/// Leaves earlier epochs behind. What was said in them binds nobody in this one: their blocks are decided, and of their
/// duties none goes on. Where this operator has signed for one, its slot is closed, durably, before the records are left
/// out. Gives the duties at and below which all are over.
fn leave_before(
    is_first_start: bool,
    votes: &mut Votes,
    records: &mut Vec<Record>,
    verifier: &Verifier,
    first_height: Height,
) -> Result<Vec<DutyId>, ExitError> {
    if is_first_start {
        let own = records.iter().filter(|record| !matches!(record, Record::Heard(_))).map(Record::instance);
        let signed = votes.db().votes().map(|vote| vote.key.instance);
        let slots = own.chain(signed).filter_map(InstanceId::as_duty).map(|duty| duty.slot);
        if let Some(slot) = slots.max() {
            let over: Vec<InstanceId> =
                DutyKind::ALL.into_iter().map(|kind| InstanceId::duty(kind, slot)).collect();
            votes.sync(&over, &[]).map_err(refusal)?;
        }
    }
    let over: Vec<InstanceId> = votes.db().watermarks().filter(|at| at.as_duty().is_some()).collect();
    let is_over = |instance: InstanceId| match instance {
        // What was said above the last height is known to the signing database: nothing else is said there.
        InstanceId::Block(height) => is_first_start || height < first_height,
        InstanceId::Duty(_) => over.iter().any(|at| at.domain() == instance.domain() && instance <= *at),
    };
    records.retain(|record| {
        // What others have said can be told by who they are.
        let Record::Heard(signed) = record else { return !is_over(record.instance()) };
        verifier.signed(signed).is_ok()
    });
    Ok(over.into_iter().filter_map(InstanceId::as_duty).collect())
}

/// What runs from here on.
pub struct Restored {
    /// The replica.
    pub replica: Replica<OperatorKeys>,
    /// What it was made of, where that is recorded.
    pub recording: Option<(Start, Arc<ReadState>)>,
    /// The vote log and the signing database.
    pub votes: Votes,
    /// Held for the life of the process.
    pub data_dir: DataDir,
}

impl Opened {
    /// The replica as it was when its last record became durable.
    pub fn into_replica(self, config: &RunConfig, operator: Operator) -> Result<Restored, ExitError> {
        let lock = &operator.lock;
        let params = lock.lock().consensus.params.clone();
        let limits = Limits {
            open: Cap { transactions: config.mempool.max, bytes: config.mempool.max_bytes },
            per_sender: config.mempool.per_sender,
            ..Limits::default()
        };
        let mempool = Mempool::new(limits, params.builder.clone()).map_err(ExitError::usage)?;
        let replica_config = Config {
            cluster_id: lock.cluster_id(),
            me: operator.index,
            quorum: lock.quorum(),
            params,
            limits,
            builder: config.enable_builder,
            seals: config.seals(),
            sessions_max: config.sessions_max,
            first_height: lock.lock().first_height(),
            last_height: self.last_height,
        };
        let (cluster, tip) = (lock.cluster_id(), *self.chain.tip());
        let recording = self.read.map(|read| {
            let lock_hash = lock.lock().lock_hash;
            let start = Start::of(lock_hash, &replica_config, &tip, operators_ever(lock), &self.recovery);
            (start, read)
        });
        let keys = OperatorKeys::new(cluster, operator.identity, operator.share);
        let replica = Replica::new(replica_config, keys, self.chain, mempool, self.recovery);
        Ok(Restored { replica, recording, votes: self.votes, data_dir: self.data_dir })
    }
}

/// This node's constant part of the status exchange.
pub fn status(operator: &Operator) -> Status {
    let lock = operator.lock.lock();
    Status {
        cluster_id: lock.cluster_id,
        lock_hash: lock.lock_hash,
        policy_hash: lock.consensus.params.builder.hash(),
        height: Height(0),
        digest: Digest::ZERO,
        wall_clock_ms: 0,
    }
}

/// A storage error as an ending: refusals for safety keep their code.
fn refusal(error: StorageError) -> ExitError {
    let hint = match &error {
        StorageError::InUse { .. } => "stop the other process, or give this one its own --data-dir",
        StorageError::ForeignDirectory { .. } => "use the directory of this operator and cluster",
        StorageError::IdentityLost { .. } | StorageError::WalCorrupt { .. } => {
            "do not delete anything: this directory says what the operator has signed; restore it whole, \
             or let the operator be replaced by a resharing"
        }
        StorageError::Contradiction { .. } => {
            "the directory was put together from two, or the disk fails: put back the `wal` and `signing` that \
             belong together; where they are gone, remove both and leave the rest, and the members are asked \
             what was signed"
        }
        StorageError::SigningDbCorrupt { .. } | StorageError::EntryLogCorrupt { .. } => {
            "the disk may be failing: check it first"
        }
        StorageError::WrongKey { .. } => {
            "give the key the store was made with; to change that, stop the node, move its folder `chain` away, and the \
             chain is fetched again from the members"
        }
        StorageError::NewerVersion { .. } => "install the newer version again",
        StorageError::OlderVersion { .. } => {
            "go on with the version that wrote it, or make a new cluster with `create-cluster`; \
             this directory stays as it is"
        }
        StorageError::Io { .. }
        | StorageError::OlderLog { .. }
        | StorageError::TooLarge { .. }
        | StorageError::VoteRefused { .. }
        | StorageError::AuditBroken { .. }
        | StorageError::BadFileId { .. }
        | StorageError::Poisoned
        | StorageError::Conflict { .. }
        | StorageError::Gap { .. }
        | StorageError::WrongParent { .. }
        | StorageError::Mismatch { .. }
        | StorageError::UnknownHeight { .. }
        | StorageError::ChainCorrupt { .. }
        | StorageError::Engine(_) => "check the disk and the permissions of the data directory",
    };
    match error.is_safety_refusal() {
        true => ExitError::refused(error).hint(hint),
        false => ExitError::failure(error).hint(hint),
    }
}

/// A vote log that cannot be opened. What helps with one of an earlier version depends on whether the others can be
/// asked what this operator signed.
fn refused_log(error: StorageError, quorum: Quorum) -> ExitError {
    if !matches!(error, StorageError::OlderLog { .. }) {
        return refusal(error);
    }
    ExitError::refused(error).hint(match quorum.operators() > quorum.quorum() {
        true => {
            "one operator after another, each when the one before is ready: `mv wal wal.old` in the data directory \
             and start again; the others are asked what was signed, and nothing is signed where it may have been"
        }
        false => {
            "go on with the version that wrote it, or make a new cluster with `create-cluster`: so few operators \
             cannot tell what was signed"
        }
    })
}

/// Tells what `laststate.dat` says. It binds nothing: what cannot be read is said, and written again with the
/// next block.
fn report_last_state(config: &RunConfig, metrics: &Metrics) {
    let loaded = LastState::load(&config.data_dir).unwrap_or_else(|error| {
        let text = format!("laststate.dat is ignored: {error}");
        tracing::warn!(target: "event", text, "warning");
        Loaded::Fail
    });
    let outcome = loaded.outcome();
    if outcome != "missing" && outcome != "miss" {
        metrics.state_recovery_total.inc([outcome]);
    }
    let last = loaded.value();
    tracing::info!(
        target: "event",
        op = "recovery",
        result = if last.is_some() { "ok" } else { "miss" },
        height = last.map(|last| last.height.0),
        round = last.map(|last| last.round.0),
        trace_id = "",
        "consensus_state"
    );
}

fn open_signing_db(data_dir: &DataDir) -> Result<SigningDb, ExitError> {
    let Identity { cluster_id, operator, .. } = *data_dir.identity();
    let options = SigningDbOptions::default();
    let db = SigningDb::open(&data_dir.signing_dir(), cluster_id, operator, options).map_err(refusal)?;
    if db.unreadable() > 0 {
        let unreadable = db.unreadable();
        let text = format!(
            "{unreadable} votes in the signing database cannot be read: the vote log is relied on for them"
        );
        tracing::warn!(target: "event", text, "warning");
    }
    Ok(db)
}

/// A directory that has lived but has no vote log or no signing database cannot say what was signed. Noted before
/// either is made again.
fn suspect_if_lost(data_dir: &DataDir) -> Result<(), ExitError> {
    if data_dir.is_new() {
        return Ok(());
    }
    let has_log = std::fs::read_dir(data_dir.wal_dir()).is_ok_and(|entries| {
        entries.flatten().any(|entry| entry.file_name().to_string_lossy().ends_with(".wal"))
    });
    let kept = [
        ("vote log", data_dir.wal_dir(), has_log),
        ("signing database", data_dir.signing_dir(), data_dir.has_signing_db()),
    ];
    for (what, dir, _) in kept.iter().filter(|(.., exists)| !exists) {
        let reason = format!(
            "the files of the {what} in {} are gone, but this operator has run before",
            dir.display()
        );
        data_dir.suspect(&reason).map_err(refusal)?;
    }
    Ok(())
}

/// How far the directory can be relied on; a refusal when it cannot, and there are not enough members to ask.
fn signing_history(data_dir: &DataDir, quorum: Quorum) -> Result<SigningHistory, ExitError> {
    let Some(reason) = data_dir.suspicion().map_err(refusal)? else {
        return Ok(match data_dir.is_newcomer().map_err(refusal)? {
            true => SigningHistory::Newcomer,
            false => SigningHistory::Unverified,
        });
    };
    let (others, needed) = (quorum.operators() - 1, quorum.quorum());
    if others < needed {
        return Err(ExitError::refused(format!(
            "{reason}; a cluster of {} cannot tell what was signed",
            others + 1
        ))
        .hint("restore the directory whole: without it the operator could sign a second time"));
    }
    tracing::warn!(target: "event", result = "wait", reason, answers = 0, needed, "signing_inquiry");
    Ok(SigningHistory::Lost)
}

/// Whoever was an operator once has its row for ever.
fn operators_ever(lock: &VerifiedLock) -> Quorum {
    match lock.lock().epoch {
        0 => lock.quorum(),
        _ => Quorum::of(OPERATORS_MAX).unwrap_or(lock.quorum()),
    }
}

/// The block store, and the chain on it; between them what notes its reads, where they are recorded.
fn open_chain(
    operator: &Operator,
    dir: &Path,
    options: ChainOptions,
    is_recorded: bool,
) -> Result<(Store, Option<Arc<ReadState>>, Chain), NotOpened> {
    let lock = &operator.lock;
    let can_repair = fence::can_repair(lock.quorum());
    let failed = |error: StorageError| match Divergence::in_store(&error, Height(0)).filter(|_| can_repair) {
        Some(divergence) => NotOpened::Diverged(divergence),
        None => refusal(error).into(),
    };
    let store = Arc::new(FjallChainStore::open(dir, lock.cluster_id(), options).map_err(failed)?);
    let ever = operators_ever(lock);
    let stored: Arc<dyn StateRead> = Arc::<FjallChainStore>::clone(&store);
    let read = is_recorded.then(|| Arc::new(ReadState::new(Arc::clone(&stored))));
    let state = read.clone().map_or(stored, |read| read as Arc<dyn StateRead>);
    let tip = store.latest().map_err(failed)?;
    let opened = match tip {
        Some(tip) => Chain::open(lock.cluster_id(), ever, state, tip),
        None => {
            let begun_ms = lock.lock().created_at.saturating_mul(1000);
            Chain::begin(lock.cluster_id(), ever, state).map(|chain| chain.begun_at(begun_ms))
        }
    };
    store.check_reads().map_err(failed)?;
    match opened {
        Ok(chain) => Ok((store, read, chain)),
        Err(error) if can_repair => {
            let (height, root) = tip.map_or_else(Default::default, |tip| (tip.height, tip.state_root));
            Err(NotOpened::Diverged(Divergence { height, root, reason: error.to_string() }))
        }
        Err(error) => {
            let error = ExitError::failure(format!("the stored state does not match its root: {error}"));
            Err(error
                .hint(
                    "restore the folder `chain` from a backup: the other operators are too few to fetch it from",
                )
                .into())
        }
    }
}

/// The values of open instances, decoded and checked again.
fn values(
    verifier: &Verifier,
    records: &[Record],
    tip: Height,
) -> Result<Vec<(InstanceId, Value)>, ExitError> {
    let open = |instance: InstanceId| instance.height().is_none_or(|height| height > tip);
    records
        .iter()
        .filter_map(|record| {
            let Record::Value(record) = record else { return None };
            open(record.instance).then_some(record)
        })
        .map(|record| {
            if let InstanceId::Duty(duty) = record.instance {
                // Opaque: what binds is the digest, and a promise stays one whatever it was about.
                return Ok((record.instance, Value::duty(duty, record.value.clone())));
            }
            let value = verifier.value(record.instance, record.value.clone());
            value.map(|value| (record.instance, value)).map_err(|error| {
                ExitError::refused(format!("the vote log holds a value that does not hold: {error}"))
                    .hint("the disk may be failing; do not delete the log")
            })
        })
        .collect()
}

/// Certificates of the last blocks and duties that are still lists of commits; of blocks from `first` on, for shares of
/// earlier epochs are worth nothing in this one.
fn unsealed(store: &FjallChainStore, first: Height, tip: Height) -> Result<Vec<Certificate>, ExitError> {
    let from = (tip.0.saturating_sub(UNSEALED_LOOKED_AT) + 1).max(first.0);
    let mut unsealed = Vec::new();
    for height in (from..=tip.0).map(Height) {
        let block = store.block(height).map_err(refusal)?;
        unsealed.extend(block.map(|b| b.certificate).filter(|c| c.group_seal().is_none()));
    }
    for kind in DutyKind::ALL {
        unsealed.extend(unsealed_duties(store, kind)?);
    }
    Ok(unsealed)
}

/// Certificates of the newest duties of a kind that are still lists of commits.
fn unsealed_duties(store: &FjallChainStore, kind: DutyKind) -> Result<Vec<Certificate>, ExitError> {
    let (mut unsealed, mut looked_at, mut before) = (Vec::new(), 0, None);
    while looked_at < UNSEALED_DUTIES_LOOKED_AT {
        let rows = store.duties(Some(kind), before, DUTIES_READ_AT_ONCE).map_err(refusal)?;
        let Some((last, _)) = rows.last() else { break };
        before = Some(last.slot);
        looked_at += rows.len();
        let outcomes = rows.iter().filter_map(|(_, stored)| DutyOutcome::from_bytes(stored).ok());
        let open = outcomes.filter(|outcome| !outcome.is_sealed());
        unsealed.extend(open.filter_map(|outcome| outcome.decided).map(|decided| decided.certificate));
    }
    Ok(unsealed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Settings, Source, keys};
    use crate::run::fixture;
    use aequa_types::outcome::DutyDecision;
    use aequa_types::{ClusterId, DutyId, OperatorIndex, Proof, Round, Seal, Slot, ValueBytes};
    use std::path::Path;

    /// The height up to which operator 0 signs no block in its second life; `between` writes to its directory.
    fn signing_watermark(between: impl Fn(&Path, ClusterId)) -> Height {
        let dir = tempfile::tempdir().unwrap();
        let mut all = fixture::keys();
        let (secrets, lock) = (all.take(0), all.lock);
        let mut settings = Settings::default();
        let path = dir.path().to_string_lossy().into_owned();
        settings.set(&keys::DATA_DIR, vec![path], Source::Flag).unwrap();
        let config = RunConfig::resolve(settings, []).unwrap();
        let cluster = lock.cluster_id();
        let operator = Operator {
            lock,
            index: OperatorIndex(0),
            identity: secrets.identity,
            share: secrets.share,
            newly_made: false,
            warnings: Vec::new(),
        };
        drop(open(&config, &operator, &Metrics::new()).unwrap());
        between(dir.path(), cluster);
        let opened = open(&config, &operator, &Metrics::new()).unwrap();
        let replica = opened.into_replica(&config, operator).unwrap().replica;
        replica.signing_watermarks().find_map(InstanceId::height).unwrap_or_default()
    }

    #[test]
    fn a_last_state_of_elsewhere_or_of_garbage_binds_nothing() {
        let raised = |height, dir: &Path, cluster| {
            let db =
                SigningDb::open(&dir.join("signing"), cluster, OperatorIndex(0), SigningDbOptions::default());
            db.unwrap().raise_watermarks(&[InstanceId::Block(Height(height))]).unwrap();
        };
        let file = |dir: &Path| dir.join(aequa_storage::last_state::FILE_NAME);
        let far = |dir: &Path| LastState { height: Height(u64::MAX), round: Round(1) }.save(dir).unwrap();
        let newer = |dir: &Path| {
            far(dir);
            let mut bytes = std::fs::read(file(dir)).unwrap();
            bytes[5] = 9;
            std::fs::write(file(dir), bytes).unwrap();
        };
        let garbage = |dir: &Path| std::fs::write(file(dir), b"garbage").unwrap();
        let folder = |dir: &Path| std::fs::create_dir(file(dir)).unwrap();
        for put in [&far as &dyn Fn(&Path), &newer, &garbage, &folder] {
            let both = |dir: &Path, cluster| {
                put(dir);
                raised(9, dir, cluster);
            };
            assert_eq!(signing_watermark(|dir, _| put(dir)), Height(0));
            assert_eq!(signing_watermark(both), Height(9), "the signing database binds");
        }
    }

    #[test]
    fn duties_decided_but_not_sealed_before_a_kill_are_found_at_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let cluster = ClusterId::repeat_byte(1);
        let open = || FjallChainStore::open(dir.path(), cluster, ChainOptions::default()).unwrap();
        let store = open();
        let duty = |slot| DutyId { kind: DutyKind::Sync, slot: Slot(slot) };
        let certificate = |slot: u64, proof| {
            let duty = duty(slot);
            let value = Value::duty(duty, ValueBytes(b"1".as_slice().into()));
            let (instance, digest) = (duty.into(), value.digest());
            let certificate = Certificate { instance, round: Round(0), digest, proof };
            let decided = DutyDecision { certificate: certificate.clone(), value: value.bytes().clone() };
            let outcome = DutyOutcome { decided: Some(decided), ..DutyOutcome::default() };
            store.close_duty(duty, &outcome.to_bytes(), None).unwrap();
            certificate
        };
        let open_slots = [30, 17, 16, 2];
        for slot in (0..40).filter(|slot| !open_slots.contains(slot)) {
            certificate(slot, Proof::Group(Seal::repeat_byte(1)));
        }
        let expected = open_slots.map(|slot| certificate(slot, Proof::Commits(Vec::new())));
        store.put_duty(duty(41), b"unreadable").unwrap();
        drop(store);
        let store = open();
        assert_eq!(unsealed(&store, Height(1), Height(0)).unwrap(), expected);
        assert_eq!(store.closed_duties().unwrap().len(), 41);
    }
}
