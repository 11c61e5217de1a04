//! What operators send each other in consensus.
//!
//! [`Message`] is the wire form: decoded, but with nothing checked. [`Verified`] is what the
//! replica accepts; only code that has checked every signature inside may build one.

use crate::block::CheckedBlock;
use crate::limits::VALUE_BYTES_MAX;
use crate::{Certificate, Digest, DutyId, InstanceId, Round, Signed};
use ssz::{Decode, DecodeError, Encode};
use ssz_derive::{Decode, Encode};
use std::sync::Arc;

/// Encoded value of an instance, shared and not copied between messages.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueBytes(pub Arc<[u8]>);

impl std::fmt::Debug for ValueBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ValueBytes({} bytes)", self.0.len())
    }
}

impl Encode for ValueBytes {
    fn is_ssz_fixed_len() -> bool {
        false
    }
    fn ssz_bytes_len(&self) -> usize {
        self.0.len()
    }
    fn ssz_append(&self, buf: &mut Vec<u8>) {
        buf.extend_from_slice(&self.0);
    }
}

impl Decode for ValueBytes {
    fn is_ssz_fixed_len() -> bool {
        false
    }
    fn from_ssz_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > VALUE_BYTES_MAX {
            return Err(DecodeError::BytesInvalid(format!(
                "value has {} bytes, the limit is {VALUE_BYTES_MAX}",
                bytes.len()
            )));
        }
        Ok(Self(bytes.into()))
    }
}

/// A value whose bytes were decoded, checked on their own and hashed.
#[derive(Debug, Clone)]
pub enum Value {
    /// Of a block's instance.
    Block(BlockValue),
    /// Of a duty's instance.
    Duty(DutyValue),
}

/// A block and its encoding.
#[derive(Debug, Clone)]
pub struct BlockValue {
    block: Arc<CheckedBlock>,
    bytes: ValueBytes,
}

/// What a client posted for a duty, opaque, and its [`duty_digest`].
#[derive(Debug, Clone)]
pub struct DutyValue {
    digest: Digest,
    bytes: ValueBytes,
}

impl BlockValue {
    /// The block.
    pub fn block(&self) -> &Arc<CheckedBlock> {
        &self.block
    }
}

impl Value {
    /// The value of a block's instance.
    pub fn block(block: Arc<CheckedBlock>) -> Self {
        let bytes = ValueBytes(block.block().as_ssz_bytes().into());
        Self::Block(BlockValue { block, bytes })
    }

    /// The value of this duty.
    pub fn duty(duty: DutyId, bytes: ValueBytes) -> Self {
        Self::Duty(DutyValue { digest: duty_digest(duty, &bytes.0), bytes })
    }

    /// What is voted on.
    pub fn digest(&self) -> Digest {
        match self {
            Self::Block(value) => value.block.digest(),
            Self::Duty(value) => value.digest,
        }
    }

    /// The encoded value.
    pub fn bytes(&self) -> &ValueBytes {
        match self {
            Self::Block(BlockValue { bytes, .. }) | Self::Duty(DutyValue { bytes, .. }) => bytes,
        }
    }

    /// The block, when this is one.
    pub fn as_block(&self) -> Option<&Arc<CheckedBlock>> {
        match self {
            Self::Block(value) => Some(&value.block),
            Self::Duty(_) => None,
        }
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.digest() == other.digest() && self.bytes() == other.bytes()
    }
}

impl Eq for Value {}

impl std::hash::Hash for Value {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.digest().hash(state);
    }
}

/// Digest of an opaque duty value: SHA-256 over tag, kind, slot and the bytes.
pub fn duty_digest(duty: DutyId, bytes: &[u8]) -> Digest {
    let mut preimage = b"aequa/duty/v1\0".to_vec();
    InstanceId::from(duty).ssz_append(&mut preimage);
    preimage.extend_from_slice(bytes);
    Digest::from(ethereum_hashing::hash_fixed(&preimage))
}

/// The leader's proposal with its justification.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct PrePrepare {
    /// The leader's statement.
    pub proposal: Signed,
    /// The value; only this message carries it.
    pub value: ValueBytes,
    /// J_rc: a quorum of ROUND-CHANGE statements for the round; empty in round 0.
    pub round_changes: Vec<Signed>,
    /// J_p: a quorum of PREPAREs for the highest prepared (round, digest) among them.
    pub prepares: Vec<Signed>,
}

/// A ROUND-CHANGE with the evidence for its claim.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
pub struct RoundChange {
    /// The author's statement.
    pub change: Signed,
    /// The quorum of PREPAREs for what the statement calls prepared; empty when it claims nothing.
    pub prepares: Vec<Signed>,
}

/// Announces a decision to an operator that is behind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Encode, Decode)]
pub struct Decided {
    /// Why it may be believed.
    pub certificate: Certificate,
}

/// Asks for a value by digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Encode, Decode)]
pub struct ValueRequest {
    /// Instance the value belongs to.
    pub instance: InstanceId,
    /// The value's digest.
    pub digest: Digest,
}

/// Answers a [`ValueRequest`]. The digest is recomputed, so nobody needs to sign it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct ValueReply {
    /// Instance the value belongs to.
    pub instance: InstanceId,
    /// The value.
    pub value: ValueBytes,
}

/// A consensus message as it travels; nothing in it has been checked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
#[ssz(enum_behaviour = "union")]
pub enum Message {
    /// The leader's proposal.
    PrePrepare(PrePrepare),
    /// A vote for the proposal.
    Prepare(Signed),
    /// A vote that a quorum prepared it.
    Commit(Signed),
    /// A round without decision.
    RoundChange(RoundChange),
    /// A decision.
    Decided(Decided),
    /// A question for a value.
    ValueRequest(ValueRequest),
    /// Its answer.
    ValueReply(ValueReply),
}

impl Message {
    /// The instance the message belongs to.
    pub fn instance(&self) -> InstanceId {
        match self {
            Message::PrePrepare(message) => message.proposal.instance,
            Message::Prepare(vote) | Message::Commit(vote) => vote.instance,
            Message::RoundChange(message) => message.change.instance,
            Message::Decided(message) => message.certificate.instance,
            Message::ValueRequest(message) => message.instance,
            Message::ValueReply(message) => message.instance,
        }
    }

    /// The statement the message makes by itself, without its justification.
    pub fn statement(&self) -> Option<&Signed> {
        match self {
            Message::PrePrepare(message) => Some(&message.proposal),
            Message::Prepare(vote) | Message::Commit(vote) => Some(vote),
            Message::RoundChange(message) => Some(&message.change),
            Message::Decided(_) | Message::ValueRequest(_) | Message::ValueReply(_) => None,
        }
    }

    /// The round the message belongs to, where it has one.
    pub fn round(&self) -> Option<Round> {
        match self {
            Message::PrePrepare(message) => Some(message.proposal.round),
            Message::Prepare(vote) | Message::Commit(vote) => Some(vote.round),
            Message::RoundChange(message) => Some(message.change.round),
            Message::Decided(message) => Some(message.certificate.round),
            Message::ValueRequest(_) | Message::ValueReply(_) => None,
        }
    }
}

/// A message in which every signature, every member index and the digest of every value has been
/// checked, and whose justifications are well formed (right kinds, right instance).
///
/// Constructing one *is* the claim that this was done. `aequa-crypto` does it for a node; the
/// simulator does it for operators it controls. The core checks what needs state: windows,
/// leadership, quorums and justification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verified {
    /// A proposal and its decoded value, whose digest is the one proposed.
    PrePrepare {
        /// The leader's statement.
        proposal: Signed,
        /// The proposed value.
        value: Value,
        /// Verified ROUND-CHANGE statements.
        round_changes: Vec<Signed>,
        /// Verified PREPARE statements.
        prepares: Vec<Signed>,
    },
    /// A PREPARE statement.
    Prepare(Signed),
    /// A COMMIT statement. Its seal share is *not* checked here: seals are verified together.
    Commit(Signed),
    /// A ROUND-CHANGE statement with verified PREPAREs.
    RoundChange(RoundChange),
    /// A certificate that holds.
    Decided(Certificate),
    /// A question; nothing to verify.
    ValueRequest(ValueRequest),
    /// A value that was decoded and hashed.
    ValueReply {
        /// Instance the value belongs to.
        instance: InstanceId,
        /// The value.
        value: Value,
    },
}

impl Verified {
    /// The instance the message belongs to.
    pub fn instance(&self) -> InstanceId {
        match self {
            Verified::PrePrepare { proposal, .. } => proposal.instance,
            Verified::Prepare(vote) | Verified::Commit(vote) => vote.instance,
            Verified::RoundChange(message) => message.change.instance,
            Verified::Decided(certificate) => certificate.instance,
            Verified::ValueRequest(request) => request.instance,
            Verified::ValueReply { instance, .. } => *instance,
        }
    }

    /// The same as it travels.
    pub fn to_message(&self) -> Message {
        match self.clone() {
            Verified::PrePrepare { proposal, value, round_changes, prepares } => {
                let value = value.bytes().clone();
                Message::PrePrepare(PrePrepare { proposal, value, round_changes, prepares })
            }
            Verified::Prepare(vote) => Message::Prepare(vote),
            Verified::Commit(vote) => Message::Commit(vote),
            Verified::RoundChange(message) => Message::RoundChange(message),
            Verified::Decided(certificate) => Message::Decided(Decided { certificate }),
            Verified::ValueRequest(request) => Message::ValueRequest(request),
            Verified::ValueReply { instance, value } => {
                Message::ValueReply(ValueReply { instance, value: value.bytes().clone() })
            }
        }
    }

    /// The statement the message makes by itself, without its justification.
    pub fn statement(&self) -> Option<&Signed> {
        match self {
            Verified::PrePrepare { proposal, .. } => Some(proposal),
            Verified::Prepare(vote) | Verified::Commit(vote) => Some(vote),
            Verified::RoundChange(message) => Some(&message.change),
            Verified::Decided(_) | Verified::ValueRequest(_) | Verified::ValueReply { .. } => None,
        }
    }
}
