//! Simulated storage: a vote log whose unsynced suffix may be lost or torn, and a buffered block
//! store that loses a suffix of its operations.

use crate::dice::Dice;
use aequa_chain::{Applied, Chain, ChainError, Tip};
use aequa_types::{
    Certificate, CheckedBlock, CheckedEvidence, ClusterId, Domain, Height, InstanceId, Quorum, Record,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The vote log of one node.
#[derive(Debug, Default)]
pub(crate) struct VoteLog {
    durable: Vec<Record>,
    unsynced: Vec<Record>,
    /// Block heights with a durable decision.
    decided: BTreeSet<Height>,
}

impl VoteLog {
    pub(crate) fn append(&mut self, record: Record) {
        self.unsynced.push(record);
    }

    /// Makes everything durable; returns what was not before.
    pub(crate) fn sync(&mut self) -> &[Record] {
        let before = self.durable.len();
        self.durable.append(&mut self.unsynced);
        for record in &self.durable[before..] {
            if let Record::Decided(certificate) = record
                && certificate.instance.domain == Domain::Block
            {
                self.decided.insert(certificate.instance.height);
            }
        }
        &self.durable[before..]
    }

    /// Loses a random suffix of what was not synced; returns how many records stayed and went.
    pub(crate) fn crash(&mut self, dice: &mut Dice) -> (usize, usize) {
        let total = self.unsynced.len();
        let kept = dice.between(0, total as u64) as usize;
        self.unsynced.truncate(kept);
        self.sync();
        (kept, total - kept)
    }

    /// Every durable record, oldest first.
    pub(crate) fn records(&self) -> &[Record] {
        &self.durable
    }

    /// Whether the decision of this block is in the log.
    pub(crate) fn has_decided(&self, height: Height) -> bool {
        self.decided.contains(&height)
    }

    /// Drops records of instances that are durable elsewhere.
    pub(crate) fn prune_below(&mut self, lowest: impl Fn(Domain) -> Height) {
        self.durable.retain(|record| {
            let instance = record.instance();
            instance.height >= lowest(instance.domain)
        });
        self.decided = self.decided.split_off(&lowest(Domain::Block));
    }

    /// Sabotage: forgets everything.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }
}

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
    Duty(InstanceId),
    Evidence(Vec<CheckedEvidence>),
}

/// The block store of one node: a journal of writes of which a prefix is durable.
#[derive(Debug, Default)]
pub(crate) struct Store {
    journal: Vec<Write>,
    flushed: usize,
    blocks: BTreeMap<Height, Stored>,
    duties: BTreeSet<InstanceId>,
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
    pub(crate) fn put_duty(&mut self, instance: InstanceId) {
        self.write(Write::Duty(instance));
        self.flush();
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

    /// Sabotage: forgets everything.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn block(&self, height: Height) -> Option<&Stored> {
        self.blocks.get(&height)
    }

    pub(crate) fn tip(&self) -> Height {
        self.blocks.last_key_value().map_or(Height(0), |(height, _)| *height)
    }

    /// Duties that ended.
    pub(crate) fn duties(&self) -> Vec<InstanceId> {
        self.duties.iter().copied().collect()
    }

    /// Certificates of the newest `count` blocks that have no group seal.
    pub(crate) fn unsealed(&self, count: usize) -> Vec<Certificate> {
        let newest = self.blocks.values().rev().take(count);
        newest.map(|stored| &stored.certificate).filter(|c| c.group_seal().is_none()).cloned().collect()
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
                if let Some(stored) = self.blocks.get_mut(&certificate.instance.height) {
                    stored.certificate = certificate.clone();
                }
            }
            Write::Duty(instance) => {
                self.duties.insert(*instance);
            }
            Write::Evidence(evidence) => self.evidence.clone_from(evidence),
        }
        self.journal.push(write);
    }
}
