//! Blocks and certificates, for people, tools and `verify-block`.

use super::{EvidenceJson, JsonError, TransactionJson, spelling};
use crate::block::{Items, LeaderProof};
use crate::evidence::EvidenceList;
use crate::limits::{BLOCK_ITEMS_MAX, EVIDENCE_PER_BLOCK_MAX};
use crate::{
    Amount, Block, Certificate, CertifiedBlock, ClusterId, CommitSignature, Digest, Domain, Evidence, Header,
    Height, OperatorIndex, Proof, Round, Seal, Signature, TimestampMs, Transaction,
};
use alloy_primitives::B256;
use serde::{Deserialize, Serialize};

/// Largest JSON form of a block in bytes: hex doubles the 3 MiB of a value, and 16,384 items spell
/// out their field names.
pub const BLOCK_JSON_BYTES_MAX: usize = 32 << 20;

/// A certified block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockJson {
    /// Number of the block.
    pub height: Height,
    /// Hash root of the header, what was decided.
    #[serde(with = "spelling::fixed")]
    pub digest: Digest,
    /// Head of the block.
    pub header: HeaderJson,
    /// Transactions in the order of execution.
    pub items: Vec<TransactionJson>,
    /// Evidence against operators, in the order of offences.
    pub evidence: Vec<EvidenceJson>,
    /// Why to believe it.
    pub certificate: CertificateJson,
}

/// Head of a block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderJson {
    /// The cluster this chain belongs to.
    #[serde(with = "spelling::fixed")]
    pub cluster_id: ClusterId,
    /// Number of the block.
    pub height: Height,
    /// Digest of the block before.
    #[serde(with = "spelling::fixed")]
    pub parent_root: Digest,
    /// Proposer's clock.
    pub timestamp_ms: TimestampMs,
    /// Who proposed the value first.
    pub proposer: OperatorIndex,
    /// Hash of the builder policy.
    #[serde(with = "spelling::fixed")]
    pub policy_hash: B256,
    /// Hash root of the items.
    #[serde(with = "spelling::fixed")]
    pub payload_root: B256,
    /// Hash root of the evidence.
    #[serde(with = "spelling::fixed")]
    pub evidence_root: B256,
    /// State root after the parent.
    #[serde(with = "spelling::fixed")]
    pub state_root: B256,
    /// Leader proof, empty with `round_robin`.
    #[serde(with = "spelling::bytes")]
    pub leader_proof: Vec<u8>,
    /// Sum of the fees, a decimal string.
    #[serde(with = "spelling::decimal")]
    pub total_fees: Amount,
    /// Sum of the bids, a decimal string.
    #[serde(with = "spelling::decimal")]
    pub total_bids: Amount,
    /// Number of items.
    pub items: u64,
}

/// Proof that a digest was decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateJson {
    /// Height or slot of the instance.
    pub height: u64,
    /// Round whose commits decided.
    pub round: Round,
    /// The decided value.
    #[serde(with = "spelling::fixed")]
    pub digest: Digest,
    /// Domain of the instance.
    pub domain: Domain,
    /// The group seal; null when the proof is a list of commits.
    #[serde(with = "spelling::fixed_option")]
    pub seal: Option<Seal>,
    /// The commits; null when the proof is a group seal.
    pub commits: Option<Vec<CommitJson>>,
    /// Operators whose commits are listed; null with a group seal, which does not tell.
    pub signers: Option<Vec<OperatorIndex>>,
}

/// One operator's COMMIT.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommitJson {
    /// The signer.
    pub operator: OperatorIndex,
    /// Its share of the seal, or null.
    #[serde(with = "spelling::fixed_option")]
    pub seal: Option<Seal>,
    /// Its ed25519 signature.
    #[serde(with = "spelling::fixed")]
    pub signature: Signature,
}

impl BlockJson {
    /// Reads a certified block back; derived fields must agree with what they are derived from.
    pub fn parse(bytes: &[u8]) -> Result<CertifiedBlock, JsonError> {
        bounded::<Self>("block", bytes)?.try_into()
    }
}

impl CertificateJson {
    /// Reads a certificate back.
    pub fn parse(bytes: &[u8]) -> Result<Certificate, JsonError> {
        bounded::<Self>("certificate", bytes)?.try_into()
    }
}

fn bounded<T: serde::de::DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, JsonError> {
    if bytes.len() > BLOCK_JSON_BYTES_MAX {
        return Err(JsonError::TooLarge { what, bytes: bytes.len(), bytes_max: BLOCK_JSON_BYTES_MAX });
    }
    Ok(serde_json::from_slice(bytes)?)
}

impl From<&CertifiedBlock> for BlockJson {
    fn from(certified: &CertifiedBlock) -> Self {
        let header = &certified.block.header;
        Self {
            height: header.height,
            digest: header.digest(),
            header: header.into(),
            items: certified.block.items.iter().map(TransactionJson::from).collect(),
            evidence: certified.block.evidence.iter().map(EvidenceJson::from).collect(),
            certificate: (&certified.certificate).into(),
        }
    }
}

impl TryFrom<BlockJson> for CertifiedBlock {
    type Error = JsonError;

    fn try_from(json: BlockJson) -> Result<Self, JsonError> {
        let header = Header::try_from(json.header)?;
        if json.height != header.height {
            return Err(JsonError::at("height", "differs from the header's"));
        }
        if json.digest != header.digest() {
            return Err(JsonError::at("digest", "is not the hash root of the header"));
        }
        let count = json.items.len();
        let items: Vec<_> = json.items.into_iter().map(Transaction::try_from).collect::<Result<_, _>>()?;
        let items = Items::try_from(items).map_err(|_| {
            JsonError::at("items", format!("has {count} entries, the limit is {BLOCK_ITEMS_MAX}"))
        })?;
        let count = json.evidence.len();
        let evidence: Vec<_> = json.evidence.into_iter().map(Evidence::try_from).collect::<Result<_, _>>()?;
        let evidence = EvidenceList::try_from(evidence).map_err(|_| {
            JsonError::at("evidence", format!("has {count} entries, the limit is {EVIDENCE_PER_BLOCK_MAX}"))
        })?;
        let block = Block { header, items, evidence };
        Ok(Self { block, certificate: json.certificate.try_into()? })
    }
}

impl From<&Header> for HeaderJson {
    fn from(header: &Header) -> Self {
        Self {
            cluster_id: header.cluster_id,
            height: header.height,
            parent_root: header.parent_root,
            timestamp_ms: header.timestamp_ms,
            proposer: header.proposer,
            policy_hash: header.policy_hash,
            payload_root: header.payload_root,
            evidence_root: header.evidence_root,
            state_root: header.state_root,
            leader_proof: header.leader_proof.to_vec(),
            total_fees: header.total_fees,
            total_bids: header.total_bids,
            items: header.items,
        }
    }
}

impl TryFrom<HeaderJson> for Header {
    type Error = JsonError;

    fn try_from(json: HeaderJson) -> Result<Self, JsonError> {
        let leader_proof = LeaderProof::try_from(json.leader_proof)
            .map_err(|_| JsonError::at("leader_proof", "is longer than 128 bytes"))?;
        Ok(Self {
            cluster_id: json.cluster_id,
            height: json.height,
            parent_root: json.parent_root,
            timestamp_ms: json.timestamp_ms,
            proposer: json.proposer,
            policy_hash: json.policy_hash,
            payload_root: json.payload_root,
            evidence_root: json.evidence_root,
            state_root: json.state_root,
            leader_proof,
            total_fees: json.total_fees,
            total_bids: json.total_bids,
            items: json.items,
        })
    }
}

impl From<&Certificate> for CertificateJson {
    fn from(certificate: &Certificate) -> Self {
        let (seal, commits) = match &certificate.proof {
            Proof::Group(seal) => (Some(*seal), None),
            Proof::Commits(commits) => (None, Some(commits.iter().map(CommitJson::from).collect::<Vec<_>>())),
        };
        let signers = commits.as_deref().map(signers);
        Self {
            height: certificate.instance.number(),
            round: certificate.round,
            digest: certificate.digest,
            domain: certificate.instance.domain(),
            seal,
            commits,
            signers,
        }
    }
}

impl TryFrom<CertificateJson> for Certificate {
    type Error = JsonError;

    fn try_from(json: CertificateJson) -> Result<Self, JsonError> {
        if json.signers != json.commits.as_deref().map(signers) {
            return Err(JsonError::at("signers", "differs from the operators of the commits"));
        }
        let proof = match (json.seal, json.commits) {
            (Some(seal), None) => Proof::Group(seal),
            (None, Some(commits)) => Proof::Commits(commits.into_iter().map(CommitSignature::from).collect()),
            _ => return Err(JsonError::at("seal", "exactly one of seal and commits must be given")),
        };
        let instance = json.domain.instance(json.height);
        Ok(Self { instance, round: json.round, digest: json.digest, proof })
    }
}

impl From<&CommitSignature> for CommitJson {
    fn from(commit: &CommitSignature) -> Self {
        Self { operator: commit.operator, seal: commit.seal, signature: commit.signature }
    }
}

impl From<CommitJson> for CommitSignature {
    fn from(json: CommitJson) -> Self {
        Self { operator: json.operator, seal: json.seal, signature: json.signature }
    }
}

fn signers(commits: &[CommitJson]) -> Vec<OperatorIndex> {
    commits.iter().map(|commit| commit.operator).collect()
}
