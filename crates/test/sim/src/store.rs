//! The simulated block store: buffered, it loses a suffix of its writes in a crash.

use aequa_byzantine::Dice;
use aequa_chain::{
    Applied, Chain, ChainError, Change, MemoryState, State as Tree, StateRead, StoredRow, Tip, Transfer,
};
use aequa_types::{
    Certificate, CheckedBlock, CheckedEvidence, ClusterId, DutyId, DutyKind, DutyOutcome, Height, InstanceId,
    Message, OperatorIndex, Quorum, Recall, Slot,
};
use alloy_primitives::B256;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

/// A block as stored.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) block: Arc<CheckedBlock>,
    pub(crate) certificate: Certificate,
    pub(crate) applied: Applied,
}

impl Stored {
    fn height(&self) -> Height {
        self.block.header().height
    }
}

#[derive(Debug, Clone)]
enum Write {
    /// A block without those before it, and the state after it.
    State(Box<Stored>, Vec<Change>),
    Block(Box<Stored>),
    Certificate(Certificate),
    /// The end of a duty, and the watermark of its kind.
    Duty(DutyId, DutyOutcome, Option<Slot>),
    Evidence(Vec<CheckedEvidence>),
}

/// The state of one node as it is stored.
#[derive(Debug, Default)]
struct State {
    entries: RwLock<MemoryState>,
    /// Whether nothing of it can be read.
    fails: AtomicBool,
}

impl State {
    fn write(&self, height: Height, changes: &[Change]) {
        self.entries.write().unwrap_or_else(PoisonError::into_inner).write(height, changes);
    }

    fn read(&self) -> RwLockReadGuard<'_, MemoryState> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_readable(&self) -> bool {
        !self.fails.load(Ordering::Relaxed)
    }
}

/// A state, of which a copy of the store has its own.
#[derive(Debug, Default)]
struct Kept(Arc<State>);

impl Clone for Kept {
    fn clone(&self) -> Self {
        Self(Arc::new(State { entries: RwLock::new(self.0.read().clone()), ..State::default() }))
    }
}

impl StateRead for State {
    fn height(&self) -> Height {
        self.read().height()
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.is_readable().then(|| self.read().get(key))?
    }

    fn above(&self, key: &[u8]) -> Option<StoredRow> {
        self.is_readable().then(|| self.read().above(key))?
    }
}

/// The block store of one node: a journal of writes of which a prefix is durable.
#[derive(Debug, Clone, Default)]
pub(crate) struct Store {
    journal: Vec<Write>,
    flushed: usize,
    blocks: BTreeMap<Height, Stored>,
    /// What the node's chain reads. A crash leaves it to the chain that was, and begins another.
    state: Kept,
    /// The root of the state, where that is not what the last block made of it.
    spoiled: Option<B256>,
    duties: BTreeMap<DutyId, DutyOutcome>,
    watermarks: BTreeMap<DutyKind, Slot>,
    evidence: Vec<CheckedEvidence>,
}

/// Bytes of rows in a part of a state that is given to another node.
const PART_BYTES: usize = 200;

impl Store {
    /// Begins again with the state after a block, as another node has given it.
    pub(crate) fn begin_with(&mut self, (block, state): (Stored, Vec<Change>)) {
        self.forget();
        self.write(Write::State(Box::new(block), state));
        self.flush();
    }

    /// The state after a block that the next one certifies: given in parts, and taken as a newcomer takes them.
    pub(crate) fn give(&self, cluster: &ClusterId, height: Height) -> Option<(Stored, Vec<Change>)> {
        let (block, next) = (self.block(height)?, self.block(height.next())?);
        let mut entries = MemoryState::default();
        for write in &self.journal {
            match write {
                Write::State(first, state) if first.height() <= height => {
                    entries.write(first.height(), state)
                }
                Write::Block(block) if block.height() <= height => {
                    entries.write(block.height(), &block.applied.changes);
                }
                Write::State(..) | Write::Block(_) => {}
                Write::Certificate(_) | Write::Duty(..) | Write::Evidence(_) => {}
            }
        }
        let tree = Tree::open(Arc::new(entries)).ok()?;
        let certified = next.block.header().state_root;
        let mut transfer =
            Transfer::begin(cluster, height, certified, &tree.counts(), tree.tree_root()).ok()?;
        let mut taken = Vec::new();
        while let Some(place) = transfer.wanted(1).first().copied() {
            taken.extend(transfer.take(place, &tree.part(place, PART_BYTES).ok()?).ok()?);
        }
        taken.push(transfer.finish());
        Some((block.clone(), taken))
    }

    /// Whether it has every block from the first one on.
    pub(crate) fn is_whole(&self) -> bool {
        self.blocks.first_key_value().is_none_or(|(height, _)| *height == Height(1))
    }

    pub(crate) fn put_block(&mut self, stored: Stored) {
        self.write(Write::Block(Box::new(stored)));
    }

    /// Whether reads of the state give nothing from now on.
    pub(crate) fn fail_reads(&self, fails: bool) {
        self.state.0.fails.store(fails, Ordering::Relaxed);
    }

    pub(crate) fn put_certificate(&mut self, certificate: Certificate) {
        self.write(Write::Certificate(certificate));
    }

    /// The end of a duty, durable at once.
    pub(crate) fn put_duty(&mut self, duty: DutyId, outcome: DutyOutcome, watermark: Option<Slot>) {
        self.write(Write::Duty(duty, outcome, watermark));
        self.flush();
    }

    /// What is stored of a closed duty for an operator that missed it.
    pub(crate) fn recall_duty(&self, duty: DutyId, recall: Recall) -> Option<Message> {
        self.duties.get(&duty)?.recall(duty, recall)
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

    /// Changes what is stored of the state, with a root that fits; false where there is none yet.
    pub(crate) fn spoil(&mut self, cluster: ClusterId, quorum: Quorum) -> bool {
        let spoiled = self.chain(cluster, quorum, self.state()).and_then(|mut chain| {
            let at_ms = chain.next_timestamp_ms(0);
            let block = chain.build_block(OperatorIndex(0), at_ms, cluster, Vec::new(), &[])?;
            let changes = chain.apply(&block)?.changes;
            Ok((changes, chain.state().root(&cluster, self.tip())))
        });
        let Some((changes, root)) = spoiled.ok().filter(|_| self.tip() > Height(0)) else { return false };
        self.state.0.write(self.tip(), &changes);
        self.spoiled = Some(root);
        true
    }

    /// Whether the state is not the one that was written.
    pub(crate) fn is_spoiled(&self) -> bool {
        self.spoiled.is_some()
    }

    /// Forgets everything.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }

    /// The highest decided instance of each domain.
    pub(crate) fn certified(&self) -> Vec<InstanceId> {
        let block = Some(self.tip()).filter(|tip| *tip > Height(0)).map(InstanceId::Block);
        block.into_iter().chain(self.newest_duties().into_iter().map(InstanceId::from)).collect()
    }

    /// The highest decided duty of each kind.
    pub(crate) fn newest_duties(&self) -> Vec<DutyId> {
        let newest_duty = |kind: DutyKind| {
            let decided = self.duties.iter().rev().filter(|(_, outcome)| outcome.decided.is_some());
            decided.map(|(duty, _)| *duty).find(|duty| duty.kind == kind)
        };
        DutyKind::ALL.into_iter().filter_map(newest_duty).collect()
    }

    pub(crate) fn block(&self, height: Height) -> Option<&Stored> {
        self.blocks.get(&height)
    }

    pub(crate) fn tip(&self) -> Height {
        self.blocks.last_key_value().map_or(Height(0), |(height, _)| *height)
    }

    /// Whether this instance is over here.
    pub(crate) fn has(&self, instance: InstanceId) -> bool {
        match instance {
            InstanceId::Block(height) => height <= self.tip(),
            InstanceId::Duty(duty) => self.duties.contains_key(&duty),
        }
    }

    /// Duties that ended above the watermarks.
    pub(crate) fn duties(&self) -> Vec<DutyId> {
        let is_above =
            |duty: &DutyId| self.watermarks.get(&duty.kind).is_none_or(|watermark| duty.slot > *watermark);
        self.duties.keys().copied().filter(is_above).collect()
    }

    /// The duties up to which all of their kind are closed.
    pub(crate) fn watermarks(&self) -> Vec<DutyId> {
        self.watermarks.iter().map(|(kind, slot)| DutyId { kind: *kind, slot: *slot }).collect()
    }

    /// Certificates of the newest `count` blocks and `count` duties that have no group seal.
    pub(crate) fn unsealed(&self, count: usize) -> Vec<Certificate> {
        let blocks = self.blocks.values().rev().take(count).map(|stored| &stored.certificate);
        let duties = self.duties.values().rev().take(count).filter_map(DutyOutcome::certificate);
        blocks.chain(duties).filter(|known| known.group_seal().is_none()).cloned().collect()
    }

    /// Its state, for a chain.
    pub(crate) fn state(&self) -> Arc<dyn StateRead> {
        Arc::<State>::clone(&self.state.0)
    }

    /// The chain as a restarting node reads it, over this state.
    pub(crate) fn chain(
        &self,
        cluster: ClusterId,
        quorum: Quorum,
        state: Arc<dyn StateRead>,
    ) -> Result<Chain, ChainError> {
        let Some(last) = self.blocks.values().next_back() else {
            return Chain::begin(cluster, quorum, state);
        };
        let tip = Tip {
            height: last.block.header().height,
            digest: last.block.digest(),
            timestamp_ms: last.block.header().timestamp_ms,
            state_root: self.spoiled.unwrap_or(last.applied.state_root),
            history_root: last.applied.history_root,
        };
        Chain::open(cluster, quorum, state, tip)
    }

    fn write(&mut self, write: Write) {
        match &write {
            Write::State(stored, state) => {
                self.state.0.write(stored.height(), state);
                self.blocks.insert(stored.height(), (**stored).clone());
            }
            Write::Block(stored) => {
                let height = stored.height();
                self.state.0.write(height, &stored.applied.changes);
                self.blocks.insert(height, (**stored).clone());
            }
            Write::Certificate(certificate) => {
                match certificate.instance {
                    InstanceId::Block(height) => {
                        if let Some(stored) = self.blocks.get_mut(&height) {
                            stored.certificate = certificate.clone();
                        }
                    }
                    InstanceId::Duty(duty) => {
                        self.duties.get_mut(&duty).map(|outcome| outcome.seal(certificate));
                    }
                };
            }
            Write::Duty(duty, outcome, watermark) => {
                let is_sealed = self.duties.get(duty).is_some_and(DutyOutcome::is_sealed);
                if !is_sealed {
                    self.duties.insert(*duty, outcome.clone());
                }
                self.watermarks.extend(watermark.map(|watermark| (duty.kind, watermark)));
            }
            Write::Evidence(evidence) => self.evidence.clone_from(evidence),
        }
        self.journal.push(write);
    }
}
