//! The turn: inputs in, one sync, outputs out.
//!
//! One thread owns the replica, the vote log and the signing marks. A turn takes everything that is
//! waiting, lets the replica step through it, makes all records durable with one sync, takes the places of
//! what was signed, and only then carries the rest out: first what goes to the
//! network, then what goes to the store, then what clients hear.
//! An error of the log or the store ends the node: after a failed sync nothing may be believed.

use super::facts::Facts;
use super::keys::OperatorKeys;
use super::ledger::Ledger;
use super::network::Outbox;
use super::observe::Observatory;
use super::promises::Promises;
use super::recorder::Recorder;
use super::seals::{SealJob, SealWorker};
use super::timers::Timers;
use aequa_mempool::Admission;
use aequa_replica::{
    DutyAdmission, Halt, Input, Now, Outbound, Output, Persist, Replica, Stopped, StoreWrite, Tell, Ticket,
    VoteStore as _, Work,
};
use aequa_storage::DataDir;
use aequa_types::{CheckedTransaction, Domain, Height, InstanceId, Value};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{mpsc, oneshot};

/// Commands waiting for the core; a full queue slows intake down instead of dropping votes.
pub const QUEUE_MAX: usize = 4096;
/// Commands taken in one turn: bounds the time until the turn's sync.
const TURN_COMMANDS_MAX: usize = 512;
/// Timers of a turn's own making that fire in the same turn, so that a decision and the next
/// proposal share one sync.
const TURN_TIMER_PASSES_MAX: usize = 4;

/// The state machine of a node.
pub type Core = Replica<OperatorKeys>;
type Question = Box<dyn FnOnce(&Core) + Send>;

/// What the core is asked to do.
#[allow(clippy::large_enum_variant, reason = "almost every command is an input; a box would cost more")]
pub enum Command {
    /// An input of the replica.
    Input(Input),
    /// A client's transaction; the answer is the pool's.
    Submit(CheckedTransaction, oneshot::Sender<Admission>),
    /// A client's duty.
    Duty(InstanceId, Value, oneshot::Sender<DutyAdmission>),
    /// A question to the replica, answered when everything it has done is durable.
    Ask(Question),
    /// The store is durable up to this height.
    Flushed(Height),
    /// Finish the turn and stop.
    Stop,
}

/// Everything the core thread owns.
pub struct CoreThread {
    /// The state machine.
    pub replica: Core,
    /// Held for the life of the process.
    pub data_dir: DataDir,
    /// The vote log and the signing marks.
    pub promises: Promises,
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
    /// What other threads may know.
    pub facts: Arc<Facts>,
    /// When the node started.
    pub started: Instant,
    /// How far the store said to be durable during this turn.
    pub flushed: Option<Height>,
}

/// Answers owed to clients.
#[derive(Default)]
struct Owed {
    next: u64,
    transactions: BTreeMap<Ticket, oneshot::Sender<Admission>>,
    duties: BTreeMap<Ticket, oneshot::Sender<DutyAdmission>>,
    questions: Vec<Question>,
}

impl Owed {
    fn ticket(&mut self) -> Ticket {
        self.next += 1;
        Ticket(self.next)
    }
}

impl CoreThread {
    /// Runs until told to stop or until something fails that makes going on unsafe.
    pub async fn run(mut self, mut commands: mpsc::Receiver<Command>) -> anyhow::Result<()> {
        let mut timers = Timers::default();
        let mut owed = Owed::default();
        let mut waiting = Vec::with_capacity(TURN_COMMANDS_MAX);
        let first = self.replica.start(self.now());
        self.turn(first, &mut timers, &mut owed)?;
        loop {
            let taken = match timers.next_due_ms() {
                Some(due_ms) => {
                    let pause = Duration::from_millis(due_ms.saturating_sub(self.now().elapsed_ms));
                    let receive = commands.recv_many(&mut waiting, TURN_COMMANDS_MAX);
                    tokio::time::timeout(pause, receive).await.unwrap_or(usize::MAX)
                }
                None => commands.recv_many(&mut waiting, TURN_COMMANDS_MAX).await,
            };
            let mut stop = taken == 0;
            let mut output = Output::default();
            for command in waiting.drain(..) {
                stop |= self.take(command, &mut output, &mut owed);
            }
            self.turn(output, &mut timers, &mut owed)?;
            if stop {
                self.recorder.finish();
                return self.ledger.flush();
            }
        }
    }

    fn now(&self) -> Now {
        let elapsed = self.started.elapsed().as_millis();
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        Now {
            elapsed_ms: u64::try_from(elapsed).unwrap_or(u64::MAX),
            wall_ms: u64::try_from(wall).unwrap_or(u64::MAX),
        }
    }

    /// Takes one command; true when it was the order to stop.
    fn take(&mut self, command: Command, output: &mut Output, owed: &mut Owed) -> bool {
        let input = match command {
            Command::Input(input) => input,
            Command::Submit(transaction, answer) => {
                let ticket = owed.ticket();
                owed.transactions.insert(ticket, answer);
                Input::Transactions(vec![(transaction, Some(ticket))])
            }
            Command::Duty(instance, value, answer) => {
                let ticket = owed.ticket();
                owed.duties.insert(ticket, answer);
                Input::Duty { instance, value, ticket }
            }
            Command::Ask(question) => {
                owed.questions.push(question);
                return false;
            }
            Command::Flushed(height) => {
                self.flushed = Some(height);
                return false;
            }
            Command::Stop => return true,
        };
        self.observatory.input(&input);
        let now = self.now();
        output.merge(self.replica.step(now, input));
        false
    }

    /// Changes the timers as asked, and lets the replica take those that are due.
    fn fire_due(&mut self, output: &mut Output, timers: &mut Timers) {
        timers.change(output.take_timers());
        for _ in 0..TURN_TIMER_PASSES_MAX {
            let now = self.now();
            let due = timers.take_due(now.elapsed_ms);
            if due.is_empty() {
                break;
            }
            for timer in due {
                output.merge(self.replica.step(now, Input::Timer(timer)));
            }
            timers.change(output.take_timers());
        }
    }

    /// Ends the node before anything of this turn is promised to anybody.
    fn halt(&mut self, Stopped { halt, floors, .. }: Stopped) -> anyhow::Result<()> {
        if let Halt::SignedElsewhere { .. } = halt {
            // The next start has to find out what was signed, and abstains at least from what was shown.
            self.data_dir.suspect(&halt.to_string())?;
            self.promises.persist(&Persist { floors, ..Persist::default() })?;
        }
        Err(halt.into())
    }

    /// Fires what is due, syncs once, and carries everything out.
    fn turn(&mut self, mut output: Output, timers: &mut Timers, owed: &mut Owed) -> anyhow::Result<()> {
        self.fire_due(&mut output, timers);
        let output = match output.unless_halted() {
            Ok(output) => output,
            Err(stopped) => return self.halt(*stopped),
        };
        let durable = output.persisted(&mut self.promises)?;
        // Signatures that are durable, and only those: of any other the next life may make a second one.
        self.recorder.take(&durable.recorded);
        self.observatory.records_durable(&durable.persisted.records);
        durable.send.iter().for_each(|outbound| self.send(outbound));
        self.store(&durable.store)?;
        durable.work.into_iter().for_each(|work| self.work(work));
        durable.tell.into_iter().for_each(|tell| self.tell(tell, owed));
        owed.questions.drain(..).for_each(|question| question(&self.replica));
        // Only now is what the turn closed in the store, so that its records may go.
        if let Some(height) = self.flushed.take() {
            self.prune_log(height)?;
        }
        let (round, leader) = self.replica.round_and_leader();
        self.facts.set_agreeing(round, leader);
        self.facts.set_inquiring(self.replica.is_inquiring());
        self.facts.set_abstaining(self.replica.abstains_up_to().is_some());
        self.facts.set_stalled(self.replica.has_stalled());
        self.observatory.store_memory(self.ledger.store_memory());
        self.observatory.turn_ended(&self.replica);
        Ok(())
    }

    fn send(&mut self, outbound: &Outbound) {
        match outbound {
            Outbound::Broadcast(message) => self.outbox.broadcast(message),
            Outbound::Send(to, message) => self.outbox.send(*to, message),
            Outbound::Gossip(transaction) => self.outbox.gossip(transaction.clone()),
            Outbound::Offer(transactions) => self.outbox.offer(transactions),
            Outbound::GossipEvidence(evidence) => self.outbox.gossip_evidence(evidence),
            Outbound::Fetch { from, height } => self.outbox.fetch(*from, *height),
            Outbound::Inquire(operator) => self.outbox.inquire(*operator),
        }
    }

    /// Fetched blocks are not in the vote log, and results of duties close them: they are made durable together,
    /// before anybody hears of them.
    fn store(&mut self, writes: &[StoreWrite]) -> anyhow::Result<()> {
        let mut flush = false;
        let mut tip = None;
        for write in writes {
            match write {
                StoreWrite::Commit { block, certificate, applied, live } => {
                    self.ledger.commit(block, certificate, applied)?;
                    flush |= !live;
                    tip = Some((block.header().height, block.digest()));
                }
                StoreWrite::Sealed(certificate) => {
                    self.ledger.seal(certificate)?;
                    flush |= certificate.instance.domain != Domain::Block;
                }
                StoreWrite::KeepEvidence(pending) => self.ledger.keep_evidence(pending)?,
                StoreWrite::CommitDuty { instance, decided, watermark } => {
                    let state = self.replica.duty(*instance);
                    self.ledger.commit_duty(*instance, state, decided.as_ref(), *watermark)?;
                    flush = true;
                }
                StoreWrite::Trust => self.data_dir.trust()?,
            }
        }
        if flush {
            self.ledger.flush()?;
            // Blocks too; where only duties are decided, nothing else would let the log forget.
            self.flushed = Some(self.replica.chain().tip().height);
        }
        if let Some((height, digest)) = tip {
            self.facts.set_tip(height, digest);
        }
        Ok(())
    }

    fn work(&mut self, work: Work) {
        match work {
            Work::Combine { instance, round, digest, shares } => {
                self.seals.submit(SealJob { instance, round, digest, shares });
            }
            Work::RecallDuty { to, instance, recall } => {
                if let Some(message) = self.ledger.recall_duty(instance, recall) {
                    self.outbox.send(to, &message);
                }
            }
        }
    }

    fn tell(&mut self, tell: Tell, owed: &mut Owed) {
        match tell {
            Tell::Admission(ticket, _, admission) => {
                self.observatory.admitted(admission);
                if let Some(answer) = owed.transactions.remove(&ticket) {
                    // A client that went away does not wait for its answer.
                    let _ = answer.send(admission);
                }
            }
            Tell::DutyAdmission(ticket, admission) => {
                if let Some(answer) = owed.duties.remove(&ticket) {
                    let _ = answer.send(admission);
                }
            }
            Tell::Notice(notice) => self.observatory.notice(notice, &self.replica),
        }
    }

    /// Drops segments of the vote log that durable blocks and duty results have replaced.
    fn prune_log(&mut self, flushed: Height) -> anyhow::Result<()> {
        let replica = &self.replica;
        let floors = replica.signing_floors().collect();
        self.promises.prune(&|subject| replica.needs(subject, flushed), floors)
    }
}

#[cfg(test)]
mod tests;
