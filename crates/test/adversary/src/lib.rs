//! A faulty operator for live clusters, and the trial that sets one on four honest processes.
//!
//! ```text
//!   honest nodes ──frames──▶ ear ──▶ memory ─┐
//!        ▲      ──blocks──▶ chain (follower) ─┼─▶ scene ──▶ attack ──▶ sendings
//!        └───────────────── voice ◀───────────┴──────────────────────────┘
//! ```
//!
//! It holds one operator's real keys, is let in as that member, keeps up with the chain, and may do
//! whatever a traitor can: sign what it likes with its own key, repeat what others signed, send any bytes.
//! It cannot sign for others. What it says is said as `aequa_byzantine` says it; what only a network has, slow
//! answers, floods, nested values, strangers, is here. What it plays is drawn from the seed it prints.
//!
//! | module | what it is |
//! |---|---|
//! | [`traitor`] | the keys of an operator, unguarded |
//! | `ear` | what is heard, bounded |
//! | `follower` | the chain, executed from certified blocks |
//! | [`attack`] | the attacks by name |
//! | [`agent`] | plays attacks in turn at a rate, and keeps the books |
//! | [`endpoints`] | some of them over the test endpoints of nodes |
//! | [`crowd`] | strangers at the APIs of nodes, who need no keys |
//! | [`verdicts`] | what the nodes' verifiers said, from their metrics |
//! | [`trial`] | a cluster under attack, and what must hold of it |
//!
//! Never in a release binary: nothing in the workspace depends on this crate but tests and chores.

#![allow(clippy::wildcard_enum_match_arm, reason = "it looks for one message among all")]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod agent;
pub mod attack;
pub mod crowd;
mod ear;
pub mod endpoints;
mod error;
mod follower;
mod scene;
pub mod traitor;
pub mod trial;
pub mod verdicts;

pub use error::AdversaryError;
