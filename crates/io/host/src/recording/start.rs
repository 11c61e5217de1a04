//! What a replica is started with.

use super::input::attested;
use super::state::Reads;
use aequa_chain::Tip;
use aequa_mempool::{Cap, Limits};
use aequa_replica::{Config, Recovery, SigningHistory};
use aequa_types::limits::VALUE_BYTES_MAX;
use aequa_types::record::ValueRecord;
use aequa_types::{
    Block, Certificate, CheckedEvidence, ClusterId, ConsensusParams, Digest, DutyId, Evidence, Height,
    InstanceId, Kind, OperatorIndex, Quorum, Record, Round, TimestampMs, Value, ValueBytes, VoteKey,
    VoteRoot,
};
use ssz_derive::{Decode, Encode};

/// Everything a replica is started with, but the parameters of the cluster, which are in its lock, and its keys.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Start {
    /// The lock with the parameters.
    pub lock_hash: Digest,
    /// The cluster.
    pub cluster_id: ClusterId,
    /// Whose replica it is.
    pub me: OperatorIndex,
    /// n.
    pub operators: u8,
    /// How many operators there may be rows of in the state.
    pub operators_ever: u8,
    height: Height,
    digest: Digest,
    timestamp_ms: TimestampMs,
    state_root: Digest,
    history_root: Digest,
    builder: bool,
    seals: bool,
    sessions_max: u64,
    pool_transactions: u64,
    pool_bytes: u64,
    pool_per_sender: u64,
    pool_expiry_heights: u64,
    first_height: Height,
    last_height: Option<Height>,
    records: Vec<Record>,
    values: Vec<ValueRecord>,
    closed_duties: Vec<InstanceId>,
    newest_duties: Vec<InstanceId>,
    duty_watermarks: Vec<InstanceId>,
    /// Instance, round, number of the kind, root.
    votes: Vec<(InstanceId, Round, u8, Digest)>,
    watermarks: Vec<InstanceId>,
    history: u8,
    unsealed: Vec<Certificate>,
    evidence: Vec<Evidence>,
    /// What was read of the state until the replica was there.
    pub(super) reads: Reads,
}

/// All states of a history, by their number on disk.
const HISTORIES: [SigningHistory; 4] =
    [SigningHistory::Trusted, SigningHistory::Unverified, SigningHistory::Lost, SigningHistory::Newcomer];

impl Start {
    /// What a replica is going to be started with. `lock_hash` names the lock with `config.params`; the chain is at `tip`,
    /// with rows of so many operators at most. Values of what is over are left out: a replica forgets them at once, and
    /// between two checkpoints the log may hold hundreds of megabytes of them.
    pub fn of(
        lock_hash: Digest,
        config: &Config,
        tip: &Tip,
        operators_ever: Quorum,
        recovery: &Recovery,
    ) -> Self {
        let instances = |duties: &[DutyId]| duties.iter().copied().map(InstanceId::from).collect();
        let value = |(instance, value): &(InstanceId, Value)| ValueRecord {
            instance: *instance,
            value: value.bytes().clone(),
        };
        let vote = |vote: &VoteRoot| {
            let VoteKey { instance, round, kind } = vote.key;
            (instance, round, kind.number(), vote.root)
        };
        let is_over = |instance: InstanceId| match instance {
            InstanceId::Block(height) => height <= tip.height,
            InstanceId::Duty(duty) => {
                let below = |watermark: &DutyId| watermark.kind == duty.kind && duty.slot <= watermark.slot;
                recovery.closed_duties.contains(&duty) || recovery.duty_watermarks.iter().any(below)
            }
        };
        let record = |record: &Record| match record {
            Record::Value(ValueRecord { instance, .. }) if is_over(*instance) => {
                Record::Value(ValueRecord { instance: *instance, value: ValueBytes([].into()) })
            }
            Record::PrePrepare(_)
            | Record::Prepare(_)
            | Record::Prepared(_)
            | Record::Commit(_)
            | Record::Round(_)
            | Record::Decided(_)
            | Record::Value(_)
            | Record::Heard(_) => record.clone(),
        };
        let history = HISTORIES.iter().position(|known| *known == recovery.history);
        Self {
            lock_hash,
            cluster_id: config.cluster_id,
            me: config.me,
            operators: config.quorum.operators() as u8,
            operators_ever: operators_ever.operators() as u8,
            height: tip.height,
            digest: tip.digest,
            timestamp_ms: tip.timestamp_ms,
            state_root: tip.state_root,
            history_root: tip.history_root,
            builder: config.builder,
            seals: config.seals,
            sessions_max: config.sessions_max as u64,
            pool_transactions: config.limits.open.transactions as u64,
            pool_bytes: config.limits.open.bytes as u64,
            pool_per_sender: config.limits.per_sender as u64,
            pool_expiry_heights: config.limits.expiry_heights,
            first_height: config.first_height,
            last_height: config.last_height,
            records: recovery.records.iter().map(record).collect(),
            values: recovery.values.iter().filter(|(instance, _)| !is_over(*instance)).map(value).collect(),
            closed_duties: instances(&recovery.closed_duties),
            newest_duties: instances(&recovery.newest_duties),
            duty_watermarks: instances(&recovery.duty_watermarks),
            votes: recovery.votes.iter().map(vote).collect(),
            watermarks: recovery.watermarks.clone(),
            history: history.unwrap_or_default() as u8,
            unsealed: recovery.unsealed.clone(),
            evidence: recovery.evidence.iter().map(|evidence| Evidence::clone(evidence)).collect(),
            reads: Reads::default(),
        }
    }

    /// Whether the vote log bound the replica.
    pub fn has_records(&self) -> bool {
        !self.records.is_empty()
    }

    /// The last block that was executed.
    pub fn tip(&self) -> Tip {
        Tip {
            height: self.height,
            digest: self.digest,
            timestamp_ms: self.timestamp_ms,
            state_root: self.state_root,
            history_root: self.history_root,
        }
    }

    /// The configuration, with the parameters of the lock.
    pub(super) fn config(&self, params: ConsensusParams) -> Option<Config> {
        let open = Cap {
            transactions: self.pool_transactions.try_into().ok()?,
            bytes: self.pool_bytes.try_into().ok()?,
        };
        Some(Config {
            cluster_id: self.cluster_id,
            me: self.me,
            quorum: Quorum::of(self.operators.into())?,
            params,
            limits: Limits {
                open,
                per_sender: self.pool_per_sender.try_into().ok()?,
                expiry_heights: self.pool_expiry_heights,
            },
            builder: self.builder,
            seals: self.seals,
            sessions_max: self.sessions_max.try_into().ok()?,
            first_height: self.first_height,
            last_height: self.last_height,
        })
    }

    /// What was on disk.
    pub(super) fn into_recovery(self) -> Option<Recovery> {
        let duties = |all: Vec<InstanceId>| all.into_iter().map(InstanceId::as_duty).collect::<Option<_>>();
        let vote = |(instance, round, kind, root): (InstanceId, Round, u8, Digest)| {
            let kind = Kind::ALL.into_iter().find(|known| known.number() == kind)?;
            Some(VoteRoot { key: VoteKey { instance, round, kind }, root })
        };
        Some(Recovery {
            records: self.records,
            values: self.values.into_iter().map(value).collect::<Option<_>>()?,
            closed_duties: duties(self.closed_duties)?,
            newest_duties: duties(self.newest_duties)?,
            duty_watermarks: duties(self.duty_watermarks)?,
            votes: self.votes.into_iter().map(vote).collect::<Option<_>>()?,
            watermarks: self.watermarks,
            history: *HISTORIES.get(usize::from(self.history))?,
            unsealed: self.unsealed,
            evidence: self.evidence.into_iter().map(CheckedEvidence::attest).collect(),
        })
    }
}

/// A value that was checked before it was recorded.
fn value(ValueRecord { instance, value }: ValueRecord) -> Option<(InstanceId, Value)> {
    let decoded = match instance {
        InstanceId::Duty(duty) => Value::duty(duty, value),
        InstanceId::Block(_) => {
            let block: Block = aequa_types::decode("block", &value.0, VALUE_BYTES_MAX).ok()?;
            Value::block(attested(block))
        }
    };
    Some((instance, decoded))
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_testkit::{at, block, commit, digest, double_vote, duty_value, prepare};
    use aequa_types::{DutyKind, Slot};
    use ssz::Encode as _;

    fn config(last_height: Option<Height>) -> Config {
        Config {
            cluster_id: ClusterId::repeat_byte(4),
            me: OperatorIndex(2),
            quorum: Quorum::of(4).unwrap(),
            params: ConsensusParams::default(),
            limits: Limits { per_sender: 5, ..Limits::default() },
            builder: true,
            seals: true,
            sessions_max: 3,
            first_height: Height(2),
            last_height,
        }
    }

    fn recovery(history: SigningHistory) -> Recovery {
        let duty = |slot| DutyId { kind: DutyKind::Sync, slot: Slot(slot) };
        let block = Value::block(attested(block(ClusterId::repeat_byte(4), 7, digest(1), Vec::new())));
        let vote = prepare(at(7), 1, digest(1)).by(2);
        Recovery {
            records: vec![Record::Prepare(vote.clone())],
            values: vec![(at(7), block), (duty(10).into(), duty_value(duty(10), b"1"))],
            closed_duties: vec![duty(12)],
            newest_duties: vec![duty(12)],
            duty_watermarks: vec![duty(9)],
            votes: vec![vote.vote_root()],
            watermarks: vec![at(6)],
            history,
            unsealed: vec![commit(at(6), 0, digest(2)).certificate(0..3)],
            evidence: vec![double_vote(1, at(5), 0)],
        }
    }

    #[test]
    fn a_start_is_read_back_as_it_was_written() {
        let root = Digest::repeat_byte(7);
        let tip = Tip {
            height: Height(6),
            digest: digest(2),
            timestamp_ms: 8,
            state_root: root,
            history_root: root,
        };
        for (history, last_height) in HISTORIES.into_iter().zip([None, Some(Height(9)), None, None]) {
            let (config, recovery) = (config(last_height), recovery(history));
            let start = Start::of(digest(3), &config, &tip, Quorum::of(100).unwrap(), &recovery);
            let bytes = start.as_ssz_bytes();
            let read: Start = aequa_types::decode("start", &bytes, bytes.len()).unwrap();
            assert_eq!((read.tip(), read.operators_ever, read.lock_hash), (tip, 100, digest(3)));
            let again = read.config(config.params.clone()).unwrap();
            assert_eq!(format!("{again:?}"), format!("{config:?}"));
            assert!(read.has_records());
            assert_eq!(format!("{:?}", read.into_recovery().unwrap()), format!("{recovery:?}"));
        }
    }

    #[test]
    fn values_of_what_is_over_are_left_out_and_their_places_stay() {
        let duty = |slot| InstanceId::duty(DutyKind::Sync, Slot(slot));
        let record =
            |instance| Record::Value(ValueRecord { instance, value: ValueBytes(b"1".as_slice().into()) });
        let all = [at(6), at(7), duty(9), duty(10), duty(12)];
        let mut recovery = recovery(SigningHistory::Trusted);
        recovery.records = all.into_iter().map(record).collect();
        recovery.values.push((duty(9), duty_value(duty(9).as_duty().unwrap(), b"1")));
        let tip = Tip {
            height: Height(6),
            digest: digest(2),
            timestamp_ms: 0,
            state_root: digest(1),
            history_root: digest(1),
        };
        let quorum = Quorum::of(4).unwrap();
        let read = Start::of(digest(3), &config(None), &tip, quorum, &recovery).into_recovery().unwrap();
        let lengths = read.records.iter().map(|record| match record {
            Record::Value(record) => (record.instance, record.value.0.len()),
            other => panic!("{other:?}"),
        });
        assert_eq!(lengths.collect::<Vec<_>>(), all.into_iter().zip([0, 1, 0, 1, 0]).collect::<Vec<_>>());
        let values: Vec<InstanceId> = read.values.iter().map(|(instance, _)| *instance).collect();
        assert_eq!(values, [at(7), duty(10)]);
    }

    #[test]
    fn a_start_that_says_what_cannot_be_is_none() {
        let tip = Tip {
            height: Height(0),
            digest: digest(2),
            timestamp_ms: 0,
            state_root: digest(1),
            history_root: digest(1),
        };
        let quorum = Quorum::of(4).unwrap();
        let start = || Start::of(digest(3), &config(None), &tip, quorum, &recovery(SigningHistory::Lost));
        assert!(Start { history: 4, ..start() }.into_recovery().is_none());
        assert!(Start { closed_duties: vec![at(1)], ..start() }.into_recovery().is_none());
        assert!(Start { operators: 0, ..start() }.config(ConsensusParams::default()).is_none());
    }
}
