//! What an attack finds when its turn comes.

use crate::ear::{Ear, Memory};
use crate::traitor::Traitor;
use aequa_byzantine::{Dice, Said, Unguarded as _};
use aequa_chain::Chain;
use aequa_node::wall_ms;
use aequa_p2p::Message as Frame;
use aequa_types::sync::SyncRequest;
use aequa_types::{
    Block, Decision, Digest, Height, InstanceId, Message, OperatorIndex, PrePrepare, Quorum, Round,
    ValueBytes,
};
use parking_lot::MutexGuard;
use ssz::Encode as _;
use std::collections::BTreeMap;

/// The moment an attack is played in.
pub struct Scene<'a> {
    /// Who plays.
    pub(crate) traitor: &'a Traitor,
    /// The chance.
    pub(crate) dice: &'a mut Dice,
    pub(crate) ear: &'a Ear,
    /// What was said in the height being agreed.
    pub(crate) said: Said,
    chain: Chain,
}

impl<'a> Scene<'a> {
    pub(crate) fn new(traitor: &'a Traitor, dice: &'a mut Dice, ear: &'a Ear) -> Self {
        let chain = ear.follower.chain();
        let instance = InstanceId::Block(chain.tip().height.next());
        let said = ear.memory.lock().heard.said(instance).cloned().unwrap_or_default();
        Self { traitor, dice, ear, said, chain }
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

    /// What an honest operator would vote for: what was proposed in the round, if that was heard; else what nobody
    /// proposed.
    pub(crate) fn vote(&mut self) -> Decision {
        let proposed = self.said.proposed.get(&self.said.round).and_then(|digests| digests.first().copied());
        let digest = proposed.unwrap_or_else(|| self.invented());
        Decision { instance: self.instance(), round: self.said.round, digest }
    }

    /// A digest of nothing.
    pub(crate) fn invented(&mut self) -> Digest {
        Digest::from(self.dice.bytes::<32>())
    }

    /// Bytes without meaning: a random page over and over, because the receiver gains nothing from better ones.
    pub(crate) fn junk(&mut self, bytes: usize) -> Vec<u8> {
        let page = self.dice.bytes::<1024>();
        page.iter().copied().cycle().take(bytes).collect()
    }

    /// A block that every honest operator would take from the leader.
    pub(crate) fn block(&self) -> Option<Block> {
        let timestamp = self.chain.next_timestamp_ms(wall_ms());
        let policy = self.traitor.lock.lock().consensus.builder_policy_hash;
        let block = self.chain.build_block(self.traitor.index, timestamp, policy, Vec::new(), &[]);
        block.ok().map(|block| block.block().clone())
    }

    /// A proposal of this block under the traitor's signature, justified by nothing.
    pub(crate) fn proposal(&self, round: Round, block: &Block) -> PrePrepare {
        let instance = InstanceId::Block(block.header.height);
        let of = Decision { instance, round, digest: block.header.digest() };
        self.traitor.propose(of, ValueBytes(block.as_ssz_bytes().into()))
    }

    /// What an honest leader would propose, when the traitor leads: above round 0 under a true justification for
    /// a fresh value, when everybody else gave one.
    pub(crate) fn honest_proposal(&self) -> Option<PrePrepare> {
        let (round, quorum) = (self.said.round, self.quorum().quorum());
        if !self.traitor.leads(self.instance(), round) {
            return None;
        }
        let mut round_changes = Vec::new();
        if round > Round(0) {
            let bare = self.said.changes.iter().filter(|message| message.prepares.is_empty());
            let changes = bare.map(|message| &message.change).filter(|change| change.round == round);
            let by_author: BTreeMap<_, _> = changes.map(|change| (change.author, change)).collect();
            if by_author.len() < quorum {
                return None;
            }
            round_changes.extend(by_author.into_values().take(quorum).cloned());
        }
        Some(PrePrepare { round_changes, ..self.proposal(round, &self.block()?) })
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
    Transactions,
    /// As a question, whose answer nobody waits for.
    Question,
}

impl Sending {
    /// A message to everybody.
    pub(crate) fn all(message: &Message) -> Self {
        Self::frame(Frame::new(message.kind().number, message.as_ssz_bytes()))
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
    pub(crate) fn transactions(frame: Frame) -> Self {
        Self { to: None, frame, way: Way::Transactions }
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
