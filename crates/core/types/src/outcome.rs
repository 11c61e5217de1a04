//! What became of a duty: the facts that are stored, and what a straggler is told of them.
//!
//! SSZ: the value as the bytes that were agreed on, the certificate, the steps. JSON is made where it is shown, so
//! nothing that members agreed on can fail to be stored, sealed or read again.

use crate::limits::CONSENSUS_FRAME_BYTES_MAX;
use crate::message::ValueReply;
use crate::{Certificate, Decided, DecodeError, Digest, DutyId, Message, OperatorIndex, ValueBytes, decode};
use ssz::Encode as _;
use ssz_derive::{Decode, Encode};

/// What became of one duty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct DutyOutcome {
    /// None when its time was over first.
    pub decided: Option<DutyDecision>,
    /// The steps it passed at the node that stored this.
    pub timeline: Vec<DutyStep>,
    /// What operators were seen to hold: more than one digest, and the duty ended undecided.
    pub held: Vec<HeldDigest>,
}

/// A decided duty.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct DutyDecision {
    /// Why it is decided.
    pub certificate: Certificate,
    /// What was decided.
    pub value: ValueBytes,
}

/// A step that a duty passed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct DutyStep {
    /// Milliseconds since the duty became known.
    pub t_ms: u64,
    /// Name of the step in the API, UTF-8.
    pub name: Vec<u8>,
}

/// A digest, and who was seen to hold it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct HeldDigest {
    /// Of the value.
    pub digest: Digest,
    /// The operators.
    pub operators: Vec<OperatorIndex>,
}

/// What a straggler asks of a closed duty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Recall {
    /// Its certificate, as a DECIDED.
    Certificate,
    /// The value of this digest, as a VALUE reply.
    Value(Digest),
}

impl DutyOutcome {
    /// What [`DutyOutcome::to_bytes`] gave.
    pub fn from_bytes(stored: &[u8]) -> Result<Self, DecodeError> {
        decode("duty outcome", stored, CONSENSUS_FRAME_BYTES_MAX)
    }

    /// As it is stored.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.as_ssz_bytes()
    }

    /// Why it is decided, if it is.
    pub fn certificate(&self) -> Option<&Certificate> {
        self.decided.as_ref().map(|decided| &decided.certificate)
    }

    /// Whether the group has sealed it.
    pub fn is_sealed(&self) -> bool {
        self.certificate().is_some_and(|certificate| certificate.group_seal().is_some())
    }

    /// Takes the certificate with the group seal; false when there is nothing to replace: it is sealed already, or the
    /// certificate is of another decision.
    pub fn seal(&mut self, sealed: &Certificate) -> bool {
        let decided = self.decided.as_mut().map(|decided| &mut decided.certificate);
        let open = decided.filter(|known| known.group_seal().is_none() && known.digest == sealed.digest);
        open.map(|known| *known = sealed.clone()).is_some()
    }

    /// What a straggler asked for, if it is known.
    pub fn recall(&self, duty: DutyId, asked: Recall) -> Option<Message> {
        let DutyDecision { certificate, value } = self.decided.as_ref()?;
        match asked {
            Recall::Certificate => Some(Message::Decided(Decided { certificate: certificate.clone() })),
            Recall::Value(digest) => (certificate.digest == digest)
                .then(|| Message::ValueReply(ValueReply { instance: duty.into(), value: value.clone() })),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DutyKind, Proof, Round, Seal, Slot, Value};

    const DUTY: DutyId = DutyId { kind: DutyKind::Sync, slot: Slot(7) };

    fn outcome(bytes: &[u8], seal: Option<u8>) -> DutyOutcome {
        let value = Value::duty(DUTY, ValueBytes(bytes.into()));
        let proof = seal.map_or(Proof::Commits(Vec::new()), |byte| Proof::Group(Seal::repeat_byte(byte)));
        let certificate =
            Certificate { instance: DUTY.into(), round: Round(1), digest: value.digest(), proof };
        let decided = Some(DutyDecision { certificate, value: value.bytes().clone() });
        DutyOutcome { decided, ..DutyOutcome::default() }
    }

    fn certificate(outcome: &DutyOutcome) -> Certificate {
        outcome.certificate().unwrap().clone()
    }

    #[test]
    fn no_decided_bytes_can_break_an_outcome_and_all_come_back() {
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
            let mut known = outcome(bytes, None);
            assert!(known.seal(&certificate(&outcome(bytes, Some(9)))) && known.is_sealed());
            assert_eq!(DutyOutcome::from_bytes(&known.to_bytes()).unwrap(), known);
            let digest = known.certificate().unwrap().digest;
            let reply = ValueReply { instance: DUTY.into(), value: ValueBytes(bytes.into()) };
            assert_eq!(known.recall(DUTY, Recall::Value(digest)), Some(Message::ValueReply(reply)));
        }
    }

    #[test]
    fn a_seal_stays_and_another_decision_changes_nothing() {
        let mut first = outcome(b"1", Some(1));
        assert!(!first.seal(&certificate(&outcome(b"1", Some(2)))));
        let mut other = outcome(b"2", None);
        assert!(!other.seal(&certificate(&first)));
        assert!(!DutyOutcome::default().seal(&certificate(&first)));
    }

    #[test]
    fn an_expired_duty_has_nothing_to_recall() {
        let expired = DutyOutcome::default();
        assert_eq!(expired.certificate(), None);
        assert_eq!(expired.recall(DUTY, Recall::Certificate), None);
        assert_eq!(expired.recall(DUTY, Recall::Value(Digest::ZERO)), None);
    }

    /// What directories of earlier versions hold.
    #[test]
    fn the_stored_form_of_an_outcome_stays() {
        let known = DutyOutcome {
            decided: None,
            timeline: vec![DutyStep { t_ms: 3, name: b"received".to_vec() }],
            held: vec![HeldDigest {
                digest: Digest::repeat_byte(0xab),
                operators: vec![OperatorIndex(1), OperatorIndex(2)],
            }],
        };
        let hex = concat!(
            "0c0000000d000000250000000004000000",
            "03000000000000000c0000007265636569766564",
            "04000000",
            "abababababababababababababababababababababababababababababababab",
            "240000000102"
        );
        assert_eq!(alloy_primitives::hex::encode(known.to_bytes()), hex);
    }
}
