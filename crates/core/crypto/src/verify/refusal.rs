//! Why a message is turned away.

use aequa_types::{DecodeError, InstanceId, OperatorIndex, Round};

/// Why a message is refused: the words of `qbft_verify_results_total`.
///
/// The verifier itself returns the reasons that need no state; the others are here so that everybody
/// who turns a message away, the core and the transport included, uses one list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A value or a list is longer than it may be.
    #[error("{what} has size {size}, the limit is {size_max}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size.
        size: usize,
        /// The limit.
        size_max: usize,
    },
    /// The parts do not fit together, or a value is not what it says it is.
    #[error("malformed: {0}")]
    Malformed(String),
    /// It belongs to another cluster.
    #[error("of another cluster")]
    WrongCluster,
    /// The author is no operator of the cluster.
    #[error("operator {0} is no member")]
    NotMember(OperatorIndex),
    /// A proposal by an operator that does not lead the round.
    #[error("operator {0} does not lead the round")]
    NotLeader(OperatorIndex),
    /// The instance is decided and over.
    #[error("instance is over")]
    Old,
    /// A height or slot outside of every window.
    #[error("{0} is out of bounds")]
    OutOfBounds(InstanceId),
    /// A round outside of every window.
    #[error("round {0} is out of bounds")]
    RoundOutOfBounds(Round),
    /// A signature or a seal does not verify.
    #[error("bad signature: {0}")]
    BadSignature(String),
    /// The evidence for a claim does not show it.
    #[error("bad justification: {0}")]
    BadJustification(&'static str),
    /// The very same message was accepted before.
    #[error("replay")]
    Replay,
}

impl Refusal {
    /// Value of the `result` label of `qbft_verify_results_total`.
    pub fn result(&self) -> &'static str {
        match self {
            Refusal::TooLarge { .. } => "too_large",
            Refusal::Malformed(_) => "malformed",
            Refusal::WrongCluster => "wrong_cluster",
            Refusal::NotMember(_) => "not_member",
            Refusal::NotLeader(_) => "not_leader",
            Refusal::Old => "old",
            Refusal::OutOfBounds(_) => "height_oob",
            Refusal::RoundOutOfBounds(_) => "round_oob",
            Refusal::BadSignature(_) => "bad_sig",
            Refusal::BadJustification(_) => "bad_justification",
            Refusal::Replay => "replay",
        }
    }
}

impl From<DecodeError> for Refusal {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::TooLarge { what, bytes, bytes_max } => {
                Refusal::TooLarge { what, size: bytes, size_max: bytes_max }
            }
            malformed @ DecodeError::Malformed { .. } => Refusal::Malformed(malformed.to_string()),
        }
    }
}
