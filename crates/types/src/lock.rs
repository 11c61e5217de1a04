//! The cluster lock.
