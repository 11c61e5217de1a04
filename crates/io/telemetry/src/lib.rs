//! What a node tells its operators: metrics, log events, trace ids.
//!
//! | module | what it is |
//! |---|---|
//! | [`metrics`] | every metric family, declared once, and the exposition |
//! | [`log`] | every log event, declared once, and JSON lines on stdout |
//! | [`trace`] | the id that ties the lines and messages of one request together |
//!
//! Names, types, label keys and field keys are a contract with dashboards, alerts and scripts. What
//! may be done here:
//!
//! - **add** a family to the registry file or an event to the event table, and take it over into the
//!   golden files with `UPDATE_GOLDEN=1`;
//! - **add** a value to a label that is declared open;
//! - never rename or remove, never split an old value in two, never add a label to an old family.
//!
//! Invariants: a series appears at its first use; a family holds a bounded number of series; writing
//! a metric takes no lock once its handle is held; writing a log line never waits for the output;
//! nothing from outside can forge a line, a field or a sample.
//!
//! The registry is a value and not a global, so several nodes can share a process.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm))]

pub mod log;
pub mod metrics;
pub mod trace;

pub use metrics::Metrics;
pub use trace::TraceId;
