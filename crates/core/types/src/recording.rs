//! What a node writes down, when asked to, so that a height can be run again.
//!
//! Recorded is what crosses the boundary of one consensus instance: every event it took, what its
//! surroundings answered, and what a restart gave it back. That is all a pure state machine depends
//! on. Values are written once and then named by digest. A recording binds nobody: the vote log
//! alone says what was promised.

use crate::record::{ProposalRecord, ValueRecord};
use crate::statement::Prepared;
use crate::{
    Certificate, Digest, InstanceId, OperatorIndex, Record, Round, RoundChange, Signed, TimestampMs,
    message::ValueRequest,
};
use ssz_derive::{Decode, Encode};

/// Largest encoded entry in bytes: a value, and room to spare.
pub const ENTRY_BYTES_MAX: usize = 4 << 20;

/// When something happened, on both clocks of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Moment {
    /// Milliseconds since the process started.
    pub elapsed_ms: u64,
    /// Milliseconds since the Unix epoch.
    pub wall_ms: TimestampMs,
}

/// One entry of a recording.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[ssz(enum_behaviour = "union")]
pub enum Entry {
    /// An instance came to be in this process.
    Opened(Opened),
    /// A record of the vote log that binds the instance opened last.
    Bound(Record),
    /// A value that later entries name by digest.
    Value(ValueRecord),
    /// An instance took an event.
    Step(Step),
    /// An instance took over a stronger certificate.
    Upgraded(Upgraded),
    /// The newest own messages of an instance were sent again to everybody.
    Resent(Resent),
    /// An operator connected: what every instance had answered it is forgotten.
    Connected(Connected),
    /// A block came from a peer with its certificate, and its instance ended.
    Fetched(Fetched),
}

/// The beginning of an instance in one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Opened {
    /// Which instance.
    pub instance: InstanceId,
    /// When.
    pub at: Moment,
    /// How many [`Entry::Bound`] follow: what the vote log gave back after a restart.
    pub bound: u64,
}

/// One event of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Step {
    /// Which instance.
    pub instance: InstanceId,
    /// When the replica handed the event over.
    pub at: Moment,
    /// What happened.
    pub happened: Happening,
    /// What the instance was told when it asked.
    pub answers: Answers,
    /// Round and digest, when this event brought the decision.
    pub decided: Option<Prepared>,
}

/// What happened to an instance.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[ssz(enum_behaviour = "union")]
pub enum Happening {
    /// It was started, in this round.
    Start(Round),
    /// The operator's own candidate was ready.
    Input(Candidate),
    /// A message arrived.
    Message(Heard),
    /// The timer of this round fired.
    Timeout(Round),
}

/// An own candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Candidate {
    /// The round it is for.
    pub round: Round,
    /// Its digest.
    pub digest: Digest,
}

/// A message and who handed it over.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Heard {
    /// Who handed it over; the author of a statement may be another operator.
    pub carrier: OperatorIndex,
    /// What it said.
    pub said: Said,
}

/// A consensus message without the bytes of its value.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[ssz(enum_behaviour = "union")]
pub enum Said {
    /// A proposal with its justification.
    PrePrepare(ProposalRecord),
    /// A PREPARE.
    Prepare(Signed),
    /// A COMMIT.
    Commit(Signed),
    /// A ROUND-CHANGE with its evidence.
    RoundChange(RoundChange),
    /// A decision.
    Decided(Certificate),
    /// A question for a value.
    ValueRequest(ValueRequest),
    /// A value, by its digest.
    Value(Digest),
}

/// What an instance was told during one event, in the order of its questions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
pub struct Answers {
    /// Whether a fresh value may be prepared.
    pub verdicts: Vec<bool>,
    /// Signatures on own statements; none where the signer refused.
    pub signatures: Vec<Option<Signed>>,
}

/// A stronger certificate for the same decision.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Upgraded {
    /// When.
    pub at: Moment,
    /// The certificate, now with the seal of the group.
    pub certificate: Certificate,
}

/// A retransmission.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Resent {
    /// Which instance.
    pub instance: InstanceId,
    /// When.
    pub at: Moment,
}

/// A new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Connected {
    /// To whom.
    pub operator: OperatorIndex,
    /// When.
    pub at: Moment,
}

/// A height that was not agreed here.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Fetched {
    /// When.
    pub at: Moment,
    /// Who sent the block.
    pub from: OperatorIndex,
    /// Why the block may be believed.
    pub certificate: Certificate,
    /// The operator's own COMMIT, made for its share of the seal.
    pub commit: Option<Signed>,
}

/// What is found at one place of a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbered {
    /// The entry's number, from 1 in the whole life of the recording.
    pub number: u64,
    /// The entry; none where the recording has a hole.
    pub entry: Option<Entry>,
}

impl Entry {
    /// The instance the entry belongs to; none when it concerns all of them.
    pub fn instance(&self) -> Option<InstanceId> {
        match self {
            Entry::Opened(opened) => Some(opened.instance),
            Entry::Bound(record) => Some(record.instance()),
            Entry::Value(record) => Some(record.instance),
            Entry::Step(step) => Some(step.instance),
            Entry::Upgraded(upgraded) => Some(upgraded.certificate.instance),
            Entry::Resent(resent) => Some(resent.instance),
            Entry::Connected(_) => None,
            Entry::Fetched(fetched) => Some(fetched.certificate.instance),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::Claim;
    use crate::{Height, Proof, Seal, Signature, Statement, ValueBytes};
    use ssz::Encode as _;

    const AT: Moment = Moment { elapsed_ms: 5, wall_ms: 1_700_000_000_005 };

    fn instance() -> InstanceId {
        InstanceId::Block(Height(7))
    }

    fn vote() -> Signed {
        let claim = Claim::Prepare(Digest::repeat_byte(3));
        let statement = Statement { instance: instance(), round: Round(1), author: OperatorIndex(2), claim };
        Signed { statement, signature: Signature::repeat_byte(9) }
    }

    fn every_kind() -> Vec<Entry> {
        let (instance, digest) = (instance(), Digest::repeat_byte(3));
        let certificate =
            Certificate { instance, round: Round(1), digest, proof: Proof::Group(Seal::repeat_byte(4)) };
        let step = |happened| {
            let answers = Answers { verdicts: vec![true, false], signatures: vec![Some(vote()), None] };
            let decided = Some(Prepared { round: Round(1), digest });
            Entry::Step(Step { instance, at: AT, happened, answers, decided })
        };
        let heard = |said| step(Happening::Message(Heard { carrier: OperatorIndex(1), said }));
        let proposal =
            ProposalRecord { proposal: vote(), round_changes: vec![vote()], prepares: vec![vote()] };
        vec![
            Entry::Opened(Opened { instance, at: AT, bound: 1 }),
            Entry::Bound(Record::Prepare(vote())),
            Entry::Value(ValueRecord { instance, value: ValueBytes(b"value".as_slice().into()) }),
            step(Happening::Start(Round(0))),
            step(Happening::Input(Candidate { round: Round(0), digest })),
            step(Happening::Timeout(Round(0))),
            heard(Said::PrePrepare(proposal)),
            heard(Said::Prepare(vote())),
            heard(Said::Commit(vote())),
            heard(Said::RoundChange(RoundChange { change: vote(), prepares: vec![vote()] })),
            heard(Said::Decided(certificate.clone())),
            heard(Said::ValueRequest(ValueRequest { instance, digest })),
            heard(Said::Value(digest)),
            Entry::Upgraded(Upgraded { at: AT, certificate: certificate.clone() }),
            Entry::Resent(Resent { instance, at: AT }),
            Entry::Connected(Connected { operator: OperatorIndex(3), at: AT }),
            Entry::Fetched(Fetched { at: AT, from: OperatorIndex(3), certificate, commit: Some(vote()) }),
        ]
    }

    #[test]
    fn every_entry_is_read_back_as_written() {
        for entry in every_kind() {
            let bytes = entry.as_ssz_bytes();
            assert_eq!(crate::decode::<Entry>("entry", &bytes, ENTRY_BYTES_MAX).unwrap(), entry);
        }
    }

    /// A recording is read by later programs: its encoding changes only on purpose.
    #[test]
    fn the_encoding_is_the_one_of_version_1() {
        let all: Vec<u8> = every_kind().iter().flat_map(|entry| entry.as_ssz_bytes()).collect();
        let digest = hex::encode(ethereum_hashing::hash_fixed(&all));
        assert_eq!(digest, "35b6c4eadca1144a7b85b31ffec9db739827ef9f6a572efee780c303c400b9ae");
    }

    #[test]
    fn only_a_connection_concerns_every_instance() {
        for entry in every_kind() {
            assert_eq!(entry.instance().is_none(), matches!(entry, Entry::Connected(_)), "{entry:?}");
        }
    }
}
