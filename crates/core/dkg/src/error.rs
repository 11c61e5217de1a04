//! What can be wrong with a ceremony, and with a message of one.

use crate::{Blame, Fault};
use aequa_types::{DecodeError, OperatorIndex};

/// A ceremony cannot be set up, restored or believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No ceremony has such a definition.
    #[error("definition: {0}")]
    Definition(String),
    /// The secrets are not those of the operator they are said to belong to.
    #[error("the secrets are not those of operator {0} in the definition")]
    ForeignSecrets(OperatorIndex),
    /// The dealing that the seed makes is not the one that was committed to: the seed is another one.
    #[error("the seed is not the one that this operator's dealing was made from")]
    ForeignSeed,
    /// An entry of the transcript does not belong to it.
    #[error("entry {position} of the transcript: {refusal}")]
    Entry {
        /// Which one, from 0.
        position: usize,
        /// What is wrong with it.
        refusal: Refusal,
    },
    /// The transcript does not say who was qualified.
    #[error("the transcript ends without an agreement on the qualified dealers")]
    Undecided,
    /// The transcript lacks a dealing that was qualified.
    #[error("the transcript lacks the dealing of operator {0}")]
    MissingDealing(OperatorIndex),
    /// Fewer than a quorum said that they have these keys.
    #[error("{confirmed} operators confirmed the keys, the quorum is {quorum}")]
    Unconfirmed {
        /// How many did.
        confirmed: usize,
        /// How many must.
        quorum: usize,
    },
    /// A proof of guilt that proves nothing.
    #[error("the proof does not hold: {0}")]
    BadProof(&'static str),
    /// Keys or shares that do not add up.
    #[error(transparent)]
    Crypto(#[from] aequa_crypto::Error),
}

/// Why a message changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The bytes are too many, or not the canonical form of a message.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    /// A well-formed message that no honest operator of this ceremony sends.
    #[error("{0}")]
    Nonsense(&'static str),
    /// The author is no operator of the ceremony.
    #[error("operator {0} is no participant")]
    NotMember(OperatorIndex),
    /// The signature is not the author's, or is of another ceremony.
    #[error("signature of operator {0} does not verify")]
    BadSignature(OperatorIndex),
    /// A message in this operator's own name that it did not write.
    #[error("message in the own name from outside")]
    OwnName,
    /// The message proves the guilt of its author.
    #[error("operator {} is guilty: {}", .0.operator, .0.fault)]
    Guilty(Box<Blame>),
    /// It is here already, or says nothing new.
    #[error("known already")]
    Stale,
    /// What it rests on is not here yet; it will be sent again.
    #[error("not now: {0}")]
    NotNow(&'static str),
}

/// What a refusal means for who sent the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// Only a faulty sender sends it.
    PeerFault,
    /// An honest sender may have sent it.
    Stale,
    /// It is welcome later.
    NotNow,
}

impl Refusal {
    /// What it means for the sender. Of two things that an author said an honest carrier may know the other one;
    /// what is false by itself it does not pass on.
    pub fn kind(&self) -> RefusalKind {
        match self {
            Self::Malformed(_) | Self::Nonsense(_) | Self::NotMember(_) | Self::BadSignature(_) => {
                RefusalKind::PeerFault
            }
            Self::Guilty(blame) if blame.fault != Fault::Equivocation => RefusalKind::PeerFault,
            Self::OwnName | Self::Guilty(_) | Self::Stale => RefusalKind::Stale,
            Self::NotNow(_) => RefusalKind::NotNow,
        }
    }
}
