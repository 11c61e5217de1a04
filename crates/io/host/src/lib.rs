//! The loop around a replica: inputs in, one sync, outputs out.
//!
//! ```text
//!   inputs ─▶ step … step ─▶ timers that are due ─▶ step … ─▶ one Output
//!                                                              │ must the node stop?
//!                                                              ▼
//!     votes: persist ─▶ members: send ─▶ work ─▶ store: write, flush ─▶ tell ─▶ votes: prune
//! ```
//!
//! It has no thread, no runtime and no clock of its own: whoever calls [`Host::turn`] brings [`Ports`] to all that is
//! outside. The node brings files and sockets, the simulator virtual ones, and both run this loop.
//!
//! # Rules
//!
//! 1. A turn takes all that waits, and its votes become durable with one sync before anything of it leaves.
//! 2. Members first, then work on other threads, then the store, then clients: whoever heard an answer finds it in
//!    the store.
//! 3. Results of duties and blocks that were fetched are in no vote log: they are flushed before anybody hears of them.
//! 4. The vote log forgets only what the store has durably, at the end of the turn in which that is known.
//! 5. An error of a port ends the node: after a failed sync nothing may be believed. So does a replica that must
//!    stop, before anything of its turn is promised to anybody.
//!
//! # What may be touched where
//!
//! | module | one idea |
//! |---|---|
//! | [`turn`](Host) | the order of a turn |
//! | [`intake`] | which votes are worth a check and a turn |
//! | `ports` | what is outside |
//! | [`timers`](Timers) | the timers a replica asked for |
//! | [`clocks`] | whose clock is wrong, so that it does not lead |
//! | [`recording`] | all that a replica takes in, to be run again |
//! | `error` | why a node ends |

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm))]

pub mod clocks;
mod error;
pub mod intake;
mod ports;
pub mod recording;
mod timers;
mod turn;

pub use error::HostError;
pub use ports::Ports;
pub use timers::Timers;
pub use turn::Host;
