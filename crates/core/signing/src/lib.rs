//! Who may sign what, who leads, and how shares become one signature. Pure.
//!
//! | module | one idea |
//! |---|---|
//! | `guard` | what may be signed: one statement per (instance, round, kind) |
//! | `history` | what is known of what this operator has signed |
//! | `signer` | the keys behind the guard |
//! | `session` | adding up partial signatures to one signature of the group, blaming bad ones, a few at a time |
//! | `elector` | who leads a round |

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm))]

mod elector;
mod guard;
mod history;
mod session;
mod signer;

pub use elector::{Elector, RoundRobin, elector};
pub use guard::{Guard, Permit, Refusal};
pub use history::{Highest, SigningHistory};
pub use session::{SEALS_PENDING_MAX, SessionEnd, SessionEvent, Sessions, Shares};
pub use signer::{Keys, Signer};
