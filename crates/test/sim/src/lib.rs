//! A deterministic simulator of a whole cluster.
//!
//! The replicas and the loop around them are the production ones; clock, network, disk and clients are not. One thread, one
//! seeded generator, one queue of events ordered by (virtual time, sequence): the same seed and
//! options give the same run, event by event, and [`Report::log_hash`] shows it. A run that finds
//! something is repeated by its seed.
//!
//! ```text
//!   seed ─▶ plan ─▶ queue of events ─▶ host: replica · timers ─▶ ports: vote log · store · list
//!                       ▲    │              │ what the turn did happens
//!                       │    ▼              ▼
//!                     network ◀── traitors ◀── messages      oracle watches everything
//! ```
//!
//! # A run
//!
//! Under faults first: messages are delayed, dropped, doubled and reordered, the network falls
//! apart both ways and one way, nodes crash between and inside turns, clocks are set, up to f operators lie. Every
//! seed draws its own mix. Then the faults end ("calm"): all links heal, all nodes are up, traitors
//! fall silent or go on, and every honest node must add a number of heights within a bound of
//! virtual time, each with its group seal where seals are on.
//!
//! | module | one idea |
//! |---|---|
//! | `plan` | what a caller fixes and what a seed draws |
//! | `world` | the queue, the goal, the end |
//! | `turn` | a node's turn: the loop is the host's, here what it did happens |
//! | `ports` | what the loop finds outside; an operation that fails ends the process |
//! | `network`, `crash`, `clocks`, `client` | links, restarts, clocks that are set, load |
//! | `traitor` | operators that lie: which of the misbehaviours of `aequa_byzantine`, and how often |
//! | `ram` | a disk with sectors, names and syncs, and what a power cut leaves of them |
//! | `promises` | the production vote log and signing database on that disk |
//! | `store` | the block store, with what a crash loses |
//! | `verifier`, `keys` | the checks before a core, over hashes instead of signatures |
//! | `oracle` | what must never happen |
//! | `recording` | what the replicas of nodes took in, run again |
//! | `sights` | what a campaign must have seen |
//! | `totals`, `campaign`, `workers` | many runs added up, on as many threads as wanted |
//!
//! # What is believed about the host
//!
//! The vote log is durable up to the last finished sync; a crash keeps any prefix of what was being
//! written. The store keeps any prefix of its writes that reaches at least to the last flush. A
//! message that arrives was verified. Every question for blocks is answered or fails.
//!
//! # Invariants
//!
//! * The oracles ask nothing of the code they judge. An oracle is never weakened to let a run pass.
//! * No hash-map iteration, no wall clock, no second source of chance.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm))]

mod alarms;
mod campaign;
mod client;
mod clocks;
mod crash;
mod intake;
mod keys;
mod network;
mod node;
mod oracle;
mod plan;
mod ports;
mod promises;
mod ram;
mod recording;
mod report;
mod sights;
mod store;
mod totals;
mod trace;
mod traitor;
mod turn;
mod verifier;
mod workers;
mod world;

pub use campaign::{Campaign, campaign};
pub use oracle::Violation;
pub use plan::{Options, Sabotage};
pub use recording::{Recording, Replayed};
pub use report::{Report, run, run_twice, running};
pub use sights::{Counts, SIGHTS};
pub use totals::Totals;
pub use workers::{Extent, REPEAT_EVERY, campaign_on};
