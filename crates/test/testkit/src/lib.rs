//! What tests are made of, each thing once: votes, certificates and evidence, blocks and transactions, a dealt
//! cluster with its keys, a cluster of Obol's ([`obol`]), and chance that can be repeated.
//!
//! ```text
//! prepare(at(5), 0, digest(1)).by(2)             names operator 2 and is signed by nobody
//! keys.sign(&prepare(at(5), 0, digest(1)), 2)    is signed by operator 2 of a dealt cluster
//! ```
//!
//! It stands on `types` and `crypto`. Their unit tests see their own types beside those of the kit; only their tests
//! in `tests/` may use it.
#![allow(clippy::unwrap_used)]

mod block;
mod dice;
mod keyring;
pub mod obol;
mod reshare;
mod vote;

pub use block::{bid, block, checked, plaintext, plaintext_with, unsigned};
pub use dice::{Dice, runs};
pub use keyring::{CHAIN_ID, Keyring, dealt};
pub use reshare::reshared;
pub use vote::{
    Vote, at, believed, change, commit, digest, double_vote, duty_value, prepare, preprepare, unjustified,
    vote,
};

/// Whether one of these is such a one.
#[macro_export]
macro_rules! has {
    ($of:expr, $($pattern:tt)+) => { $of.iter().any(|one| matches!(one, $($pattern)+)) };
}

/// What those of them say that are such ones, in order.
#[macro_export]
macro_rules! pick {
    ($of:expr, $pattern:pat $(if $guard:expr)? => $value:expr) => {
        $of.iter().filter_map(|one| match one {
            $pattern $(if $guard)? => Some($value),
            _ => None,
        })
    };
}
