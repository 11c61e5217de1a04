//! What the store keeps of a duty that ended: the JSON that `GET /v1/duty` answers with.
//!
//! Making, sealing and reading a report cannot fail on what members agreed on: a value that is not
//! canonical JSON is kept as hex, and a report that cannot be read says nothing.

use aequa_replica::{DutyState, Recall};
use aequa_types::json::{CertificateJson, canonical_bytes, parse_canonical};
use aequa_types::message::ValueReply;
use aequa_types::{Certificate, Decided, Digest, InstanceId, Message, Value, ValueBytes};
use serde_json::{Value as Json, json};

/// The report of a duty that was decided, or expired.
pub fn report(
    instance: InstanceId,
    state: Option<&DutyState>,
    decided: Option<&(Value, Certificate)>,
) -> Vec<u8> {
    let steps = state.map(|state| state.timeline.as_slice()).unwrap_or_default();
    let timeline: Vec<Json> = steps.iter().map(|(t_ms, step)| json!({"t_ms": t_ms, "step": step})).collect();
    let mut report = json!({
        "type": instance.domain.name(),
        "height": instance.height.0,
        "status": "expired",
        "timeline": timeline,
    });
    if let Some((value, certificate)) = decided {
        report["round"] = json!(certificate.round.0);
        report["digest"] = json!(certificate.digest);
        report["value"] = shown(value);
        put_certificate(&mut report, certificate);
    }
    report.to_string().into_bytes()
}

/// The report with the group seal; none when there is nothing to replace: it is sealed already, it is
/// about another decision, or it cannot be read.
pub fn sealed(stored: &[u8], certificate: &Certificate) -> Option<Vec<u8>> {
    let known = self::certificate(stored)?;
    if known.group_seal().is_some() || known.digest != certificate.digest {
        return None;
    }
    let mut report: Json = serde_json::from_slice(stored).ok()?;
    put_certificate(&mut report, certificate);
    Some(report.to_string().into_bytes())
}

/// The certificate in a stored report, if it was decided.
pub fn certificate(stored: &[u8]) -> Option<Certificate> {
    /// The value is skipped and not built.
    #[derive(serde::Deserialize)]
    struct Part {
        certificate: Option<CertificateJson>,
    }
    serde_json::from_slice::<Part>(stored).ok()?.certificate?.try_into().ok()
}

/// What a straggler asked for, if the report has it.
pub fn recall(instance: InstanceId, stored: &[u8], recall: Recall) -> Option<Message> {
    match recall {
        Recall::Certificate => {
            certificate(stored).map(|certificate| Message::Decided(Decided { certificate }))
        }
        Recall::Value(digest) => {
            let value = value(instance, stored, digest)?.bytes().clone();
            Some(Message::ValueReply(ValueReply { instance, value }))
        }
    }
}

/// The value of a duty as clients see it.
pub fn shown(value: &Value) -> Json {
    let bytes = &value.bytes().0;
    parse_canonical(bytes).unwrap_or_else(|_| json!(format!("0x{}", hex::encode(bytes))))
}

fn value(instance: InstanceId, stored: &[u8], digest: Digest) -> Option<Value> {
    let report: Json = serde_json::from_slice(stored).ok()?;
    let shown = report.get("value")?;
    let hex = shown.as_str().and_then(|text| hex::decode(text.strip_prefix("0x")?).ok());
    let forms = std::iter::once(canonical_bytes(shown)).chain(hex);
    forms.map(|bytes| Value::duty(instance, ValueBytes(bytes.into()))).find(|value| value.digest() == digest)
}

fn put_certificate(report: &mut Json, certificate: &Certificate) {
    let seal = certificate.group_seal();
    report["status"] = json!(if seal.is_some() { "signed" } else { "decided" });
    report["signature"] = json!(seal);
    // Numbers, strings and lists only: this has a JSON form.
    report["certificate"] = serde_json::to_value(CertificateJson::from(certificate)).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_types::statement::{Claim, CommitClaim};
    use aequa_types::{Domain, Height, OperatorIndex, Proof, Round, Seal, Signature, Signed, Statement};

    const DUTY: InstanceId = InstanceId { domain: Domain::Sync, height: Height(7) };

    fn decided(bytes: &[u8]) -> (Value, Certificate) {
        let value = Value::duty(DUTY, ValueBytes(bytes.into()));
        let commit = |author| {
            let claim = CommitClaim { digest: value.digest(), seal: Some(Seal::repeat_byte(author)) };
            let author = OperatorIndex(author);
            let statement =
                Statement { instance: DUTY, round: Round(1), author, claim: Claim::Commit(claim) };
            Signed { statement, signature: Signature::ZERO }
        };
        let commits: Vec<Signed> = (0..3).map(commit).collect();
        let certificate = Certificate::from_commits(DUTY, Round(1), value.digest(), &commits);
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
            let stored = report(DUTY, None, Some(&(value.clone(), certificate.clone())));
            let asked = Recall::Value(value.digest());
            let expected = ValueReply { instance: DUTY, value: value.bytes().clone() };
            assert_eq!(recall(DUTY, &stored, asked), Some(Message::ValueReply(expected)));
            let seal = with_seal(&certificate, 9);
            let stored = sealed(&stored, &seal).unwrap();
            assert_eq!(self::certificate(&stored), Some(seal));
        }
    }

    #[test]
    fn a_seal_stays_and_another_decision_changes_nothing() {
        let (value, certificate) = decided(b"1");
        let first = report(DUTY, None, Some(&(value, with_seal(&certificate, 1))));
        assert_eq!(sealed(&first, &with_seal(&certificate, 2)), None);
        let other = decided(b"2");
        let open = report(DUTY, None, Some(&other));
        assert_eq!(sealed(&open, &with_seal(&certificate, 1)), None);
        assert_eq!(sealed(b"garbage", &certificate), None);
    }

    #[test]
    fn an_expired_duty_has_nothing_to_recall() {
        let stored = report(DUTY, None, None);
        assert_eq!(certificate(&stored), None);
        assert_eq!(recall(DUTY, &stored, Recall::Certificate), None);
        assert_eq!(recall(DUTY, &stored, Recall::Value(Digest::ZERO)), None);
    }
}
