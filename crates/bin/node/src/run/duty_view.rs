//! A duty as clients see it, in this life and of an earlier one.

use aequa_api::backend::{DutyStatus, DutyStep, DutyView, HeldDigest};
use aequa_replica::DutyState;
use aequa_types::json::{CertificateJson, ValueJson};
use aequa_types::{Certificate, DutyId, DutyOutcome};

/// A duty of this life.
pub fn live(duty: DutyId, state: &DutyState) -> DutyView {
    view(duty, status(state.status), state.outcome())
}

/// A duty of an earlier life; none when what is stored cannot be read.
pub fn stored(duty: DutyId, stored: &[u8]) -> Option<DutyView> {
    let outcome = DutyOutcome::from_bytes(stored).ok()?;
    let status = match &outcome.decided {
        None if outcome.held.len() > 1 => DutyStatus::Undecided,
        None => DutyStatus::Expired,
        Some(_) if outcome.is_sealed() => DutyStatus::Signed,
        Some(_) => DutyStatus::Decided,
    };
    Some(view(duty, status, outcome))
}

fn view(duty: DutyId, status: DutyStatus, outcome: DutyOutcome) -> DutyView {
    let certificate = outcome.certificate().cloned();
    let seal = certificate.as_ref().and_then(Certificate::group_seal);
    DutyView {
        kind: duty.kind,
        slot: duty.slot,
        status,
        round: certificate.as_ref().map(|certificate| certificate.round),
        digest: certificate.as_ref().map(|certificate| certificate.digest),
        signature: seal.map(ToString::to_string),
        certificate: certificate.as_ref().map(CertificateJson::from),
        value: outcome.decided.map(|decision| ValueJson(decision.value)),
        digests: outcome
            .held
            .into_iter()
            .map(|held| HeldDigest { digest: held.digest, operators: held.operators })
            .collect(),
        refused_by: Vec::new(),
        reason: reason(status),
        timeline: outcome
            .timeline
            .into_iter()
            .map(|step| DutyStep {
                t_ms: step.t_ms as f64,
                step: String::from_utf8_lossy(&step.name).into_owned(),
            })
            .collect(),
    }
}

/// Why a duty has no decision.
fn reason(status: DutyStatus) -> Option<String> {
    let text = match status {
        DutyStatus::Undecided => "the clients of the operators posted different payloads",
        DutyStatus::Expired => "the clients of too few operators posted this payload in time",
        DutyStatus::Pending
        | DutyStatus::Deciding
        | DutyStatus::Decided
        | DutyStatus::Signed
        | DutyStatus::Refused => return None,
    };
    Some(text.to_owned())
}

/// Status names of duties in the API.
fn status(status: aequa_replica::DutyStatus) -> DutyStatus {
    match status {
        aequa_replica::DutyStatus::Pending => DutyStatus::Pending,
        aequa_replica::DutyStatus::Deciding => DutyStatus::Deciding,
        aequa_replica::DutyStatus::Decided => DutyStatus::Decided,
        aequa_replica::DutyStatus::Signed => DutyStatus::Signed,
        aequa_replica::DutyStatus::Undecided => DutyStatus::Undecided,
        aequa_replica::DutyStatus::Expired => DutyStatus::Expired,
    }
}
