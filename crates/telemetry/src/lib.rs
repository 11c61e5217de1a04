//! Metrics, log events and trace ids.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod metrics;

pub use metrics::Metrics;
