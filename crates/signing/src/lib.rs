//! Who may sign what, who leads, and how shares become one signature. Pure.
//!
//! | module | one idea |
//! |---|---|
//! | `guard` | what may be signed: one statement per (instance, round, kind) |
//! | `history` | what is known of what this operator has signed |
//! | `signer` | the keys behind the guard |
//! | `sealing` | adding up seal shares to one group signature, blaming bad ones |
//! | `elector` | who leads a round |

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm))]

mod elector;
mod guard;
mod history;
mod sealing;
mod signer;

pub use elector::{Elector, RoundRobin, elector};
pub use guard::{Guard, Permission, Permit, Refusal};
pub use history::{Highest, SigningHistory};
pub use sealing::{Ready, SEALS_PENDING_MAX, Sealing};
pub use signer::{Keys, Signer};
