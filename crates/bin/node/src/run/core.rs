//! The core thread: commands in, turns of the [`Host`], and the ports it finds the node behind.
//!
//! One thread owns the replica, the vote log and the signing database. It takes everything that is waiting into one turn.

use super::audit::AuditedNotices;
use super::command::{Command, Core, Question};
use super::facts::Facts;
use super::keys::OperatorKeys;
use super::ledger::Ledger;
use super::observe::Observatory;
use super::outbox::Outbox;
use super::recorder::Recorder;
use super::seals::{SealJob, SealWorker};
use aequa_host::recording::Entry as Recorded;
use aequa_host::{Host, HostError, Ports};
use aequa_mempool::Admission;
use aequa_replica::{
    DutyAdmission, Halt, Input, Notice, Now, Outbound, Persist, StoreWrite, Tell, Ticket, VoteStore, Work,
};
use aequa_storage::{DataDir, StorageError, Votes};
use aequa_types::{InstanceId, Signed, Subject};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Commands taken in one turn: bounds the time until the turn's sync.
const TURN_COMMANDS_MAX: usize = 512;
/// Why the core ended by itself.
pub type CoreError = HostError<StorageError>;

/// Everything the core thread owns.
pub struct CoreThread {
    /// The state machine and its timers.
    pub host: Host<OperatorKeys>,
    /// What it finds outside.
    pub ports: NodePorts,
    /// What other threads may know.
    pub facts: Arc<Facts>,
}

/// The node as its replica finds it.
pub struct NodePorts {
    /// Held for the life of the process.
    pub data_dir: DataDir,
    /// The vote log and the signing database.
    pub votes: NodeVotes,
    /// The block store.
    pub ledger: Ledger,
    /// The recording, when there is one.
    pub recorder: Recorder,
    /// To the other operators.
    pub outbox: Outbox,
    /// To the sealing thread.
    pub seals: SealWorker,
    /// Metrics, log events, event streams.
    pub observatory: Observatory,
    /// The audit log.
    pub audited: AuditedNotices,
    /// What other threads may know.
    pub facts: Arc<Facts>,
    /// When the node started.
    pub started: Instant,
    /// Answers owed to clients.
    pub owed: Owed,
}

/// The vote log and the signing database of the running node.
pub struct NodeVotes(pub Votes);

impl VoteStore for NodeVotes {
    type Error = StorageError;

    fn persist(&mut self, promised: &Persist) -> Result<(), StorageError> {
        self.0.write(&promised.records, &promised.votes)?;
        if promised.is_urgent() { self.0.sync(&promised.watermarks, &promised.votes) } else { Ok(()) }
    }

    fn holds(&self, vote: &Signed) -> bool {
        self.0.db().holds(&vote.vote_root())
    }
}

/// Answers owed to clients.
#[derive(Default)]
pub struct Owed {
    next: u64,
    batches: BTreeMap<Ticket, OwedBatch>,
    duties: BTreeMap<Ticket, oneshot::Sender<DutyAdmission>>,
}

/// What is owed to a client that submitted some transactions.
struct OwedBatch {
    /// What the pool said to the first of them.
    admissions: Vec<Admission>,
    transactions: usize,
    answer: oneshot::Sender<Vec<Admission>>,
}

impl Owed {
    fn ticket(&mut self) -> Ticket {
        self.next += 1;
        Ticket(self.next)
    }

    /// One ticket for all: the pool answers them in their order.
    fn batch(&mut self, transactions: usize, answer: oneshot::Sender<Vec<Admission>>) -> Ticket {
        let ticket = self.ticket();
        let admissions = Vec::with_capacity(transactions);
        self.batches.insert(ticket, OwedBatch { admissions, transactions, answer });
        ticket
    }

    /// The pool's word on the next one of a batch; after the last one its client is told.
    fn admitted(&mut self, ticket: Ticket, admission: Admission) {
        let Entry::Occupied(mut owed) = self.batches.entry(ticket) else { return };
        let OwedBatch { admissions, transactions, .. } = owed.get_mut();
        admissions.push(admission);
        if admissions.len() == *transactions {
            let OwedBatch { admissions, answer, .. } = owed.remove();
            // A client that went away does not wait for its answer.
            let _ = answer.send(admissions);
        }
    }
}

impl CoreThread {
    /// Runs until told to stop or until something fails that makes going on unsafe.
    pub async fn run(mut self, mut commands: mpsc::Receiver<Command>) -> Result<(), CoreError> {
        let ended = self.turns(&mut commands).await;
        // The sealing thread may wait for room there.
        drop(commands);
        self.ports.seals.stop();
        self.ports.recorder.finish();
        ended
    }

    async fn turns(&mut self, commands: &mut mpsc::Receiver<Command>) -> Result<(), CoreError> {
        let mut waiting = Vec::with_capacity(TURN_COMMANDS_MAX);
        self.host.start(&mut self.ports)?;
        self.turn_ended(Vec::new());
        loop {
            let taken = match self.host.next_due_ms() {
                Some(due_ms) => {
                    let pause = Duration::from_millis(due_ms.saturating_sub(self.ports.now().elapsed_ms));
                    let receive = commands.recv_many(&mut waiting, TURN_COMMANDS_MAX);
                    tokio::time::timeout(pause, receive).await.unwrap_or(usize::MAX)
                }
                None => commands.recv_many(&mut waiting, TURN_COMMANDS_MAX).await,
            };
            let mut stop = taken == 0;
            let (mut inputs, mut questions) = (Vec::with_capacity(waiting.len()), Vec::new());
            for command in waiting.drain(..) {
                match command {
                    Command::Inputs(taken) => inputs.extend(taken),
                    Command::Submit(transactions, answer) => {
                        let ticket = self.ports.owed.batch(transactions.len(), answer);
                        let ticketed =
                            transactions.into_iter().map(|transaction| (transaction, Some(ticket)));
                        inputs.push(Input::Transactions(ticketed.collect()));
                    }
                    Command::Duty(duty, value, answer) => {
                        let ticket = self.ports.owed.ticket();
                        self.ports.owed.duties.insert(ticket, answer);
                        inputs.push(Input::Duty { duty, value, ticket });
                    }
                    Command::Ask(question) => questions.push(question),
                    Command::Flushed(height) => self.host.flushed(height),
                    Command::Stop => stop = true,
                }
            }
            self.host.turn(&mut self.ports, inputs)?;
            self.turn_ended(questions);
            if stop {
                return self.ports.ledger.flush().map_err(HostError::Store);
            }
        }
    }

    /// Answers questions, and tells other threads how things stand.
    fn turn_ended(&mut self, questions: Vec<Question>) {
        let replica = self.host.replica();
        questions.into_iter().for_each(|question| question(replica));
        let (round, leader) = replica.round_and_leader();
        self.facts.set_agreeing(round, leader);
        self.facts.set_rejoining(replica.is_rejoining());
        self.facts.set_abstaining(replica.abstains_up_to().is_some());
        self.facts.set_stalled(replica.has_stalled());
        self.ports.observatory.store_memory(self.ports.ledger.store_memory());
        self.ports.observatory.turn_ended(replica);
    }
}

impl Ports<OperatorKeys> for NodePorts {
    type Error = StorageError;
    type Votes = NodeVotes;

    fn now(&self) -> Now {
        let elapsed = self.started.elapsed().as_millis();
        Now { elapsed_ms: u64::try_from(elapsed).unwrap_or(u64::MAX), wall_ms: crate::wall_ms() }
    }

    fn stepping(&mut self, input: &Input) {
        self.observatory.input(input);
    }

    fn check_reads(&mut self) -> Result<(), StorageError> {
        self.ledger.check_reads()
    }

    fn votes(&mut self) -> &mut NodeVotes {
        &mut self.votes
    }

    fn record(&mut self, entries: Vec<Recorded>) {
        self.recorder.take(entries);
    }

    fn persisted(&mut self, durable: &Persist) {
        self.observatory.records_durable(&durable.records);
    }

    fn send(&mut self, outbound: &Outbound) -> Result<(), StorageError> {
        match outbound {
            Outbound::Broadcast(message) => self.outbox.broadcast(message),
            Outbound::Send(to, message) => self.outbox.send(*to, message),
            Outbound::Spread(transaction) => self.outbox.spread(transaction.clone()),
            Outbound::Offer(transactions) => self.outbox.offer(transactions),
            Outbound::GossipEvidence(evidence) => self.outbox.gossip_evidence(evidence),
            Outbound::Fetch { from, height } => self.outbox.fetch(*from, *height),
            Outbound::Inquire(operator) => self.outbox.inquire(*operator),
        }
        Ok(())
    }

    fn store(&mut self, write: &StoreWrite) -> Result<(), StorageError> {
        match write {
            StoreWrite::Commit { block, certificate, applied, .. } => {
                self.ledger.commit(block, certificate, applied)?;
            }
            StoreWrite::Sealed(certificate) => self.ledger.seal(certificate)?,
            StoreWrite::KeepEvidence(pending) => self.ledger.keep_evidence(pending)?,
            StoreWrite::CommitDuty { duty, outcome, watermark } => {
                self.ledger.commit_duty(*duty, outcome, *watermark)?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        self.ledger.flush()
    }

    fn work(&mut self, work: Work) -> Result<(), StorageError> {
        match work {
            Work::Combine { decision, shares } => self.seals.submit(SealJob { decision, shares }),
            Work::RecallDuty { to, duty, recall } => {
                if let Some(message) = self.ledger.recall_duty(duty, recall) {
                    self.outbox.send(to, &message);
                }
            }
        }
        Ok(())
    }

    fn tell(&mut self, tell: Tell, replica: &Core) {
        match tell {
            Tell::Admission(ticket, _, admission) => {
                self.observatory.admitted(admission);
                self.owed.admitted(ticket, admission);
            }
            Tell::DutyAdmission(ticket, admission) => {
                if let Some(answer) = self.owed.duties.remove(&ticket) {
                    let _ = answer.send(admission);
                }
            }
            Tell::Notice(notice) => {
                let mut stable = None;
                if let Notice::BlockDecided { block, certificate, .. } = &notice {
                    self.facts.set_tip(block.header().height, block.digest());
                    stable = self.ledger.made_stable(block.header(), certificate);
                }
                self.audited.notice(&notice);
                self.observatory.notice(notice, replica);
                if let Some(stable) = stable {
                    self.facts.set_stable_checkpoint(stable.at);
                    self.observatory.checkpoint_stable(&stable);
                }
            }
        }
    }

    fn prune(
        &mut self,
        is_needed: &dyn Fn(Subject) -> bool,
        watermarks: Vec<InstanceId>,
    ) -> Result<(), StorageError> {
        self.votes.0.prune(is_needed, &watermarks).map(drop)
    }

    fn suspect(&mut self, halt: &Halt) -> Result<(), StorageError> {
        self.data_dir.suspect(&halt.to_string())
    }

    fn trust(&mut self) -> Result<(), StorageError> {
        self.data_dir.trust()
    }
}

#[cfg(test)]
mod tests;
