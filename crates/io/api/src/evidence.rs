//! What `/v1/evidence` shows.

use aequa_types::Height;
use aequa_types::json::EvidenceJson;
use serde::Serialize;

/// Blocks whose evidence one answer shows: with 16 pieces in each, about 200 kB.
pub const EVIDENCE_BLOCKS_MAX: usize = 16;

/// Evidence of operators that contradicted themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct EvidenceView {
    /// What blocks carry, ascending.
    pub committed: Vec<CommittedEvidence>,
    /// What waits for its block here.
    pub pending: Vec<EvidenceJson>,
    /// Where to go on when there are more blocks with evidence than one answer shows; else null.
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
