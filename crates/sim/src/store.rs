//! The simulated block store: buffered, it loses a suffix of its writes in a crash.

use crate::dice::Dice;
use aequa_chain::{Applied, Chain, ChainError, Tip};
use aequa_replica::Recall;
use aequa_types::message::ValueReply;
use aequa_types::{
    Certificate, CheckedBlock, CheckedEvidence, ClusterId, Decided, Domain, Height, InstanceId, Message,
    Quorum, Value,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A block as stored.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) block: Arc<CheckedBlock>,
    pub(crate) certificate: Certificate,
    pub(crate) applied: Applied,
}

#[derive(Debug, Clone)]
enum Write {
    Block(Box<Stored>),
    Certificate(Certificate),
    /// The end of a duty, its decision if there is one, and the watermark of its domain.
    Duty(InstanceId, Option<(Value, Certificate)>, Option<Height>),
    Evidence(Vec<CheckedEvidence>),
}

/// The block store of one node: a journal of writes of which a prefix is durable.
#[derive(Debug, Clone, Default)]
pub(crate) struct Store {
    journal: Vec<Write>,
    flushed: usize,
    blocks: BTreeMap<Height, Stored>,
    duties: BTreeMap<InstanceId, Option<(Value, Certificate)>>,
    watermarks: BTreeMap<Domain, Height>,
    evidence: Vec<CheckedEvidence>,
}

impl Store {
    pub(crate) fn put_block(&mut self, stored: Stored) {
        self.write(Write::Block(Box::new(stored)));
    }

    pub(crate) fn put_certificate(&mut self, certificate: Certificate) {
        self.write(Write::Certificate(certificate));
    }

    /// The end of a duty, durable at once.
    pub(crate) fn put_duty(
        &mut self,
        instance: InstanceId,
        decided: Option<(Value, Certificate)>,
        watermark: Option<Height>,
    ) {
        self.write(Write::Duty(instance, decided, watermark));
        self.flush();
    }

    /// What is stored of a closed duty for an operator that missed it.
    pub(crate) fn recall_duty(&self, instance: InstanceId, recall: Recall) -> Option<Message> {
        let (value, certificate) = self.duties.get(&instance)?.clone()?;
        match recall {
            Recall::Certificate => Some(Message::Decided(Decided { certificate })),
            Recall::Value(digest) => (certificate.digest == digest)
                .then(|| Message::ValueReply(ValueReply { instance, value: value.bytes().clone() })),
        }
    }

    /// The certificate of a duty that was decided.
    pub(crate) fn duty_certificate(&self, instance: InstanceId) -> Option<&Certificate> {
        self.duties.get(&instance)?.as_ref().map(|(_, certificate)| certificate)
    }

    /// All the evidence that is pending.
    pub(crate) fn put_evidence(&mut self, evidence: Vec<CheckedEvidence>) {
        self.write(Write::Evidence(evidence));
    }

    pub(crate) fn evidence(&self) -> Vec<CheckedEvidence> {
        self.evidence.clone()
    }

    pub(crate) fn flush(&mut self) {
        self.flushed = self.journal.len();
    }

    /// Writes made so far.
    pub(crate) fn writes(&self) -> usize {
        self.journal.len()
    }

    /// What a flush covers that began when there were `writes`.
    pub(crate) fn flush_first(&mut self, writes: usize) {
        self.flushed = self.flushed.max(writes.min(self.journal.len()));
    }

    /// Loses a random suffix of what was not flushed; returns how many blocks went.
    pub(crate) fn crash(&mut self, dice: &mut Dice) -> usize {
        let before = self.blocks.len();
        let kept = dice.between(self.flushed as u64, self.journal.len() as u64) as usize;
        let mut journal = std::mem::take(&mut self.journal);
        journal.truncate(kept);
        *self = Self::default();
        for write in journal {
            self.write(write);
        }
        self.flush();
        before - self.blocks.len()
    }

    /// Forgets everything.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }

    /// The highest decided instance of each domain.
    pub(crate) fn certified(&self) -> Vec<InstanceId> {
        let block = Some(InstanceId::block(self.tip())).filter(|block| block.height > Height(0));
        block.into_iter().chain(self.newest_duties()).collect()
    }

    /// The highest decided duty of each domain.
    pub(crate) fn newest_duties(&self) -> Vec<InstanceId> {
        let newest_duty = |domain: &Domain| {
            let decided = self.duties.iter().rev().filter(|(_, decided)| decided.is_some());
            decided.map(|(instance, _)| *instance).find(|instance| instance.domain == *domain)
        };
        Domain::ALL.iter().filter(|domain| **domain != Domain::Block).filter_map(newest_duty).collect()
    }

    pub(crate) fn block(&self, height: Height) -> Option<&Stored> {
        self.blocks.get(&height)
    }

    pub(crate) fn tip(&self) -> Height {
        self.blocks.last_key_value().map_or(Height(0), |(height, _)| *height)
    }

    /// Whether this instance is over here.
    pub(crate) fn has(&self, instance: InstanceId) -> bool {
        match instance.domain {
            Domain::Block => instance.height <= self.tip(),
            Domain::Attester | Domain::Proposer | Domain::Sync => self.duties.contains_key(&instance),
        }
    }

    /// Duties that ended above the watermarks.
    pub(crate) fn duties(&self) -> Vec<InstanceId> {
        let is_above = |id: &InstanceId| self.watermarks.get(&id.domain).is_none_or(|mark| id.height > *mark);
        self.duties.keys().copied().filter(is_above).collect()
    }

    /// Slots up to which all duties of a domain are closed.
    pub(crate) fn watermarks(&self) -> Vec<(Domain, Height)> {
        self.watermarks.iter().map(|(domain, mark)| (*domain, *mark)).collect()
    }

    /// Certificates of the newest `count` blocks and `count` duties that have no group seal.
    pub(crate) fn unsealed(&self, count: usize) -> Vec<Certificate> {
        let blocks = self.blocks.values().rev().take(count).map(|stored| &stored.certificate);
        let duties = self.duties.values().rev().take(count).flatten().map(|(_, certificate)| certificate);
        blocks.chain(duties).filter(|known| known.group_seal().is_none()).cloned().collect()
    }

    /// The chain as a restarting node reads it.
    pub(crate) fn chain(&self, cluster: ClusterId, quorum: Quorum) -> Result<Chain, ChainError> {
        let Some(last) = self.blocks.values().next_back() else {
            return Ok(Chain::genesis(cluster, quorum));
        };
        let mut rows: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        for stored in self.blocks.values() {
            stored.applied.removed_rows.iter().for_each(|key| drop(rows.remove(key)));
            rows.extend(stored.applied.changed_rows.iter().cloned());
        }
        let tip = Tip {
            height: last.block.header().height,
            digest: last.block.digest(),
            timestamp_ms: last.block.header().timestamp_ms,
            state_root: last.applied.state_root,
            history_root: last.applied.history_root,
        };
        Chain::restore(cluster, quorum, rows, tip)
    }

    fn write(&mut self, write: Write) {
        match &write {
            Write::Block(stored) => {
                self.blocks.insert(stored.block.header().height, (**stored).clone());
            }
            Write::Certificate(certificate) => {
                let known = match certificate.instance.domain {
                    Domain::Block => self
                        .blocks
                        .get_mut(&certificate.instance.height)
                        .map(|stored| &mut stored.certificate),
                    Domain::Attester | Domain::Proposer | Domain::Sync => {
                        let decided = self.duties.get_mut(&certificate.instance).and_then(Option::as_mut);
                        decided.map(|(_, certificate)| certificate)
                    }
                };
                if let Some(known) = known {
                    *known = certificate.clone();
                }
            }
            Write::Duty(instance, decided, watermark) => {
                let sealed =
                    self.duty_certificate(*instance).is_some_and(|known| known.group_seal().is_some());
                if !sealed {
                    self.duties.insert(*instance, decided.clone());
                }
                self.watermarks.extend(watermark.map(|mark| (instance.domain, mark)));
            }
            Write::Evidence(evidence) => self.evidence.clone_from(evidence),
        }
        self.journal.push(write);
    }
}
