//! HTTP API of a node.
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod backend;

pub use backend::{Backend, BackendError};
