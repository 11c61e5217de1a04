//! Checkpoints, for clients and for whoever wants one to trust.

use super::{CertificateJson, HeaderJson, JsonError, spelling};
use crate::{CertifiedHeader, Digest, Height};
use alloy_primitives::B256;
use serde::{Deserialize, Serialize};

/// A block with the next one, whose certified header states the root after it.
///
/// All nodes have the same, but for the two certificates: these are the commits of any quorum, in any round that
/// decided, until the seal of the group takes their place. The history root is in no header: whoever has not followed
/// the chain believes it when f+1 operators say the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointJson {
    /// Number of the block.
    pub height: Height,
    /// Digest of the block.
    #[serde(with = "spelling::fixed")]
    pub block_root: Digest,
    /// Root of the state after it, from the next header.
    #[serde(with = "spelling::fixed")]
    pub state_root: B256,
    /// Chained root over all states up to that one.
    #[serde(with = "spelling::fixed")]
    pub history_root: B256,
    /// The block.
    pub block: CertifiedHeaderJson,
    /// The next block.
    pub next: CertifiedHeaderJson,
}

/// Head of a block and why to believe it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertifiedHeaderJson {
    /// The header.
    pub header: HeaderJson,
    /// Its certificate.
    pub certificate: CertificateJson,
}

impl CheckpointJson {
    /// Of a block, the next one, and the history root after the first.
    pub fn new(block: &CertifiedHeader, next: &CertifiedHeader, history_root: B256) -> Self {
        Self {
            height: block.header.height,
            block_root: block.header.digest(),
            state_root: next.header.state_root,
            history_root,
            block: block.into(),
            next: next.into(),
        }
    }

    /// The block and the next one; derived fields must agree with what they are derived from. The certificates are the
    /// caller's to verify.
    pub fn into_parts(self) -> Result<[CertifiedHeader; 2], JsonError> {
        let (block, next) = (CertifiedHeader::try_from(self.block)?, CertifiedHeader::try_from(self.next)?);
        if block.header.height != self.height {
            return Err(JsonError::at("height", "differs from the header's"));
        }
        if block.header.digest() != self.block_root {
            return Err(JsonError::at("block_root", "is not the hash root of the header"));
        }
        if next.header.height != self.height.next() || next.header.parent_root != self.block_root {
            return Err(JsonError::at("next", "is not the block after this one"));
        }
        if next.header.state_root != self.state_root {
            return Err(JsonError::at("state_root", "is not that of the next header"));
        }
        Ok([block, next])
    }
}

impl From<&CertifiedHeader> for CertifiedHeaderJson {
    fn from(certified: &CertifiedHeader) -> Self {
        Self { header: (&certified.header).into(), certificate: (&certified.certificate).into() }
    }
}

impl TryFrom<CertifiedHeaderJson> for CertifiedHeader {
    type Error = JsonError;

    fn try_from(json: CertifiedHeaderJson) -> Result<Self, JsonError> {
        Ok(Self { header: json.header.try_into()?, certificate: json.certificate.try_into()? })
    }
}
