//! JSON forms of transactions, blocks, certificates and evidence.
//!
//! | item | direction | strictness |
//! |---|---|---|
//! | [`object`], [`Raw`] | in | any object of a client, as the text of its members |
//! | [`parse_transaction`] | in | the envelope clients send: numbers or decimal strings, hex or base64, unknown fields ignored |
//! | [`parse_transactions`] | in | many envelopes, as an array or one on each line |
//! | [`TransactionJson`], [`HeaderJson`] | out, and in as part of a block | one spelling per value |
//! | [`canonical`], [`check_canonical`] | both | the one RFC 8785 form of any JSON: what a duty decides on |
//! | [`ValueJson`] | out | a duty's value, as its own bytes |
//! | [`BlockJson`], [`CertificateJson`], [`EvidenceJson`], [`AccountProofJson`], [`CheckpointJson`] | both | one spelling per value, unknown and missing fields refused, derived fields compared |
//!
//! Out: bytes are 0x and lower-case hex; heights, rounds, nonces and counts are numbers; amounts
//! (fee, bid, gas, totals) are decimal strings. In, everywhere: duplicate keys and trailing data
//! are not JSON. What clients send is walked and not built: at most [`DEPTH_MAX`] levels deep and
//! [`VALUES_MAX`] values.
//!
//! A form that parses says nothing about signatures or roots: `aequa-crypto` checks those.

mod block;
mod canonical;
mod checkpoint;
mod envelope;
mod evidence;
mod proof;
mod spelling;
mod transaction;
mod value;
mod walk;

pub use block::{BLOCK_JSON_BYTES_MAX, BlockJson, CertificateJson, CommitJson, HeaderJson};
pub use canonical::{canonical, check_canonical};
pub use checkpoint::{CertifiedHeaderJson, CheckpointJson};
pub use envelope::{
    BatchForm, parse_address, parse_bytes, parse_transaction, parse_transaction_as, parse_transactions,
};
pub use evidence::{EvidenceJson, StatementJson};
pub use proof::{
    ACCOUNT_PROOF_JSON_BYTES_MAX, AccountProofJson, RowJson, RowProofJson, StateProofJson, TableJson,
};
pub use transaction::TransactionJson;
pub use value::ValueJson;
pub use walk::{DEPTH_MAX, Raw, VALUES_MAX, decimal, object};

/// A JSON text was not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not JSON, or not an object of the expected shape.
    #[error("not valid JSON: {detail}")]
    Syntax {
        /// What the parser met, and where.
        detail: String,
    },
    /// Longer than it may be; nothing was parsed.
    #[error("{what} has {bytes} bytes, the limit is {bytes_max}")]
    TooLarge {
        /// What was being read.
        what: &'static str,
        /// Size received.
        bytes: usize,
        /// Largest size allowed.
        bytes_max: usize,
    },
    /// The transaction type does not exist.
    #[error("type: unknown transaction type \"{name}\", known are plaintext_v1 and auction_bid_v1")]
    UnknownType {
        /// The name received, cut.
        name: String,
    },
    /// `private_v1`, which this node cannot open.
    #[error("type: private_v1 is disabled on this node")]
    PrivateDisabled,
    /// One field breaks its rule.
    #[error("{field}: {problem}")]
    Field {
        /// Name of the field.
        field: &'static str,
        /// The rule or limit it breaks.
        problem: String,
    },
}

impl JsonError {
    /// Whether the text was not JSON at all, as opposed to JSON with a bad field.
    pub fn is_syntax(&self) -> bool {
        matches!(self, JsonError::Syntax { .. })
    }

    /// The field to blame, when there is one.
    pub fn field(&self) -> Option<&'static str> {
        match self {
            JsonError::Field { field, .. } => Some(field),
            JsonError::UnknownType { .. } | JsonError::PrivateDisabled => Some("type"),
            JsonError::Syntax { .. } | JsonError::TooLarge { .. } => None,
        }
    }

    fn at(field: &'static str, problem: impl Into<String>) -> Self {
        JsonError::Field { field, problem: problem.into() }
    }
}

impl From<serde_json::Error> for JsonError {
    fn from(error: serde_json::Error) -> Self {
        JsonError::Syntax { detail: error.to_string() }
    }
}

#[cfg(test)]
mod tests;
