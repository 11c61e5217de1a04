//! What a cluster of processes does on one machine, beside what the machine could do.
//!
//! Every row of the table is a cluster of `dvt-node` processes, run for some seconds after a warm-up, and beside
//! it a bare probe of the same agreement. On one machine all of them contend for the same processors, so only
//! ratios within one run mean something: of ours to the probe, and to a peer.
//!
//! ```text
//!   plan (rows) ──▶ campaign ──┬─▶ cluster     dvt-node × n, looked at through metrics and /proc
//!                              ├─▶ probe × n   measures itself
//!                              └─▶ peer × n    measures itself
//!                    report ◀──┘   links: a proxy before every node, where a row has long ones
//! ```
//!
//! Rules:
//! - Nothing is asked of a node while it is measured: a look at the beginning, one at the end.
//! - What is compared runs in turns, on the same file system, with as many signatures.
//! - Whatever is started ends with this program, and its folders are removed.
//!
//! | module | what it is |
//! |---|---|
//! | [`plan`] | the rows |
//! | [`campaign`] | all rows, round after round |
//! | [`cluster`] | a cluster of ours |
//! | [`probe`] | the bare path |
//! | [`contestant`] | programs that measure themselves |
//! | [`link`] | long links |
//! | [`exposition`] | metrics of nodes |
//! | [`usage`] | processor time and memory |
//! | [`figures`] | what a run gave; medians, ratios |
//! | [`report`] | the table |
//! | [`machine`] | where it was measured |
//! | [`count`] | operations whose instructions are counted, whatever the machine |
//! | [`ports`], [`scratch`] | what runs need |
//! | [`store`] | the block store by itself |
//! | [`error`] | why something was not measured |

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod campaign;
pub mod cluster;
pub mod contestant;
pub mod count;
pub mod error;
pub mod exposition;
pub mod figures;
pub mod link;
pub mod machine;
pub mod plan;
pub mod ports;
pub mod probe;
pub mod report;
pub mod scratch;
pub mod store;
pub mod usage;
