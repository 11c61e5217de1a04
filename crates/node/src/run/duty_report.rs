//! What the store keeps of a duty that ended.
//!
//! Facts, in SSZ: the value as the bytes that were agreed on, the certificate, the steps. JSON is made
//! where it is shown. Making, sealing and reading a report cannot fail on what members agreed on, and a
//! report that cannot be read says nothing.

use aequa_api::backend::{DutyStatus, DutyStep, DutyView, HeldDigest};
use aequa_replica::{DutyState, Recall};
use aequa_types::json::{CertificateJson, ValueJson};
use aequa_types::limits::CONSENSUS_FRAME_BYTES_MAX;
use aequa_types::message::ValueReply;
use aequa_types::{Certificate, Decided, Digest, DutyId, Message, OperatorIndex, Value, ValueBytes};
use ssz::Encode as _;
use ssz_derive::{Decode, Encode};

/// A duty that ended.
#[derive(Debug, Encode, Decode)]
struct Report {
    /// None when its time was over first.
    decided: Option<Decision>,
    timeline: Vec<Step>,
    /// What operators were seen to hold: more than one digest, and the duty ended undecided.
    held: Vec<Held>,
}

#[derive(Debug, Encode, Decode)]
struct Held {
    digest: Digest,
    operators: Vec<OperatorIndex>,
}

#[derive(Debug, Encode, Decode)]
struct Decision {
    certificate: Certificate,
    value: ValueBytes,
}

#[derive(Debug, Encode, Decode)]
struct Step {
    t_ms: u64,
    name: Vec<u8>,
}

/// The report of a duty that was decided, or expired.
pub fn report(state: Option<&DutyState>, decided: Option<&(Value, Certificate)>) -> Vec<u8> {
    let steps = state.map(|state| state.timeline.as_slice()).unwrap_or_default();
    let step = |(t_ms, name): &(u64, &str)| Step { t_ms: *t_ms, name: name.as_bytes().to_vec() };
    let decision = |(value, certificate): &(Value, Certificate)| Decision {
        certificate: certificate.clone(),
        value: value.bytes().clone(),
    };
    let held = state.map(DutyState::digests).unwrap_or_default();
    let held = held.into_iter().map(|(digest, operators)| Held { digest, operators });
    let timeline = steps.iter().map(step).collect();
    Report { decided: decided.map(decision), timeline, held: held.collect() }.as_ssz_bytes()
}

/// Which digests operators were seen to hold, as clients see them.
pub fn digests(state: &DutyState) -> Vec<HeldDigest> {
    let held = state.digests().into_iter();
    held.map(|(digest, operators)| HeldDigest { digest, operators }).collect()
}

/// Why a duty has no decision.
pub fn reason(status: DutyStatus) -> Option<String> {
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

/// The report with the group seal; none when there is nothing to replace: it is sealed already, it is
/// about another decision, or it cannot be read.
pub fn sealed(stored: &[u8], certificate: &Certificate) -> Option<Vec<u8>> {
    let mut report = read(stored)?;
    let known = &mut report.decided.as_mut()?.certificate;
    if known.group_seal().is_some() || known.digest != certificate.digest {
        return None;
    }
    *known = certificate.clone();
    Some(report.as_ssz_bytes())
}

/// The certificate in a stored report, if it was decided.
pub fn certificate(stored: &[u8]) -> Option<Certificate> {
    Some(read(stored)?.decided?.certificate)
}

/// What a straggler asked for, if the report has it.
pub fn recall(duty: DutyId, stored: &[u8], recall: Recall) -> Option<Message> {
    let Decision { certificate, value } = read(stored)?.decided?;
    match recall {
        Recall::Certificate => Some(Message::Decided(Decided { certificate })),
        Recall::Value(digest) => {
            let reply = ValueReply { instance: duty.into(), value };
            (certificate.digest == digest).then_some(Message::ValueReply(reply))
        }
    }
}

/// A duty of an earlier life, as clients see it.
pub fn view(duty: DutyId, stored: &[u8]) -> Option<DutyView> {
    let Report { decided, timeline, held } = read(stored)?;
    let certificate = decided.as_ref().map(|decision| &decision.certificate);
    let seal = certificate.and_then(Certificate::group_seal);
    let step = |step: &Step| DutyStep {
        t_ms: step.t_ms as f64,
        step: String::from_utf8_lossy(&step.name).into_owned(),
    };
    let status = match (certificate, seal) {
        (None, _) if held.len() > 1 => DutyStatus::Undecided,
        (None, _) => DutyStatus::Expired,
        (Some(_), None) => DutyStatus::Decided,
        (Some(_), Some(_)) => DutyStatus::Signed,
    };
    Some(DutyView {
        kind: duty.kind,
        slot: duty.slot,
        status,
        round: certificate.map(|certificate| certificate.round),
        digest: certificate.map(|certificate| certificate.digest),
        signature: seal.map(ToString::to_string),
        certificate: certificate.map(CertificateJson::from),
        value: decided.as_ref().map(|decision| ValueJson(decision.value.clone())),
        digests: held
            .into_iter()
            .map(|Held { digest, operators }| HeldDigest { digest, operators })
            .collect(),
        refused_by: Vec::new(),
        reason: reason(status),
        timeline: timeline.iter().map(step).collect(),
    })
}

fn read(stored: &[u8]) -> Option<Report> {
    aequa_types::decode("duty report", stored, CONSENSUS_FRAME_BYTES_MAX).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_types::statement::{Claim, CommitClaim};
    use aequa_types::{DutyKind, Proof, Round, Seal, Signature, Signed, Slot, Statement};

    const DUTY: DutyId = DutyId { kind: DutyKind::Sync, slot: Slot(7) };

    fn decided(bytes: &[u8]) -> (Value, Certificate) {
        let value = Value::duty(DUTY, ValueBytes(bytes.into()));
        let commit = |author| {
            let claim = CommitClaim { digest: value.digest(), seal: Some(Seal::repeat_byte(author)) };
            let author = OperatorIndex(author);
            let statement =
                Statement { instance: DUTY.into(), round: Round(1), author, claim: Claim::Commit(claim) };
            Signed { statement, signature: Signature::ZERO }
        };
        let commits: Vec<Signed> = (0..3).map(commit).collect();
        let certificate = Certificate::from_commits(DUTY.into(), Round(1), value.digest(), &commits);
        (value, certificate)
    }

    fn with_seal(certificate: &Certificate, byte: u8) -> Certificate {
        Certificate { proof: Proof::Group(Seal::repeat_byte(byte)), ..certificate.clone() }
    }

    #[test]
    fn no_decided_bytes_can_break_a_report_and_all_come_back() {
        let deep = format!("{}{}", "[".repeat(127), "]".repeat(127));
        let values: [&[u8]; 7] = [
            b"",
            b"not json",
            b"[1, 2]",
            &[0xff, 0x00],
            deep.as_bytes(),
            br#"{"a":[1e+30,0.1]}"#,
            br#""0xab""#,
        ];
        for bytes in values {
            let (value, certificate) = decided(bytes);
            let stored = report(None, Some(&(value.clone(), certificate.clone())));
            let asked = Recall::Value(value.digest());
            let expected = ValueReply { instance: DUTY.into(), value: value.bytes().clone() };
            assert_eq!(recall(DUTY, &stored, asked), Some(Message::ValueReply(expected)));
            let seal = with_seal(&certificate, 9);
            let stored = sealed(&stored, &seal).unwrap();
            assert_eq!(self::certificate(&stored), Some(seal));
            let view = view(DUTY, &stored).unwrap();
            assert_eq!(
                (view.status, view.value),
                (DutyStatus::Signed, Some(ValueJson(value.bytes().clone())))
            );
        }
    }

    #[test]
    fn a_seal_stays_and_another_decision_changes_nothing() {
        let (value, certificate) = decided(b"1");
        let first = report(None, Some(&(value, with_seal(&certificate, 1))));
        assert_eq!(sealed(&first, &with_seal(&certificate, 2)), None);
        let other = decided(b"2");
        let open = report(None, Some(&other));
        assert_eq!(sealed(&open, &with_seal(&certificate, 1)), None);
        assert_eq!(sealed(b"garbage", &certificate), None);
    }

    #[test]
    fn an_expired_duty_has_nothing_to_recall() {
        let stored = report(None, None);
        assert_eq!(certificate(&stored), None);
        assert_eq!(recall(DUTY, &stored, Recall::Certificate), None);
        assert_eq!(recall(DUTY, &stored, Recall::Value(Digest::ZERO)), None);
    }
}
