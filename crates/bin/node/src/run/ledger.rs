//! The block store as the node uses it: commits, seals, duty results, flushing in the background.

use super::checkpoint::{self, Stable};
use super::command::Command;
use aequa_chain::Applied;
use aequa_storage::StorageError;
use aequa_storage::chain_store::{BlockCommit, ChainStore, FjallChainStore};
use aequa_storage::last_state::LastState;
use aequa_telemetry::Metrics;
use aequa_telemetry::metrics::elapsed_ms;
use aequa_types::{
    Certificate, CheckedBlock, CheckedEvidence, DutyId, DutyOutcome, Evidence, Header, Height, InstanceId,
    Message, Recall, Round, Slot, TxHash,
};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use tokio::sync::{mpsc, watch};

/// `laststate.dat` follows the decided blocks at most this often: it is a convenience for tools, and
/// replacing a file costs more than deciding an empty block.
const LAST_STATE_PAUSE: Duration = Duration::from_millis(100);

/// Blocks from one flush of the store to the next, at most: until then the vote log keeps what the store may not have.
const FLUSH_INTERVAL_MAX: u64 = 100;

/// The store shared by all readers.
pub type Store = Arc<FjallChainStore>;

/// Writes to the store; owned by the core.
pub struct Ledger {
    store: Store,
    checkpoint_interval: u64,
    /// Blocks from one flush to the next.
    flush_interval: u64,
    flush: std::sync::mpsc::SyncSender<Height>,
    last_state: watch::Sender<LastState>,
}

impl Ledger {
    /// Starts the flushing thread, which tells the core how far the store is durable, and the
    /// writer of `laststate.dat`.
    pub fn start(
        store: Store,
        data_dir: PathBuf,
        checkpoint_interval: u64,
        keep_blocks: Option<u64>,
        metrics: Arc<Metrics>,
        core: mpsc::Sender<Command>,
    ) -> std::io::Result<Self> {
        // One flush may wait while one runs; further ones would say nothing new.
        let (flush, requests) = std::sync::mpsc::sync_channel::<Height>(1);
        let flushed = Arc::clone(&store);
        std::thread::Builder::new().name("flush".into()).spawn(move || {
            while let Ok(height) = requests.recv() {
                // A failed flush is not an answer: the log keeps what the store may not have.
                if flushed.flush().is_err() {
                    continue;
                }
                if core.blocking_send(Command::Flushed(height)).is_err() {
                    return;
                }
                if let Some(keep) = keep_blocks {
                    prune(&flushed, height, keep, checkpoint_interval);
                }
            }
        })?;
        let (last_state, mut newest) = watch::channel(LastState { height: Height(0), round: Round(0) });
        std::thread::Builder::new().name("last-state".into()).spawn(move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().build() else { return };
            while runtime.block_on(newest.changed()).is_ok() {
                let state = *newest.borrow_and_update();
                let start = Instant::now();
                let saved = state.save(&data_dir);
                report_saved(&metrics, state, start, saved);
                std::thread::sleep(LAST_STATE_PAUSE);
            }
        })?;
        let flush_interval = checkpoint_interval.min(FLUSH_INTERVAL_MAX);
        Ok(Self { store, checkpoint_interval, flush_interval, flush, last_state })
    }

    /// Stores a decided block; durable when the vote log holds the decision or after [`Ledger::flush`].
    pub fn commit(
        &self,
        block: &CheckedBlock,
        certificate: &Certificate,
        applied: &Applied,
    ) -> Result<(), StorageError> {
        let tx_hashes: Vec<TxHash> = block.tx_hashes().collect();
        self.store.commit(&BlockCommit {
            block: block.block(),
            certificate,
            tx_hashes: &tx_hashes,
            changes: &applied.changes,
            state_root: applied.state_root,
            history_root: applied.history_root,
        })?;
        let height = block.header().height;
        if height.0.is_multiple_of(self.flush_interval) {
            // A full queue means that a flush is waiting already.
            let _ = self.flush.try_send(height);
        }
        self.last_state.send_replace(LastState { height, round: certificate.round });
        Ok(())
    }

    /// Replaces a certificate by one with the group seal. A duty's is durable after [`Ledger::flush`].
    pub fn seal(&self, certificate: &Certificate) -> Result<(), StorageError> {
        match certificate.instance {
            InstanceId::Block(height) => {
                self.store.put_certificate(height, certificate)?;
            }
            InstanceId::Duty(duty) => {
                if let Some(mut outcome) = self.outcome(duty)?
                    && outcome.seal(certificate)
                {
                    self.store.put_duty(duty, &outcome.to_bytes())?;
                }
            }
        }
        Ok(())
    }

    /// Stores the end of a duty and the watermark of its kind; durable after [`Ledger::flush`]. A result
    /// that is sealed already stays.
    pub fn commit_duty(
        &self,
        duty: DutyId,
        outcome: &DutyOutcome,
        watermark: Option<Slot>,
    ) -> Result<(), StorageError> {
        let sealed = self.outcome(duty)?.filter(DutyOutcome::is_sealed);
        self.store.close_duty(duty, &sealed.as_ref().unwrap_or(outcome).to_bytes(), watermark)
    }

    /// What is stored of a duty. One that cannot be read says nothing.
    fn outcome(&self, duty: DutyId) -> Result<Option<DutyOutcome>, StorageError> {
        let stored = self.store.duty(duty)?;
        Ok(stored.and_then(|stored| DutyOutcome::from_bytes(&stored).ok()))
    }

    /// Stores all the evidence that is pending, in place of what was. It outlives the process at once, and a
    /// power cut after the next flush; the other members have it too.
    pub fn keep_evidence(&self, pending: &[CheckedEvidence]) -> Result<(), StorageError> {
        let pending: Vec<Evidence> = pending.iter().map(|evidence| Evidence::clone(evidence)).collect();
        self.store.put_pending_evidence(&pending)
    }

    /// What the store has of a closed duty for an operator that missed it. A store that cannot be
    /// read leaves the question unanswered; writing to it will say so.
    pub fn recall_duty(&self, duty: DutyId, recall: Recall) -> Option<Message> {
        self.outcome(duty).ok()??.recall(duty, recall)
    }

    /// The checkpoint that this decided and stored block makes stable, if it does. A store that cannot be read has none;
    /// the next write to it will say so.
    pub fn made_stable(&self, header: &Header, certificate: &Certificate) -> Option<Stable> {
        checkpoint::made_stable(&self.store, self.checkpoint_interval, header, certificate).ok().flatten()
    }

    /// Whether all of the state that was asked for since the last call could be read.
    pub fn check_reads(&self) -> Result<(), StorageError> {
        self.store.check_reads()
    }

    /// Bytes the block store keeps in memory.
    pub fn store_memory(&self) -> u64 {
        self.store.bytes_in_memory()
    }

    /// Makes everything durable.
    pub fn flush(&self) -> Result<(), StorageError> {
        self.store.flush()
    }
}

/// Forgets blocks of no use: those so many below the last checkpoint. That of this height is certified by the next one,
/// which may not be there yet, so that the checkpoint before is the last.
fn prune(store: &Store, height: Height, keep: u64, checkpoint_interval: u64) {
    let checkpoint = height.0.saturating_sub(checkpoint_interval);
    let limit = Height(checkpoint.saturating_sub(keep));
    match store.prune_blocks_below(limit) {
        Ok(0) => {}
        Ok(blocks) => tracing::debug!(below = limit.0, blocks, "blocks pruned"),
        // Nothing depends on it, and the next checkpoint tries again.
        Err(error) => {
            tracing::warn!(target: "event", text = %format!("blocks were not pruned: {error}"), "warning")
        }
    }
}

/// Counts and logs one write of `laststate.dat`, a convenience for tools: its failure stops nothing.
fn report_saved(metrics: &Metrics, state: LastState, start: Instant, saved: Result<(), StorageError>) {
    let (height, round, latency_ms) = (state.height.0, state.round.0, elapsed_ms(start));
    match saved {
        Ok(()) => {
            metrics.state_persist_ms.observe([], latency_ms);
            let op = "persist";
            tracing::debug!(target: "event", op, result = "ok", height, round, latency_ms, trace_id = "", "consensus_state");
        }
        Err(error) => {
            metrics.state_persist_errors_total.inc([]);
            let op = "persist";
            tracing::error!(target: "event", op, result = "error", height, round, latency_ms, err = %error, trace_id = "", "consensus_state");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_storage::chain_store::ChainOptions;
    use aequa_types::outcome::DutyDecision;
    use aequa_types::{ClusterId, DutyKind, Proof, Seal, Value, ValueBytes};

    const CLUSTER: ClusterId = ClusterId::repeat_byte(1);
    const DUTY: DutyId = DutyId { kind: DutyKind::Attester, slot: Slot(7) };

    fn ledger(dir: &std::path::Path) -> Ledger {
        let store = Arc::new(FjallChainStore::open(dir, CLUSTER, ChainOptions::default()).unwrap());
        let (core, _) = mpsc::channel(1);
        Ledger::start(store, dir.into(), 100, None, Arc::new(Metrics::new()), core).unwrap()
    }

    fn decided(bytes: &[u8]) -> DutyOutcome {
        let value = Value::duty(DUTY, ValueBytes(bytes.into()));
        let proof = Proof::Commits(Vec::new());
        let certificate =
            Certificate { instance: DUTY.into(), round: Round(0), digest: value.digest(), proof };
        let decided = Some(DutyDecision { certificate, value: value.bytes().clone() });
        DutyOutcome { decided, ..DutyOutcome::default() }
    }

    fn seal(outcome: &DutyOutcome) -> Certificate {
        let proof = Proof::Group(Seal::repeat_byte(9));
        Certificate { proof, ..outcome.certificate().unwrap().clone() }
    }

    #[test]
    fn a_decided_value_of_any_bytes_is_stored_and_sealed() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = ledger(dir.path());
        let deep = "[".repeat(4000);
        for bytes in [b"\xff\x00 not json".as_slice(), deep.as_bytes(), b"", b"{}"] {
            let decided = decided(bytes);
            ledger.commit_duty(DUTY, &decided, None).unwrap();
            ledger.seal(&seal(&decided)).unwrap();
            let stored = ledger.outcome(DUTY).unwrap().unwrap();
            assert_eq!(stored.certificate(), Some(&seal(&decided)));
            let asked = Recall::Value(seal(&decided).digest);
            assert!(matches!(ledger.recall_duty(DUTY, asked), Some(Message::ValueReply(_))));
            // The next value takes another place in a real node.
            ledger.store.put_duty(DUTY, b"{}").unwrap();
        }
    }

    #[test]
    fn a_sealed_duty_stays_sealed_when_its_decision_is_stored_again() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = ledger(dir.path());
        let decided = decided(b"{}");
        ledger.commit_duty(DUTY, &decided, None).unwrap();
        ledger.seal(&seal(&decided)).unwrap();
        ledger.commit_duty(DUTY, &decided, Some(Slot(6))).unwrap();
        let stored = ledger.outcome(DUTY).unwrap().unwrap();
        assert_eq!(stored.certificate(), Some(&seal(&decided)));
        assert_eq!(ledger.store.duty_watermarks().unwrap(), [DutyId { slot: Slot(6), ..DUTY }]);
    }

    #[test]
    fn a_seal_for_a_result_that_cannot_be_read_stops_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = ledger(dir.path());
        ledger.store.put_duty(DUTY, b"\xff").unwrap();
        ledger.seal(&seal(&decided(b"{}"))).unwrap();
        assert_eq!(ledger.store.duty(DUTY).unwrap().unwrap(), b"\xff");
    }
}
