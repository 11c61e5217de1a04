//! Proof that an operator contradicted itself.
//!
//! An operator makes one statement per [`VoteKey`], for ever. Two signed statements of one key that
//! say different things are evidence: nobody but the holder of the key can have made them, and no
//! crash, delay or restart makes an honest operator do so. What says the same is none: a
//! retransmission, a PREPARE and a COMMIT of one digest, statements of different rounds, and two
//! COMMITs of one digest that differ in their share of the seal alone.
//!
//! `hash = SHA-256("aequa/evidence/v1" ‖ 0x00 ‖ hash_tree_root)`; the hash tree root is that of the
//! SSZ bytes as `List[u8, 1024]`.

use crate::limits::{EVIDENCE_BYTES_MAX, EVIDENCE_PER_BLOCK_MAX};
use crate::merkle::bytes_root;
use crate::{OperatorIndex, Round, Signed, VoteKey};
use alloy_primitives::B256;
use ssz::{Decode, DecodeError, Encode};
use ssz_types::VariableList;
use ssz_types::typenum::U16;
use std::sync::Arc;
use tree_hash::{Hash256, PackedEncoding, TreeHash, TreeHashType};

const HASH_TAG: &[u8] = b"aequa/evidence/v1\0";

/// Evidence of a block.
pub type EvidenceList = VariableList<Evidence, U16>;

/// Who contradicted itself, and where. Evidence is ordered by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offence {
    /// The operator.
    pub operator: OperatorIndex,
    /// The key it signed under twice.
    pub key: VoteKey,
}

/// Why two statements are no evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// Two operators may disagree.
    #[error("statements of operators {0} and {1}")]
    Authors(OperatorIndex, OperatorIndex),
    /// Domains never influence each other.
    #[error("statements of different domains")]
    Domains,
    /// Every height is decided anew.
    #[error("statements of different heights")]
    Heights,
    /// A vote may change from round to round.
    #[error("statements of rounds {0} and {1}")]
    Rounds(Round, Round),
    /// Kinds follow one another.
    #[error("statements of different kinds")]
    Kinds,
    /// The second says what the first does.
    #[error("statements of the same digest")]
    SameDigest,
    /// Decoded evidence whose statements are not in their one order.
    #[error("statements out of order")]
    Order,
}

/// Two signed statements of one key that contradict each other, in their one order: that of their
/// votes, the hashes of what was signed.
///
/// Holding one says nothing about the signatures; [`CheckedEvidence`] does.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Evidence {
    pair: (Signed, Signed),
}

impl Evidence {
    /// The evidence two statements make, whichever came first.
    pub fn new(one: Signed, other: Signed) -> Result<Self, EvidenceError> {
        check_contradiction(&one, &other)?;
        let pair = if one.vote_root() < other.vote_root() { (one, other) } else { (other, one) };
        Ok(Self { pair })
    }

    /// The statement that comes first in order.
    pub fn first(&self) -> &Signed {
        &self.pair.0
    }

    /// The other one.
    pub fn second(&self) -> &Signed {
        &self.pair.1
    }

    /// Whom it accuses, and of what.
    pub fn offence(&self) -> Offence {
        Offence { operator: self.first().author, key: self.first().vote_key() }
    }

    /// Identifies the evidence; see the module documentation.
    pub fn hash(&self) -> B256 {
        let mut preimage = HASH_TAG.to_vec();
        preimage.extend_from_slice(self.tree_hash_root().as_slice());
        B256::from(ethereum_hashing::hash_fixed(&preimage))
    }
}

/// Whether two statements contradict each other, or why not.
fn check_contradiction(one: &Signed, other: &Signed) -> Result<(), EvidenceError> {
    if one.author != other.author {
        return Err(EvidenceError::Authors(one.author, other.author));
    }
    if one.instance.domain() != other.instance.domain() {
        return Err(EvidenceError::Domains);
    }
    if one.instance != other.instance {
        return Err(EvidenceError::Heights);
    }
    if one.round != other.round {
        return Err(EvidenceError::Rounds(one.round, other.round));
    }
    if one.kind() != other.kind() {
        return Err(EvidenceError::Kinds);
    }
    if one.agrees_with(other) { Err(EvidenceError::SameDigest) } else { Ok(()) }
}

/// The SSZ form is that of the container of both statements.
impl Encode for Evidence {
    fn is_ssz_fixed_len() -> bool {
        false
    }
    fn ssz_bytes_len(&self) -> usize {
        self.pair.ssz_bytes_len()
    }
    fn ssz_append(&self, buf: &mut Vec<u8>) {
        self.pair.ssz_append(buf);
    }
}

impl Decode for Evidence {
    fn is_ssz_fixed_len() -> bool {
        false
    }
    fn from_ssz_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let refused = |reason: String| DecodeError::BytesInvalid(reason);
        if bytes.len() > EVIDENCE_BYTES_MAX {
            return Err(refused(format!(
                "evidence has {} bytes, the limit is {EVIDENCE_BYTES_MAX}",
                bytes.len()
            )));
        }
        let pair = <(Signed, Signed)>::from_ssz_bytes(bytes)?;
        let evidence =
            Self::new(pair.0.clone(), pair.1.clone()).map_err(|error| refused(error.to_string()))?;
        if evidence.pair != pair {
            return Err(refused(EvidenceError::Order.to_string()));
        }
        Ok(evidence)
    }
}

impl TreeHash for Evidence {
    fn tree_hash_type() -> TreeHashType {
        TreeHashType::List
    }
    fn tree_hash_packed_encoding(&self) -> PackedEncoding {
        unreachable!("a list is never packed")
    }
    fn tree_hash_packing_factor() -> usize {
        unreachable!("a list is never packed")
    }
    fn tree_hash_root(&self) -> Hash256 {
        // Two statements are far below the limit: a test holds it.
        bytes_root(&self.as_ssz_bytes(), EVIDENCE_BYTES_MAX)
    }
}

/// Evidence of which both signatures hold under the key of a member.
///
/// Constructing one claims exactly that; `aequa-crypto` does it. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CheckedEvidence(Arc<Evidence>);

impl CheckedEvidence {
    /// Wraps evidence the caller has just checked.
    pub fn attest(evidence: Evidence) -> Self {
        Self(Arc::new(evidence))
    }
}

impl std::ops::Deref for CheckedEvidence {
    type Target = Evidence;

    fn deref(&self) -> &Evidence {
        &self.0
    }
}

const _: () = assert!(EVIDENCE_PER_BLOCK_MAX == 16 && EVIDENCE_BYTES_MAX == 1024, "the types say so");

#[cfg(test)]
mod tests;
