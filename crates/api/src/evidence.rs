//! What `/v1/evidence` shows.

use aequa_types::Height;
use aequa_types::json::EvidenceJson;
use serde::Serialize;
use utoipa::ToSchema;

/// Blocks whose evidence one answer shows: with 16 pieces in each, about 200 kB.
pub const EVIDENCE_BLOCKS_MAX: usize = 16;

/// Evidence of operators that contradicted themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct EvidenceView {
    /// What blocks carry, ascending.
    #[schema(value_type = Vec<Object>)]
    pub committed: Vec<CommittedEvidence>,
    /// What waits for its block here.
    #[schema(value_type = Vec<Object>)]
    pub pending: Vec<EvidenceJson>,
    /// Where to go on when there are more blocks with evidence than one answer shows; else null.
    #[schema(value_type = Option<u64>)]
    pub next: Option<Height>,
}

/// A piece of evidence and the block that carries it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CommittedEvidence {
    /// Height of the block.
    pub committed_height: Height,
    /// The evidence.
    pub evidence: EvidenceJson,
}
