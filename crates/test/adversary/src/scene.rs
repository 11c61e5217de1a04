//! What an attack finds when its turn comes.

use crate::dice::Dice;
use crate::ear::{Ear, Memory, Said};
use crate::traitor::Traitor;
use aequa_chain::Chain;
use aequa_node::wall_ms;
use aequa_p2p::Message as Frame;
use aequa_replica::elector;
use aequa_types::statement::RoundChangeClaim;
use aequa_types::sync::SyncRequest;
use aequa_types::{
    Block, Claim, Digest, Height, InstanceId, Message, OperatorIndex, PrePrepare, Prepared, Quorum, Round,
    RoundChange, Signed, ValueBytes,
};
use parking_lot::MutexGuard;
use ssz::Encode as _;

/// The moment an attack is played in.
pub struct Scene<'a> {
    /// Who plays.
    pub(crate) traitor: &'a Traitor,
    /// The chance.
    pub(crate) dice: &'a mut Dice,
    pub(crate) ear: &'a Ear,
    chain: Chain,
}

impl<'a> Scene<'a> {
    pub(crate) fn new(traitor: &'a Traitor, dice: &'a mut Dice, ear: &'a Ear) -> Self {
        Self { traitor, dice, ear, chain: ear.follower.chain() }
    }

    /// n, f, q.
    pub(crate) fn quorum(&self) -> Quorum {
        self.traitor.lock.quorum()
    }

    /// Everybody else.
    pub(crate) fn others(&self) -> Vec<OperatorIndex> {
        self.traitor.others()
    }

    /// The height being agreed, as far as the chain was followed.
    pub(crate) fn instance(&self) -> InstanceId {
        InstanceId::Block(self.chain.tip().height.next())
    }

    /// The instance so many heights away.
    pub(crate) fn instance_at(&self, offset: i64) -> InstanceId {
        InstanceId::Block(Height(self.instance().number().saturating_add_signed(offset).max(1)))
    }

    pub(crate) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.ear.memory.lock()
    }

    /// What was said in the height being agreed.
    pub(crate) fn said(&self) -> Said {
        self.memory().said(self.instance())
    }

    /// Whether the traitor leads a round of an instance.
    pub(crate) fn leads(&self, instance: InstanceId, round: Round) -> bool {
        let policy = self.traitor.lock.lock().consensus.params.leader;
        elector(policy, self.quorum()).leader(instance, round) == self.traitor.index
    }

    /// The first round at or above this one that the traitor leads.
    pub(crate) fn next_led(&self, instance: InstanceId, from: Round) -> Round {
        (from.0..=u64::MAX).map(Round).find(|round| self.leads(instance, *round)).unwrap_or(from)
    }

    /// The digest proposed in the round, if any was heard; else one that nobody proposed.
    pub(crate) fn proposed_or_invented(&mut self, said: &Said) -> Digest {
        let proposed = said.proposals.get(&said.round).and_then(|digests| digests.first().copied());
        proposed.unwrap_or_else(|| self.invented())
    }

    /// A digest of nothing.
    pub(crate) fn invented(&mut self) -> Digest {
        Digest::from(self.dice.bytes::<32>())
    }

    /// A block that every honest operator would take from the leader; each `variant` is another one.
    pub(crate) fn block(&self, variant: u64) -> Option<Block> {
        let timestamp = self.chain.next_timestamp_ms(wall_ms()).saturating_add(variant);
        let policy = self.traitor.lock.lock().consensus.builder_policy_hash;
        let block = self.chain.build_block(self.traitor.index, timestamp, policy, Vec::new(), &[]);
        block.ok().map(|block| block.block().clone())
    }

    /// A proposal of this block under the traitor's signature.
    pub(crate) fn proposal(&self, round: Round, block: &Block, round_changes: Vec<Signed>) -> PrePrepare {
        let claim = Claim::PrePrepare(block.header.digest());
        PrePrepare {
            proposal: self.traitor.say(InstanceId::Block(block.header.height), round, claim),
            value: ValueBytes(block.as_ssz_bytes().into()),
            round_changes,
            prepares: Vec::new(),
        }
    }

    /// A ROUND-CHANGE of the traitor with this claim and this evidence.
    pub(crate) fn change(
        &self,
        instance: InstanceId,
        round: Round,
        prepared: Option<Prepared>,
        prepares: Vec<Signed>,
    ) -> RoundChange {
        let change = self.traitor.say(instance, round, Claim::RoundChange(RoundChangeClaim { prepared }));
        RoundChange { change, prepares }
    }
}

/// Something to send.
#[derive(Debug, Clone)]
pub struct Sending {
    /// To whom; none is everybody.
    pub(crate) to: Option<Vec<OperatorIndex>>,
    /// What.
    pub(crate) frame: Frame,
    /// On which way.
    pub(crate) way: Way,
}

/// How something is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// On the topic of consensus.
    Consensus,
    /// On the topic of transactions.
    Gossip,
    /// As a question, whose answer nobody waits for.
    Question,
}

impl Sending {
    /// A message to everybody.
    pub(crate) fn all(message: &Message) -> Self {
        Self::frame(frame_of(message))
    }

    /// A message to some.
    pub(crate) fn some(to: &[OperatorIndex], message: &Message) -> Self {
        Self { to: Some(to.to_vec()), ..Self::all(message) }
    }

    /// A frame as it is to everybody.
    pub(crate) fn frame(frame: Frame) -> Self {
        Self { to: None, frame, way: Way::Consensus }
    }

    /// A frame on the topic of transactions.
    pub(crate) fn gossip(frame: Frame) -> Self {
        Self { to: None, frame, way: Way::Gossip }
    }

    /// A question to everybody.
    pub(crate) fn question(question: &SyncRequest) -> Self {
        Self { to: None, frame: Frame::new(question.kind(), question.as_ssz_bytes()), way: Way::Question }
    }

    /// The consensus message in the frame.
    #[cfg(test)]
    pub(crate) fn message(&self) -> Message {
        aequa_types::decode("message", &self.frame.body, aequa_types::limits::CONSENSUS_FRAME_BYTES_MAX)
            .unwrap()
    }
}

/// The frame of a consensus message.
pub(crate) fn frame_of(message: &Message) -> Frame {
    Frame::new(message.kind().number, message.as_ssz_bytes())
}

/// Bytes without meaning: a random page over and over, because the receiver gains nothing from better ones.
pub(crate) fn junk(dice: &mut Dice, bytes: usize) -> Vec<u8> {
    let page = dice.bytes::<1024>();
    page.iter().copied().cycle().take(bytes).collect()
}
