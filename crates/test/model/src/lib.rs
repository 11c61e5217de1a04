//! The model checker's part of the tests: agreement over *all* schedules of a small cluster.
//!
//! | module | what is searched | bound |
//! |---|---|---|
//! | [`protocol`] | QBFT as the reference states it, in types of its own | two values, two rounds, every assignment of leaders; three rounds on demand |
//! | [`code`] | the production instance and signer | two values, one round with crashes at any time; two rounds on demand |
//!
//! Both have three honest operators and one that is faulty in every way. A model that cannot fail
//! says nothing, so each is searched again with guards removed, and must find what that breaks. The
//! attack that needs four rounds, a seal that does not bind the round, is beyond these bounds: it is
//! a scripted trace through the production core in `tests/seal_attack.rs`.
//!
//! Nothing that is shipped depends on this crate.

#![allow(clippy::wildcard_enum_match_arm, reason = "it looks for one message among all")]

pub mod code;
pub mod protocol;
pub mod run;
