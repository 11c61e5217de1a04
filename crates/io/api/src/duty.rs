//! Duties as the API takes and shows them.

use aequa_types::json::{CertificateJson, ValueJson};
use aequa_types::{Digest, DutyId, DutyKind, OperatorIndex, Round, Slot, ValueBytes};
use serde::Serialize;
use utoipa::ToSchema;

/// A duty as posted.
#[derive(Debug, Clone, PartialEq)]
pub struct DutyRequest {
    /// Which duty.
    pub id: DutyId,
    /// Accepted for compatibility and without meaning.
    pub round: Round,
    /// This node's candidate value as RFC 8785 canonical JSON; null when absent.
    pub payload: ValueBytes,
    /// Of the request that brought it.
    pub trace_id: String,
}

/// Which duties to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DutyQuery {
    /// Only this type.
    pub kind: Option<DutyKind>,
    /// Only slots below this one.
    pub before: Option<Slot>,
    /// At most so many; 1 to 100.
    pub limit: usize,
}

/// Duties of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DutyPage {
    /// Newest first.
    pub duties: Vec<DutyId>,
    /// Only what is at or above this slot has been looked at, and there may be more below.
    pub next: Option<Slot>,
}

/// How far a duty is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DutyStatus {
    /// Known, consensus has not begun.
    Pending,
    /// Being agreed.
    Deciding,
    /// Agreed, not signed yet.
    Decided,
    /// Signed by the group.
    Signed,
    /// Slashing protection or validation said no.
    Refused,
    /// Its time is over.
    Expired,
    /// Its instance ended without a decision.
    Undecided,
}

/// A duty and how it went.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct DutyView {
    /// attester, proposer or sync.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    pub kind: DutyKind,
    /// Its slot.
    #[serde(rename = "height")]
    #[schema(value_type = u64)]
    pub slot: Slot,
    /// How far it is.
    pub status: DutyStatus,
    /// Round of the decision.
    #[schema(value_type = Option<u64>)]
    pub round: Option<Round>,
    /// Digest decided.
    #[schema(value_type = Option<String>)]
    pub digest: Option<Digest>,
    /// Value decided: any JSON.
    #[schema(value_type = Value)]
    pub value: Option<ValueJson>,
    /// Group signature, 0x-hex.
    pub signature: Option<String>,
    /// Certificate of the decision, in the form of `/v1/blocks/{height}/certificate`.
    #[schema(value_type = Option<Object>)]
    pub certificate: Option<CertificateJson>,
    /// Digests of the payloads that clients of operators were seen to have posted.
    pub digests: Vec<HeldDigest>,
    /// Operators whose slashing protection refused.
    #[schema(value_type = Vec<u8>)]
    pub refused_by: Vec<OperatorIndex>,
    /// Why it did not end in `signed`.
    pub reason: Option<String>,
    /// Steps passed, with their time after the start of the slot.
    pub timeline: Vec<DutyStep>,
}

/// A digest, and who holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct HeldDigest {
    /// Of the canonical payload.
    #[schema(value_type = String)]
    pub digest: Digest,
    /// Operators that were seen to propose or prepare it.
    #[schema(value_type = Vec<u8>)]
    pub operators: Vec<OperatorIndex>,
}

/// One step of a duty.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct DutyStep {
    /// Milliseconds after the start of the slot (of the arrival, where slots have no time).
    pub t_ms: f64,
    /// received, proposed, prepared, decided, share, combined, submitted, included.
    pub step: String,
}
