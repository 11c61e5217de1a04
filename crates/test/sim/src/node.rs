//! One simulated process: a replica, its timers, its disk, and the turn it is in.

use crate::alarms::Alarms;
use crate::keys::SimKeys;
use crate::ports::Done;
use crate::promises::Promises;
use crate::ram::RamDisk;
use crate::sights::fault;
use crate::store::Store;
use crate::traitor::Traits;
use aequa_host::Host;
use aequa_host::intake::Intake;
use aequa_replica::{Halt, Input, Now, Replica, Ticket};
use aequa_storage::StorageError;
use aequa_types::{
    Height, InstanceId, Kind as Said, OperatorIndex, Record, Round, Signed, Verified, VoteKey,
};
use std::collections::BTreeSet;

/// True time at the start of every run, as milliseconds since the Unix epoch.
const EPOCH_MS: u64 = 1_700_000_000_000;

/// What kind of operator a node belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Runs the code as it is, alone.
    Honest,
    /// Alters what it sends.
    Traitor(Traits),
    /// Runs the code as it is, but two nodes share the key.
    Twin,
}

/// Where in its next turn a node goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CrashPoint {
    /// At one of the next calls to its disk, in the middle of a write too.
    InDisk,
    /// At one of the next calls to its disk, because the call fails.
    OnDiskError,
    /// At one of the next operations of its turns.
    InTurn,
}

/// What a turn did, and how the process ended in it, if it did.
pub(crate) struct Turn {
    pub(crate) done: Vec<Done>,
    pub(crate) end: Option<End>,
}

/// How a process ended in a turn.
pub(crate) enum End {
    /// As was prepared; the fault is counted under this name.
    Prepared(&'static str),
    /// The disk failed by itself.
    Disk(StorageError),
    /// Its replica stopped it, after a member had shown something about these.
    Stopped(Halt, Vec<InstanceId>),
}

/// One process.
pub(crate) struct Node {
    pub(crate) operator: OperatorIndex,
    pub(crate) kind: Kind,
    /// None while it is down.
    pub(crate) host: Option<Host<SimKeys>>,
    /// What its host owes the timers.
    pub(crate) alarms: Alarms,
    /// Counts restarts; what was meant for an earlier life is not delivered.
    pub(crate) life: u64,
    pub(crate) born_ms: u64,
    /// Its wall clock minus true time.
    pub(crate) skew_ms: i64,
    /// Whether its clock is near enough to those of the others for it to lead.
    pub(crate) may_lead: bool,
    /// What members said and it has not taken yet.
    pub(crate) intake: Intake,
    /// Whether it comes back to its intake.
    pub(crate) waits: bool,
    pub(crate) inbox: Vec<Input>,
    /// Clients that wait for an answer.
    pub(crate) owed: BTreeSet<Ticket>,
    /// The turn whose sync is under way.
    pub(crate) turn: Option<Turn>,
    /// Decisions that the inputs of this turn brought.
    pub(crate) told: BTreeSet<InstanceId>,
    /// Whether it began to take part in this turn.
    pub(crate) begins: bool,
    pub(crate) wake_at: Option<u64>,
    /// Where log and signing database lie.
    pub(crate) disk: RamDisk,
    /// Whether a failure of the disk was prepared on purpose.
    pub(crate) disk_will_fail: bool,
    /// Log and signing database, while it is up.
    pub(crate) promises: Option<Promises>,
    /// What members said to it since its last sync.
    pub(crate) hearing: Vec<Signed>,
    /// Records that were written and not synced when it went down.
    pub(crate) limbo: Vec<Record>,
    /// Keys under which the signing database says that something was signed, and the log no longer knows what.
    pub(crate) half_known: BTreeSet<VoteKey>,
    pub(crate) store: Store,
    /// What was copied for a later restore, oldest first.
    pub(crate) copies: Vec<Directory>,
    /// Its log and signing database are gone, and no start has noted that yet.
    pub(crate) is_lost: bool,
    /// The last block of a store it has set aside: of those up to there the log may have a decision without its value.
    pub(crate) set_aside: Height,
    /// It has set its block store aside, and has not taken part since.
    pub(crate) is_repairing: bool,
    /// Runs on a copy of its directory that is older than what it signed.
    pub(crate) restored: bool,
    /// Operations until it ends.
    pub(crate) doomed: Option<u64>,
    /// Stays as it is until the end.
    pub(crate) frozen: bool,
    /// What its replicas took, in all of its lives, as it is written.
    pub(crate) recorded: Vec<Vec<u8>>,
}

/// All that an operator can lose, copy and put back.
#[derive(Debug)]
pub(crate) struct Directory {
    disk: RamDisk,
    store: Store,
}

impl Node {
    pub(crate) fn new(operator: OperatorIndex, kind: Kind, skew_ms: i64, intake: Intake) -> Self {
        Self {
            operator,
            kind,
            host: None,
            alarms: Alarms::default(),
            life: 0,
            born_ms: 0,
            skew_ms,
            may_lead: true,
            intake,
            waits: false,
            inbox: Vec::new(),
            owed: BTreeSet::new(),
            turn: None,
            told: BTreeSet::new(),
            begins: false,
            wake_at: None,
            disk: RamDisk::default(),
            disk_will_fail: false,
            promises: None,
            hearing: Vec::new(),
            limbo: Vec::new(),
            half_known: BTreeSet::new(),
            store: Store::default(),
            copies: Vec::new(),
            is_lost: false,
            set_aside: Height(0),
            is_repairing: false,
            restored: false,
            doomed: None,
            frozen: false,
            recorded: Vec::new(),
        }
    }

    /// A copy of its directory as it is now.
    pub(crate) fn directory(&self) -> Directory {
        Directory { disk: self.disk.copy(), store: self.store.clone() }
    }

    /// Puts this copy back, if there is one.
    pub(crate) fn restore_copy(&mut self, number: usize) -> bool {
        let Some(Directory { disk, store }) = self.copies.get(number) else { return false };
        self.disk = disk.copy();
        self.store = store.clone();
        true
    }

    /// Loses its log and its signing database.
    pub(crate) fn lose_directory(&mut self) {
        self.disk.wipe();
    }

    /// Whether the signer may refuse in this round what the rules want: it abstains, or knows that something was
    /// signed, and not what. A lost COMMIT binds later ROUND-CHANGEs too, and a lost ROUND-CHANGE earlier COMMITs.
    pub(crate) fn may_refuse(&self, instance: InstanceId, round: Round) -> bool {
        let binds = |lost: &VoteKey| match lost.kind {
            Said::Commit => lost.round <= round,
            Said::RoundChange => lost.round >= round,
            Said::PrePrepare | Said::Prepare => lost.round == round,
        };
        self.half_known.iter().filter(|lost| lost.instance == instance).any(binds)
            || self.is_below_watermark(instance)
    }

    /// Whether its signer abstains here.
    pub(crate) fn is_below_watermark(&self, instance: InstanceId) -> bool {
        let mut watermarks = self.replica().into_iter().flat_map(Replica::signing_watermarks);
        watermarks.any(|watermark| watermark.domain() == instance.domain() && instance <= watermark)
    }

    /// Takes note of the clients that an input makes wait.
    pub(crate) fn owes(&mut self, input: &Input) {
        match input {
            Input::Transactions(transactions) => {
                self.owed.extend(transactions.iter().filter_map(|(_, ticket)| *ticket));
            }
            Input::Duty { ticket, .. } => drop(self.owed.insert(*ticket)),
            Input::Message { .. }
            | Input::Statement(_)
            | Input::Evidence(_)
            | Input::Timer(_)
            | Input::Combined { .. }
            | Input::Fetched { .. }
            | Input::FetchFailed { .. }
            | Input::PeerHeight { .. }
            | Input::MayLead(_)
            | Input::EndEpoch(_)
            | Input::Superseded
            | Input::PeerConnected(_)
            | Input::Testimony { .. } => {}
        }
    }

    /// Takes note of the statements that an input brings.
    pub(crate) fn hears(&mut self, input: &Input) {
        let Input::Message { message, .. } = input else { return };
        match message {
            Verified::PrePrepare { proposal, round_changes, prepares, .. } => {
                self.hearing.extend([proposal].into_iter().chain(round_changes).chain(prepares).cloned());
            }
            Verified::Prepare(vote) | Verified::Commit(vote) => self.hearing.push(vote.clone()),
            Verified::RoundChange(message) => {
                self.hearing.extend([&message.change].into_iter().chain(&message.prepares).cloned());
            }
            Verified::Decided(_) | Verified::ValueRequest(_) | Verified::ValueReply { .. } => {}
        }
    }

    /// Whether the oracles hold it to its word.
    pub(crate) fn is_honest(&self) -> bool {
        self.kind == Kind::Honest && !self.restored
    }

    /// Whether this node must make progress when the faults have ended. One on an old copy may have to
    /// abstain for ever where its life after the copy left no trace.
    pub(crate) fn is_bound_to_get_on(&self) -> bool {
        self.is_honest() && !self.frozen && !self.restored
    }

    /// The fault that a failure of the disk counts as, if it was prepared.
    pub(crate) fn prepared_failure(&self) -> Option<&'static str> {
        let manner = if self.disk.has_ended() { fault::CRASH_IN_DISK } else { fault::DISK_ERROR };
        (self.disk_will_fail && !self.disk.is_armed()).then_some(manner)
    }

    /// Its state machine, while it is up.
    pub(crate) fn replica(&self) -> Option<&Replica<SimKeys>> {
        self.host.as_ref().map(Host::replica)
    }

    pub(crate) fn is_up(&self) -> bool {
        self.host.is_some()
    }

    /// This node's clocks at true time `now_ms`.
    pub(crate) fn clocks(&self, now_ms: u64) -> Now {
        Now {
            elapsed_ms: now_ms.saturating_sub(self.born_ms),
            wall_ms: (EPOCH_MS + now_ms).saturating_add_signed(self.skew_ms),
        }
    }
}
