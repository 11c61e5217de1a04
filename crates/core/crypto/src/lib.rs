//! Keys, signatures and the checks that turn what arrived into what may be believed.
//!
//! | module | what it does |
//! |---|---|
//! | [`identity`] | operator keys: ed25519 (RFC 8032), strict verification, libp2p peer ids |
//! | [`encryption`] | messages for one operator's eyes: X25519, and the proof of what one got |
//! | [`bls`] | BLS12-381 in both of its schemes: signatures in G1 or in G2 |
//! | [`threshold`] | keys shared among operators by a polynomial |
//! | [`seal`] | the chain seal: 48-byte signatures in G1 |
//! | [`ecvrf`] | a verifiable random function: RFC 9381 over edwards25519 |
//! | [`transaction`] | client signatures: EIP-712 over secp256k1, the stateless transaction checks |
//! | [`lock`] | whether a cluster lock holds |
//! | [`obol`] | whether the lock of an Obol cluster holds, and who its operators are from now on |
//! | [`verify`] | whether a consensus message, a certificate or a block holds |
//! | [`keystore`] | secrets at rest: EIP-2335 version 4 |
//! | [`merkle`] | trees over lists that only grow, with proofs: RFC 6962 |
//! | [`dealer`] | making a cluster in one place, for development only |
//!
//! # Where the line is
//!
//! This crate answers questions that need keys and nothing else: no clock, no disk, no network and
//! no state of consensus. Windows, leaders, quorums of justifications, nonces and totals are checked
//! by those who hold that state. Randomness comes from the operating system, and only to make keys,
//! salts and identifiers, and beside a hash of all inputs for the weights of [`bls::verify_batch`]. What
//! verification says follows from its inputs; challenges are hashed from all of them.
//!
//! # Invariants
//!
//! 1. A type whose name promises a check (`Verified…`, `Checked…`, [`seal::GroupKey`]) cannot be had
//!    without it. Points are checked for curve, subgroup and identity once, where they are parsed.
//! 2. What fails a check leaves no trace: caches hold only what passed.
//! 3. Secret keys lie in one place each, out of swap where the system allows it. Secrets are zeroised when dropped, never compared in variable time, and have no `Debug` that
//!    shows them.
//! 4. Every verification is bounded by the size of the cluster before it starts.
//! 5. Signed bytes of different meaning differ: consensus statements, seals and transactions carry
//!    tags or types; a lock hash is the only thing signed that is 32 bytes long, and what operators of an Obol cluster sign
//!    with their old keys is hashed with a tag.
//! 6. `unsafe` lives in `bls::curve`, around the C functions of `blst` that have no safe form, and in `kept`,
//!    around the one call that keeps a page out of swap.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm))]

pub mod bls;
pub mod dealer;
pub mod ecvrf;
pub mod encryption;
mod error;
pub mod identity;
mod kept;
pub mod keystore;
pub mod lock;
pub mod merkle;
pub mod obol;
mod recent;
pub mod threshold;
pub mod transaction;
#[cfg(test)]
mod vectors;
pub mod verify;

pub use error::Error;
pub use threshold::seal;
