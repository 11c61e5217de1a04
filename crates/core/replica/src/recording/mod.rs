//! Recording what instances take and are told, and running it again.
//!
//! ```text
//!   Replica::drive ──▶ witness ──▶ entries ──▶ (journal) ──▶ selection ──▶ replay ──▶ timeline
//!    event, host        answers                               one instance   same core   lines
//! ```
//!
//! An instance is a pure state machine: its events, the answers of its host and what a restart gave
//! it back determine everything it does. With [`crate::Config::record`] on, these leave the replica
//! in [`crate::Durable::recorded`]; off, they cost one comparison per event. [`Replay`] feeds them to
//! the production instance again, with the recorded signatures in place of the keys, and notices
//! where it would now say or decide something else. Nothing here decides anything.
//!
//! | module | one idea |
//! |---|---|
//! | `witness` | from events to entries |
//! | `selection` | the entries of one instance among all |
//! | `replay` | from entries to what the instance did, or a [`Difference`] |
//! | `script` | the host of a replay: recorded answers |
//! | `comparison` | the statements made, against those of the vote log |
//! | `summary` | what came of it, and whether it came of it again |
//! | `timeline` | who said what to whom, when, in words |

mod comparison;
mod replay;
mod script;
mod selection;
mod summary;
mod timeline;
mod witness;

pub use comparison::Comparison;
pub use replay::{Difference, End, OwnStatement, Played, Replay, What};
pub use selection::Selection;
pub use summary::{Decision, decision, summary};
pub use timeline::{Line, To, timeline};
pub(crate) use witness::Recorder;
