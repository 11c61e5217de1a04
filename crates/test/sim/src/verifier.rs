//! From messages as they travel to verified ones: the checks a node makes before its core sees
//! anything, over the simulator's own keys.

use crate::keys;
use aequa_types::limits::{HEIGHT_MAX, VALUE_BYTES_MAX};
use aequa_types::message::ValueReply;
use aequa_types::{
    Block, Certificate, CheckedBlock, CheckedTransaction, ClusterId, Evidence, InstanceId, Kind, Message,
    OperatorIndex, PrePrepare, Proof, Quorum, Round, Signed, Value, ValueBytes, Verified,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Values remembered, so that a proposal is decoded and hashed once and not once per receiver.
const VALUES_REMEMBERED_MAX: usize = 1024;

/// Checks messages of one cluster.
pub(crate) struct Verifier {
    cluster: ClusterId,
    quorum: Quorum,
    values: BTreeMap<(InstanceId, ValueBytes), Option<Value>>,
}

impl Verifier {
    pub(crate) fn new(cluster: ClusterId, quorum: Quorum) -> Self {
        Self { cluster, quorum, values: BTreeMap::new() }
    }

    /// The verified form, or none when a node would turn the message away.
    pub(crate) fn message(&mut self, message: Message) -> Option<Verified> {
        match message {
            Message::PrePrepare(message) => self.proposal(message),
            Message::Prepare(vote) => self.statement(&vote, Kind::Prepare).then_some(Verified::Prepare(vote)),
            Message::Commit(vote) => self.statement(&vote, Kind::Commit).then_some(Verified::Commit(vote)),
            Message::RoundChange(message) => {
                let instance = message.change.instance;
                let good = self.statement(&message.change, Kind::RoundChange)
                    && self.elements(&message.prepares, Kind::Prepare, instance);
                good.then_some(Verified::RoundChange(message))
            }
            Message::Decided(decided) => {
                self.certificate(&decided.certificate).then_some(Verified::Decided(decided.certificate))
            }
            Message::ValueRequest(request) => Some(Verified::ValueRequest(request)),
            Message::ValueReply(ValueReply { instance, value }) => {
                Some(Verified::ValueReply { instance, value: self.value(instance, value)? })
            }
        }
    }

    /// Whether a certificate holds.
    pub(crate) fn certificate(&self, certificate: &Certificate) -> bool {
        match &certificate.proof {
            Proof::Group(seal) => *seal == keys::group_seal(certificate.decision()),
            Proof::Commits(commits) => {
                commits.len() >= self.quorum.quorum()
                    && commits.windows(2).all(|pair| pair[0].operator < pair[1].operator)
                    && certificate.commits().iter().all(|signed| self.statement(signed, Kind::Commit))
            }
        }
    }

    /// A fetched block with its certificate.
    pub(crate) fn certified(&self, block: &CheckedBlock, certificate: &Certificate) -> bool {
        certificate.instance == InstanceId::Block(block.header().height)
            && certificate.digest == block.digest()
            && self.certificate(certificate)
    }

    /// Decodes a value and checks what can be checked of it alone.
    pub(crate) fn value(&mut self, instance: InstanceId, bytes: ValueBytes) -> Option<Value> {
        if bytes.0.is_empty() || bytes.0.len() > VALUE_BYTES_MAX {
            return None;
        }
        if let InstanceId::Duty(duty) = instance {
            return Some(Value::duty(duty, bytes));
        }
        if let Some(known) = self.values.get(&(instance, bytes.clone())) {
            return known.clone();
        }
        let value = self.block(instance, &bytes).map(|block| Value::block(Arc::new(block)));
        if self.values.len() >= VALUES_REMEMBERED_MAX {
            self.values.clear();
        }
        self.values.insert((instance, bytes), value.clone());
        value
    }

    /// Whether the operator a piece of evidence accuses has signed both of its statements.
    pub(crate) fn evidence(&self, evidence: &Evidence) -> bool {
        [evidence.first(), evidence.second()].into_iter().all(|signed| self.statement(signed, signed.kind()))
    }

    fn block(&self, instance: InstanceId, bytes: &ValueBytes) -> Option<CheckedBlock> {
        let block: Block = aequa_types::decode("block", &bytes.0, VALUE_BYTES_MAX).ok()?;
        let header = &block.header;
        let good = InstanceId::Block(header.height) == instance
            && header.cluster_id == self.cluster
            && self.quorum.contains(header.proposer)
            && header.items == block.items.len() as u64
            && header.evidence_root == block.evidence_root()
            && block.evidence.iter().all(|evidence| self.evidence(evidence))
            && header.payload_root == block.payload_root();
        let items = block.items.iter().cloned().map(CheckedTransaction::attest).collect();
        good.then(|| CheckedBlock::attest(block, items))
    }

    fn proposal(&mut self, message: PrePrepare) -> Option<Verified> {
        let PrePrepare { proposal, value, round_changes, prepares } = message;
        let instance = proposal.instance;
        let good = self.statement(&proposal, Kind::PrePrepare)
            && (proposal.round > Round(0) || (round_changes.is_empty() && prepares.is_empty()))
            && self.elements(&round_changes, Kind::RoundChange, instance)
            && round_changes.iter().all(|change| change.round == proposal.round)
            && self.elements(&prepares, Kind::Prepare, instance);
        if !good {
            return None;
        }
        let value = self.value(instance, value)?;
        let proposed = proposal.digest() == Some(value.digest());
        proposed.then_some(Verified::PrePrepare { proposal, value, round_changes, prepares })
    }

    fn statement(&self, signed: &Signed, kind: Kind) -> bool {
        let lowest = u64::from(signed.instance.is_block());
        signed.kind() == kind
            && self.quorum.contains(signed.author)
            && (lowest..=HEIGHT_MAX).contains(&signed.instance.number())
            && signed.round.0 <= HEIGHT_MAX
            && keys::holds(signed)
    }

    fn elements(&self, elements: &[Signed], kind: Kind, instance: InstanceId) -> bool {
        let authors: BTreeSet<OperatorIndex> = elements.iter().map(|element| element.author).collect();
        authors.len() == elements.len()
            && elements.iter().all(|element| element.instance == instance && self.statement(element, kind))
    }
}
