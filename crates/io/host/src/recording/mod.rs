//! All that a replica takes in, from a start on, so that it can be run again.
//!
//! ```text
//!   disk ──▶ Start ────────────┐
//!   chain ─▶ ReadState ─ Reads ┼─▶ Host ─▶ Entry … ─▶ (a file) ─▶ Replay ─▶ the same, or a Difference
//!   inputs, clocks ────────────┘   turn by turn                    a Replica, from recorded answers
//! ```
//!
//! A replica is a pure state machine: what it was started with, its inputs and clocks, the rows it read of the state
//! and the signatures of its keys determine everything it does. These are recorded, and of what it asked for a
//! checksum of each thing. A replay needs neither keys nor a store. A new message, input of a component or output needs
//! no code here; a new [`Input`](aequa_replica::Input) needs its line in `input`.
//!
//! # Rules
//!
//! 1. A recording begins with a start. A replica that runs already cannot be written down.
//! 2. Steps are given to [`Ports::record`](crate::Ports::record) when their turn is about to be made durable; where reads
//!    of the state failed they are not: nothing came of them. [`Entry::TurnEnded`] follows when the turn is carried out.
//! 3. A row is recorded when it is read for the first time. From then on the replay knows it, for it makes the same
//!    changes.
//! 4. A recording binds nobody: the vote log alone says what was promised. What it says may not even be durable.
//!
//! | module | one idea |
//! |---|---|
//! | `start` | what a replica is started with |
//! | `input` | an input as it is written, and back |
//! | `state` | a state that notes what is read of it; one that knows what was noted |
//! | `replay` | from entries to what the replica asks for, or where that differs |

mod input;
mod replay;
mod start;
mod state;

pub use input::InputEntry;
pub use replay::{Difference, Replay};
pub use start::Start;
pub use state::{ReadState, Reads};

use aequa_replica::{Now, Output};
use aequa_types::{Height, InstanceId, Record, Signed, TimestampMs};
use ssz_derive::{Decode, Encode};
use std::sync::Arc;

/// Largest encoded entry in bytes. A start holds the vote log, an input the blocks of an answer or the transactions of a
/// turn.
pub const ENTRY_BYTES_MAX: usize = 64 << 20;

/// One entry of a recording.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[ssz(enum_behaviour = "union")]
pub enum Entry {
    /// A process began.
    Start(Arc<Start>),
    /// The replica took something.
    Step(Arc<Step>),
    /// What the steps of a turn asked for was carried out; the height that is decided then.
    TurnEnded(Height),
}

/// What a replica took, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Step {
    /// Milliseconds since the process started.
    pub elapsed_ms: u64,
    /// Milliseconds since the Unix epoch.
    pub wall_ms: TimestampMs,
    /// What it took.
    pub input: InputEntry,
    /// What was read of the state that was not known yet.
    pub reads: Reads,
    /// What this operator signed.
    pub signed: Vec<Signed>,
    /// [`Output::checksums`] of what it asked for.
    pub checksums: Vec<u32>,
}

impl Step {
    /// The two clocks.
    pub fn now(&self) -> Now {
        Now { elapsed_ms: self.elapsed_ms, wall_ms: self.wall_ms }
    }
}

/// Collects the entries of a turn.
pub(crate) struct Recording {
    state: Arc<ReadState>,
    entries: Vec<Entry>,
}

impl Recording {
    pub(crate) fn begin(mut start: Start, state: Arc<ReadState>) -> Self {
        start.reads = state.take();
        Self { state, entries: vec![Entry::Start(start.into())] }
    }

    pub(crate) fn step(&mut self, now: Now, input: InputEntry, output: &Output) {
        let step = Step {
            elapsed_ms: now.elapsed_ms,
            wall_ms: now.wall_ms,
            input,
            reads: self.state.take(),
            signed: output.persist().records.iter().filter_map(Record::statement).cloned().collect(),
            checksums: output.checksums(),
        };
        self.entries.push(Entry::Step(step.into()));
    }

    pub(crate) fn take(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.entries)
    }
}

impl Entry {
    /// The instance that an input is about, where it is about one.
    pub fn instance(&self) -> Option<InstanceId> {
        match self {
            Entry::Step(step) => step.input.instance(),
            Entry::Start(_) | Entry::TurnEnded(_) => None,
        }
    }

    /// Whether an input is about this instance; fetched blocks are about those of their heights.
    pub fn is_about(&self, instance: InstanceId) -> bool {
        match self {
            Entry::Step(step) => step.input.is_about(instance),
            Entry::Start(_) | Entry::TurnEnded(_) => false,
        }
    }
}
