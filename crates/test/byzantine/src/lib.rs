//! What faulty operators do, each in one file.
//!
//! What an honest node would send goes in, and what a faulty one sends comes out. Whoever plays it brings the
//! keys ([`Unguarded`]), the chance ([`Dice`]) and what was heard of others ([`Said`]); nothing here reads a
//! clock, a file or a network.
//!
//! | module | what the operator does |
//! |---|---|
//! | [`equivocate`] | makes two statements where there may be one |
//! | [`bare_commit`] | commits without a quorum of PREPAREs |
//! | [`forge`] | claims what its evidence does not show |
//! | [`usurp`] | proposes without right or justification |
//! | [`wrong_round`] | speaks of rounds the others are not in |
//! | [`bad_signature`] | signs badly, or seals badly what it signs well |
//! | [`withhold`] | keeps to itself what others need |
//! | [`replay`] | repeats what others said |
//! | [`mutate`] | changes one thing in a message |
//!
//! The simulator draws a mix of them for a node that runs the real replica; the adversary plays one after the
//! other against live nodes. The model chooses none: there the faulty operator says all it can, in every
//! combination (`aequa_model::code::faulty`).

pub mod bad_signature;
pub mod bare_commit;
mod dice;
pub mod equivocate;
pub mod forge;
mod heard;
pub mod mutate;
pub mod replay;
mod unguarded;
pub mod usurp;
pub mod withhold;
pub mod wrong_round;

pub use dice::Dice;
pub use heard::{Heard, Said};
pub use unguarded::Unguarded;

/// A message and whom it goes to, named as its sender names others.
pub type Sending<To> = (Vec<To>, aequa_types::Message);
