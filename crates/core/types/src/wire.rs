//! The kinds of message on each topic: their numbers in the envelope, their names and their size limits, in one table
//! per topic.

use crate::limits::{CONSENSUS_FRAME_BYTES_MAX, VOTE_FRAME_BYTES_MAX};
use crate::message::{Message, Verified};
use crate::sync::{SyncReply, SyncRequest};
use crate::{Quorum, Round};
use ssz::Encode as _;

/// Kind number of transactions, the only ones on their topic.
pub const TRANSACTIONS: u8 = 1;
/// Kind number of evidence, the only one on its topic.
pub const EVIDENCE: u8 = 1;
/// Frame of the key ceremony: a message of it.
pub const CEREMONY: u8 = 1;
/// Frame of the key ceremony: shares of what the new validators sign.
pub const VALIDATOR_SHARES: u8 = 2;
/// Frame of the key ceremony: what an operator says to the new lock.
pub const LOCK_SHARE: u8 = 3;
/// Frame of the key ceremony: the hash of the sender's definition, or its text.
pub const DEFINITION: u8 = 4;
/// Frame of the key ceremony: what an operator that leaves says to the new lock; perhaps relayed by another.
pub const LEAVER_SIGNATURE: u8 = 5;

/// A kind of consensus message.
#[derive(Debug, PartialEq, Eq)]
pub struct WireKind {
    /// Number in the envelope.
    pub number: u8,
    /// Value of the `type` label in metrics and logs (contract: metrics, section 4). A proposal of a round above 0 is
    /// called [`NEW_VIEW`].
    pub name: &'static str,
    size: Size,
}

/// Bytes of a ROUND-CHANGE or a certificate beside the statements it carries.
const VOTES_HEAD_BYTES: usize = 256;
/// Bytes of each of those, with room to spare.
const VOTES_BYTES_EACH: usize = 512;

/// Of what a body consists.
#[derive(Debug, PartialEq, Eq)]
enum Size {
    /// One statement, or a question.
    Vote,
    /// A statement of each operator.
    Votes,
    /// A value.
    Value,
}

/// Name of a proposal with a justification.
pub const NEW_VIEW: &str = "new_view";

static PREPREPARE: WireKind = WireKind { number: 1, name: "preprepare", size: Size::Value };
static PREPARE: WireKind = WireKind { number: 2, name: "prepare", size: Size::Vote };
static COMMIT: WireKind = WireKind { number: 3, name: "commit", size: Size::Vote };
static ROUND_CHANGE: WireKind = WireKind { number: 4, name: "view_change", size: Size::Votes };
static DECIDED: WireKind = WireKind { number: 5, name: "decided", size: Size::Votes };
static VALUE_REQUEST: WireKind = WireKind { number: 6, name: "value_request", size: Size::Vote };
static VALUE_REPLY: WireKind = WireKind { number: 7, name: "value_reply", size: Size::Value };

/// All kinds of consensus message, in the order of their numbers.
pub static CONSENSUS: [&WireKind; 7] =
    [&PREPREPARE, &PREPARE, &COMMIT, &ROUND_CHANGE, &DECIDED, &VALUE_REQUEST, &VALUE_REPLY];

impl WireKind {
    /// The kind of this number.
    pub fn of_number(number: u8) -> Option<&'static Self> {
        CONSENSUS.into_iter().find(|kind| kind.number == number)
    }

    /// Bytes of the largest body in a cluster of this size; checked before it is parsed.
    pub fn body_bytes_max(&self, quorum: Quorum) -> usize {
        match self.size {
            Size::Vote => VOTE_FRAME_BYTES_MAX,
            Size::Votes => VOTES_HEAD_BYTES + quorum.operators() * VOTES_BYTES_EACH,
            Size::Value => CONSENSUS_FRAME_BYTES_MAX,
        }
    }

    fn name_in(&self, round: Round) -> &'static str {
        if *self == PREPREPARE && round > Round(0) { NEW_VIEW } else { self.name }
    }
}

impl Message {
    /// What kind of message it is.
    pub fn kind(&self) -> &'static WireKind {
        match self {
            Message::PrePrepare(_) => &PREPREPARE,
            Message::Prepare(_) => &PREPARE,
            Message::Commit(_) => &COMMIT,
            Message::RoundChange(_) => &ROUND_CHANGE,
            Message::Decided(_) => &DECIDED,
            Message::ValueRequest(_) => &VALUE_REQUEST,
            Message::ValueReply(_) => &VALUE_REPLY,
        }
    }

    /// Value of the `type` label in metrics and logs.
    pub fn type_name(&self) -> &'static str {
        self.kind().name_in(self.round().unwrap_or_default())
    }

    /// Bytes of its body on the wire.
    pub fn body_bytes(&self) -> usize {
        self.ssz_bytes_len()
    }
}

impl Verified {
    /// What kind of message it is.
    pub fn kind(&self) -> &'static WireKind {
        match self {
            Verified::PrePrepare { .. } => &PREPREPARE,
            Verified::Prepare(_) => &PREPARE,
            Verified::Commit(_) => &COMMIT,
            Verified::RoundChange(_) => &ROUND_CHANGE,
            Verified::Decided(_) => &DECIDED,
            Verified::ValueRequest(_) => &VALUE_REQUEST,
            Verified::ValueReply { .. } => &VALUE_REPLY,
        }
    }

    /// Value of the `type` label in metrics and logs.
    pub fn type_name(&self) -> &'static str {
        self.kind().name_in(self.statement().map(|signed| signed.round).unwrap_or_default())
    }
}

const STATUS: u8 = 1;
const BLOCKS: u8 = 2;
const TESTIMONY: u8 = 3;
const SNAPSHOT: u8 = 4;
const STATE: u8 = 5;

impl SyncRequest {
    /// Kind number of the question.
    pub fn kind(&self) -> u8 {
        match self {
            SyncRequest::Status(_) => STATUS,
            SyncRequest::Blocks(_) => BLOCKS,
            SyncRequest::Testimony(_) => TESTIMONY,
            SyncRequest::Snapshot(_) => SNAPSHOT,
            SyncRequest::State(_) => STATE,
        }
    }
}

impl SyncReply {
    /// Kind number of the answer: that of its question.
    pub fn kind(&self) -> u8 {
        match self {
            SyncReply::Status(_) => STATUS,
            SyncReply::Blocks(_) => BLOCKS,
            SyncReply::Testimony(_) => TESTIMONY,
            SyncReply::Snapshot(_) => SNAPSHOT,
            SyncReply::State(_) => STATE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Decided, PrePrepare, RoundChange, ValueReply, ValueRequest};
    use crate::statement::{Claim, CommitClaim, RoundChangeClaim};
    use crate::sync::{BlocksRequest, Testimony, TestimonyRequest};
    use crate::{
        Certificate, Digest, Height, InstanceId, OperatorIndex, Proof, Signature, Signed, Statement,
        ValueBytes,
    };

    #[test]
    fn numbers_are_those_of_the_table_and_every_other_is_none() {
        let numbers: Vec<u8> = CONSENSUS.iter().map(|kind| kind.number).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!([0, 8, u8::MAX].map(WireKind::of_number), [None; 3]);
        assert_eq!(WireKind::of_number(4), Some(&ROUND_CHANGE));
    }

    #[test]
    fn every_message_has_the_number_and_the_name_of_the_contract() {
        let instance = InstanceId::Block(Height(1));
        let signed = |round, claim| {
            let statement = Statement { instance, round: Round(round), author: OperatorIndex(0), claim };
            Signed { statement, signature: Signature::ZERO }
        };
        let digest = Digest::ZERO;
        let value = ValueBytes(Vec::new().into());
        let proposal = |round| {
            Message::PrePrepare(PrePrepare {
                proposal: signed(round, Claim::PrePrepare(digest)),
                value: value.clone(),
                round_changes: Vec::new(),
                prepares: Vec::new(),
            })
        };
        let commit = Claim::Commit(CommitClaim { digest, seal: None });
        let change = signed(1, Claim::RoundChange(RoundChangeClaim { prepared: None }));
        let certificate =
            Certificate { instance, round: Round(0), digest, proof: Proof::Commits(Vec::new()) };
        let messages = [
            (proposal(0), 1, "preprepare"),
            (proposal(1), 1, "new_view"),
            (Message::Prepare(signed(0, Claim::Prepare(digest))), 2, "prepare"),
            (Message::Commit(signed(0, commit)), 3, "commit"),
            (Message::RoundChange(RoundChange { change, prepares: Vec::new() }), 4, "view_change"),
            (Message::Decided(Decided { certificate }), 5, "decided"),
            (Message::ValueRequest(ValueRequest { instance, digest }), 6, "value_request"),
            (Message::ValueReply(ValueReply { instance, value }), 7, "value_reply"),
        ];
        for (message, number, name) in messages {
            assert_eq!((message.kind().number, message.type_name()), (number, name));
        }
        let (from, limit) = (Height(1), 1);
        assert_eq!(SyncRequest::Blocks(BlocksRequest { from, limit }).kind(), 2);
        assert_eq!(SyncRequest::Testimony(TestimonyRequest { about: OperatorIndex(0) }).kind(), 3);
        let testimony = Testimony { certificates: Vec::new(), statements: Vec::new(), bound: Vec::new() };
        assert_eq!(
            [SyncReply::Blocks(Vec::new()), SyncReply::Testimony(testimony)].map(|r| r.kind()),
            [2, 3]
        );
    }

    #[test]
    fn only_what_carries_a_value_may_be_large() {
        let quorum = Quorum::of(4).unwrap();
        let sizes = CONSENSUS.map(|kind| kind.body_bytes_max(quorum));
        let (vote, votes, value) = (1024, 256 + 4 * 512, 4 << 20);
        assert_eq!(sizes, [value, vote, vote, votes, votes, vote, value]);
    }
}
