//! What everything shares that deals with members.

use super::budget::Budgets;
use super::command::{Command, Core};
use super::facts::Facts;
use super::ledger::Store;
use super::snapshot::GivenStates;
use super::wanted::Wanted;
use aequa_crypto::lock::VerifiedLock;
use aequa_crypto::verify::Verifier;
use aequa_replica::{Elector, Input};
use aequa_telemetry::Metrics;
use aequa_telemetry::log::{Admit, RateLimiter};
use aequa_types::sync::Status;
use aequa_types::{Digest, OperatorIndex, Quorum};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Instant;
use tokio::sync::{mpsc, oneshot};

/// What both directions share.
pub struct Context {
    /// This operator.
    pub me: OperatorIndex,
    /// n, f, q.
    pub quorum: Quorum,
    /// Heights from one checkpoint to the next, above 0.
    pub checkpoint_interval: u64,
    /// Who may propose.
    pub elector: Arc<dyn Elector>,
    /// Answers to status questions, but for the tip.
    pub status: Status,
    /// Under which locks members may be.
    pub locks: Locks,
    /// Checks what arrives.
    pub verifier: Arc<Verifier>,
    /// Serves blocks.
    pub store: Store,
    /// The board.
    pub facts: Arc<Facts>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The core's queue.
    pub core: mpsc::Sender<Command>,
    /// Values this node has asked for.
    pub wanted: Wanted,
    /// What every member may cost.
    pub budgets: Budgets,
    /// States that members are being given.
    pub given: GivenStates,
    /// Keeps members from filling the log with warnings about them.
    pub warnings: RateLimiter<OperatorIndex>,
}

/// The lock in force and its neighbours: operators do not change from one epoch to the next at the same moment.
#[derive(Debug, Default)]
pub struct Locks {
    /// Hashes of that lock and of those before.
    known: Vec<Digest>,
    next: OnceLock<Digest>,
    /// Members under locks that are not known here.
    elsewhere: Mutex<BTreeSet<OperatorIndex>>,
}

impl Locks {
    /// A lock and those before it.
    pub fn new<'a>(locks: impl IntoIterator<Item = &'a VerifiedLock>) -> Self {
        let known = locks.into_iter().map(|lock| lock.lock().lock_hash).collect();
        Self { known, next: OnceLock::new(), elsewhere: Mutex::default() }
    }

    /// The lock that follows is known.
    pub fn expect(&self, next: Digest) {
        // A lock is followed by one lock.
        let _ = self.next.set(next);
    }

    /// Whether a member may be under this lock.
    pub fn has(&self, lock_hash: &Digest) -> bool {
        self.known.contains(lock_hash) || self.next.get() == Some(lock_hash)
    }

    /// A member of this cluster says under which lock it is. Where that is one not known here: how many say so.
    pub fn said(&self, member: OperatorIndex, lock_hash: &Digest) -> usize {
        let mut elsewhere = self.elsewhere.lock();
        if self.has(lock_hash) {
            elsewhere.remove(&member);
            return 0;
        }
        elsewhere.insert(member);
        elsewhere.len()
    }
}

impl Context {
    /// This node's status now.
    pub fn own_status(&self) -> Status {
        let (height, digest) = self.facts.tip();
        Status { height, digest, wall_clock_ms: crate::wall_ms(), ..self.status.clone() }
    }

    /// Queues an input; waits while the queue is full. False when the node is stopping.
    pub async fn input(&self, input: Input) -> bool {
        self.inputs(vec![input]).await
    }

    /// Queues inputs for one turn, as [`Context::input`].
    pub async fn inputs(&self, inputs: Vec<Input>) -> bool {
        inputs.is_empty() || self.core.send(Command::Inputs(inputs)).await.is_ok()
    }

    /// Asks the core when everything queued so far is done; `None` when the node is stopping.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Core) -> T + Send + 'static,
    ) -> Option<T> {
        let (tell, told) = oneshot::channel();
        let question = Command::Ask(Box::new(move |replica| {
            // The asker may have gone away.
            let _ = tell.send(question(replica));
        }));
        self.core.send(question).await.ok()?;
        told.await.ok()
    }

    /// Whether a warning about a member is to be written, and how many before it were not.
    pub fn warns(&self, event: &'static str, of: OperatorIndex) -> Option<u64> {
        match self.warnings.admit(event, &of, Instant::now()) {
            Admit::Write { suppressed } => Some(suppressed),
            Admit::Suppress => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_under_a_lock_that_became_known_leave_nobody_behind() {
        let (locks, next) = (Locks::default(), Digest::repeat_byte(1));
        let said: Vec<usize> = (0..3).map(|member| locks.said(OperatorIndex(member), &next)).collect();
        assert_eq!(said, [1, 2, 3]);
        assert_eq!(locks.said(OperatorIndex(0), &next), 3, "one member counts once");
        locks.expect(next);
        assert_eq!(locks.said(OperatorIndex(0), &next), 0, "whatever others said before");
        assert_eq!(locks.said(OperatorIndex(3), &Digest::repeat_byte(2)), 3);
    }
}
