//! The words of Aequa's domain.
//!
//! Identifiers, consensus statements and messages, transactions, blocks and certificates, with
//! their one canonical encoding (SSZ) and their hash roots. Nothing here does I/O, holds a key or
//! checks a signature: `aequa-crypto` turns unverified values of this crate into verified ones.
//!
//! | module | what it names |
//! |---|---|
//! | [`ids`] | heights, slots, rounds, operators, digests, quorum arithmetic |
//! | [`instance`] | what consensus is held about: blocks, and duties of every kind |
//! | [`statement`] | what an operator signs in consensus |
//! | [`message`] | what operators send each other |
//! | [`transaction`] | what clients submit |
//! | [`evidence`] | that an operator contradicted itself |
//! | [`block`] | what the cluster decides and remembers |
//! | [`certificate`] | why anybody may believe it |
//! | [`outcome`] | what became of a duty |
//! | [`record`] | what a node writes down before it speaks |
//! | [`sync`] | how a node that was away asks for what it missed |
//! | [`slots`] | sets of slots as runs |
//! | [`policy`] | the parameters all operators share |
//! | [`lock`] | the cluster lock: who the operators are, under which keys |
//! | [`validator`] | Ethereum validators of a cluster |
//! | [`interchange`] | what validators have signed elsewhere: EIP-3076 |
//! | [`network`] | Ethereum networks by name |
//! | [`obol`] | locks of Obol clusters |
//! | [`wire`] | kinds of message on each topic: numbers, names, sizes |
//! | [`json`] | the JSON forms clients see |
//! | [`limits`] | every bound, with its reason |

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm))]

pub mod block;
pub mod builders;
mod canonical;
pub mod certificate;
pub mod definition;
pub mod evidence;
pub mod ids;
pub mod instance;
pub mod interchange;
pub mod json;
pub mod limits;
pub mod lock;
mod merkle;
pub mod message;
pub mod network;
pub mod obol;
pub mod outcome;
mod payload;
pub mod policy;
pub mod record;
pub mod slots;
pub mod statement;
pub mod sync;
pub mod transaction;
pub mod validator;
pub mod vote_root;
pub mod wire;

pub use block::{Block, CheckedBlock, Header, Totals};
pub use certificate::{Certificate, CertifiedBlock, CertifiedHeader, CommitSignature, Decision, Proof};
pub use evidence::{CheckedEvidence, Evidence, EvidenceError, Offence};
pub use ids::{
    Address, Amount, ClusterId, Digest, Epoch, Height, OperatorIndex, Quorum, Round, Seal, Signature, Slot,
    TimestampMs, TxHash,
};
pub use instance::{Domain, DutyId, DutyKind, InstanceId};
pub use message::{Decided, Message, PrePrepare, RoundChange, Value, ValueBytes, Verified};
pub use outcome::{DutyOutcome, Recall};
pub use policy::{BuilderPolicy, ConsensusParams, LeaderPolicy};
pub use record::{Record, Subject};
pub use slots::SlotSet;
pub use statement::{Claim, Kind, Prepared, Signed, Statement};
pub use transaction::{AuctionBidV1, CheckedTransaction, PlaintextV1, Transaction, TxBody, TxKind};
pub use vote_root::{VoteKey, VoteRoot};

/// Decoding of bytes that came from outside failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are not the canonical SSZ form of the type.
    #[error("malformed {what}: {detail}")]
    Malformed {
        /// Name of the type that was expected.
        what: &'static str,
        /// Why the decoder gave up.
        detail: String,
    },
    /// The bytes are longer than the type may be; nothing was parsed.
    #[error("{what} has {bytes} bytes, the limit is {bytes_max}")]
    TooLarge {
        /// Name of the type that was expected.
        what: &'static str,
        /// Size received.
        bytes: usize,
        /// Largest size allowed.
        bytes_max: usize,
    },
}

/// Decodes the canonical SSZ form of `T`, refusing more than `bytes_max` bytes before parsing and any
/// encoding that is not the one [`ssz::Encode`] would produce.
pub fn decode<T: ssz::Decode + ssz::Encode>(
    what: &'static str,
    bytes: &[u8],
    bytes_max: usize,
) -> Result<T, DecodeError> {
    if bytes.len() > bytes_max {
        return Err(DecodeError::TooLarge { what, bytes: bytes.len(), bytes_max });
    }
    let value = T::from_ssz_bytes(bytes)
        .map_err(|error| DecodeError::Malformed { what, detail: format!("{error:?}") })?;
    if value.as_ssz_bytes() != bytes {
        return Err(DecodeError::Malformed { what, detail: "not in canonical form".into() });
    }
    Ok(value)
}
