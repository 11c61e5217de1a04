//! What can be wrong with a key, a signature or a share.

use aequa_types::OperatorIndex;

/// A key, signature or share is not what it is said to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes are no usable key: not a point, outside the subgroup, the identity, or out of range.
    #[error("{what} is not a valid key: {reason}")]
    InvalidKey {
        /// Which kind of key.
        what: &'static str,
        /// Why it is refused.
        reason: &'static str,
    },
    /// The bytes are no point of the signature group, or its identity.
    #[error("malformed seal")]
    MalformedSeal,
    /// The signature does not belong to this message and key.
    #[error("signature does not verify")]
    BadSignature,
    /// The bytes are no proof of the verifiable random function in its one encoding.
    #[error("malformed proof: {0}")]
    MalformedProof(&'static str),
    /// The proof does not belong to this input and key.
    #[error("proof does not verify")]
    BadProof,
    /// The ciphertext was not made for this key and context.
    #[error("ciphertext does not open")]
    BadCiphertext,
    /// One operator's share was given twice; counted once it would be, added twice it must not be.
    #[error("operator {0} appears twice among the shares")]
    DuplicateShare(OperatorIndex),
    /// A list or a bitmap of signers that is no set of members in order.
    #[error("malformed signers: {0}")]
    MalformedSigners(&'static str),
    /// A signer twice in one aggregate.
    #[error("operator {0} appears twice among the signers")]
    DuplicateSigner(OperatorIndex),
    /// A signer who is no member.
    #[error("operator {0} is no member")]
    ForeignSigner(OperatorIndex),
    /// An aggregate of no key or signature: nobody signed it.
    #[error("nothing to aggregate")]
    NothingToAggregate,
    /// Fewer shares than the threshold.
    #[error("{shares} shares, the threshold is {threshold}")]
    TooFewShares {
        /// Shares given.
        shares: usize,
        /// Shares needed.
        threshold: usize,
    },
    /// A threshold outside 1 … n, or more operators than a cluster may have.
    #[error("no {threshold}-of-{operators} sharing exists")]
    ImpossibleThreshold {
        /// Shares needed.
        threshold: usize,
        /// Shares made.
        operators: usize,
    },
    /// The points do not lie on one polynomial of the right degree.
    #[error("the shares do not lie on one polynomial; foreign: {}", .foreign.as_deref().unwrap_or("cannot be told"))]
    NotOnePolynomial {
        /// The one that does not belong to the others, when exactly one can be told.
        foreign: Option<String>,
    },
    /// Commitments that are no polynomial, or none together.
    #[error("commitments {0}")]
    MalformedCommitments(&'static str),
    /// The share does not lie on the polynomial that its dealer committed to.
    #[error("the share for operator {0} does not belong to its commitments")]
    BadShare(OperatorIndex),
    /// Who deals a key anew must deal its share of it.
    #[error("operator {0} deals another secret than its share")]
    ForeignSecret(OperatorIndex),
    /// The operating system gave no randomness.
    #[error("no randomness: {0}")]
    Randomness(String),
}

impl From<getrandom::Error> for Error {
    fn from(error: getrandom::Error) -> Self {
        Self::Randomness(error.to_string())
    }
}
