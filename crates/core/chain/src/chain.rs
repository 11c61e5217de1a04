//! The tip, what may follow it, and the step to it.

use crate::evidence::{self, EvidenceRefusal};
use crate::execute::{evidence_rows, execute};
use crate::read::{Change, StateRead};
use crate::row::Row;
use crate::state::Prepared;
use crate::{ChainError, HeaderError, State, hash};
use aequa_types::block::{Items, LeaderProof, payload_root};
use aequa_types::evidence::{CheckedEvidence, Evidence, EvidenceList};
use aequa_types::{
    Address, Block, CheckedBlock, CheckedTransaction, ClusterId, Digest, Header, Height, OperatorIndex,
    Quorum, TimestampMs, Totals, TxKind,
};
use alloy_primitives::B256;
use std::sync::Arc;

/// How far a first proposal's timestamp may be ahead of the local clock, and at least behind it, in
/// milliseconds.
pub const FRESH_WITHIN_MS: u64 = 2_000;

/// What a value proposed for the first time is held against. One millisecond after its parent is always in time:
/// whatever clocks say, there is a block that nobody refuses for its timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// The local clock.
    pub now_ms: TimestampMs,
    /// How far the timestamp may be behind it, in milliseconds. It is never more than [`FRESH_WITHIN_MS`]
    /// ahead: messages take time, and honest clocks do not.
    pub behind_ms: u64,
}

/// The last block executed and the roots after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tip {
    /// Its height; 0 before any block.
    pub height: Height,
    /// Its digest; the cluster id at height 0.
    pub digest: Digest,
    /// Its timestamp; at height 0 when the cluster was made, if that was said.
    pub timestamp_ms: TimestampMs,
    /// State root after it.
    pub state_root: B256,
    /// History root after it.
    pub history_root: B256,
}

/// What executing a block changed; belongs into one batch with the block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Rows, pages of their tree and counts that change, each key once: the rows first, in the order of tables.
    pub changes: Vec<Change>,
    /// State root after the block.
    pub state_root: B256,
    /// History root after the block.
    pub history_root: B256,
}

/// The state after a block, and the rules for the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    cluster_id: ClusterId,
    quorum: Quorum,
    state: State,
    tip: Tip,
}

impl Chain {
    /// The chain before its first block, with its state in memory.
    pub fn genesis(cluster_id: ClusterId, quorum: Quorum) -> Self {
        let state = State::default();
        let state_root = state.root(&cluster_id, Height(0));
        let history_root = hash::history(&B256::ZERO, Height(0), &state_root);
        let tip = Tip { height: Height(0), digest: cluster_id, timestamp_ms: 0, state_root, history_root };
        Self { cluster_id, quorum, state, tip }
    }

    /// The same chain before its first block, begun at this time: no block is older.
    pub fn begun_at(mut self, timestamp_ms: TimestampMs) -> Self {
        self.tip.timestamp_ms = timestamp_ms;
        self
    }

    /// The chain whose state is stored up to `tip`. Refused unless it has exactly the root that the tip says; its rows
    /// are compared with it when they are about to change, and by [`State::check`].
    pub fn open(
        cluster_id: ClusterId,
        quorum: Quorum,
        stored: Arc<dyn StateRead>,
        tip: Tip,
    ) -> Result<Self, ChainError> {
        let state = State::open(stored)?;
        if let Some(stranger) = state.operators().find(|operator| !quorum.contains(*operator)) {
            return Err(HeaderError::NotAMember(stranger).into());
        }
        let found = state.root(&cluster_id, tip.height);
        if found != tip.state_root {
            return Err(ChainError::RootMismatch { found, stored: tip.state_root });
        }
        Ok(Self { cluster_id, quorum, state, tip })
    }

    /// The chain before its first block, whose state is going to be stored here.
    pub fn begin(
        cluster_id: ClusterId,
        quorum: Quorum,
        stored: Arc<dyn StateRead>,
    ) -> Result<Self, ChainError> {
        let genesis = Self::genesis(cluster_id, quorum);
        Self::open(cluster_id, quorum, stored, genesis.tip)
    }

    /// The cluster this chain belongs to.
    pub fn cluster_id(&self) -> &ClusterId {
        &self.cluster_id
    }

    /// The last block executed.
    pub fn tip(&self) -> &Tip {
        &self.tip
    }

    /// The state after it.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The nonce the next transaction of `sender` and `kind` must have.
    pub fn nonce(&self, sender: &Address, kind: TxKind) -> u64 {
        self.state.nonce(sender, kind)
    }

    /// The least timestamp at or after `now_ms` that the next block may have.
    pub fn next_timestamp_ms(&self, now_ms: TimestampMs) -> TimestampMs {
        now_ms.max(self.tip.timestamp_ms.saturating_add(1))
    }

    /// The next block with these items and this evidence, in this order. They are not checked here, only
    /// counted.
    pub fn build_block(
        &self,
        proposer: OperatorIndex,
        timestamp_ms: TimestampMs,
        policy_hash: B256,
        items: Vec<CheckedTransaction>,
        evidence: &[CheckedEvidence],
    ) -> Result<CheckedBlock, ChainError> {
        let totals = Totals::of(&items);
        let transactions: Vec<_> = items.iter().map(|tx| tx.transaction().clone()).collect();
        let list = Items::try_from(transactions).map_err(|_| ChainError::TooManyItems(items.len()))?;
        let pieces: Vec<Evidence> = evidence.iter().map(|piece| Evidence::clone(piece)).collect();
        let evidence =
            EvidenceList::try_from(pieces).map_err(|_| ChainError::TooMuchEvidence(evidence.len()))?;
        let mut block = Block {
            header: Header {
                cluster_id: self.cluster_id,
                height: self.tip.height.next(),
                parent_root: self.tip.digest,
                timestamp_ms,
                proposer,
                policy_hash,
                payload_root: B256::ZERO,
                evidence_root: B256::ZERO,
                state_root: self.tip.state_root,
                leader_proof: LeaderProof::default(),
                total_fees: totals.fees,
                total_bids: totals.bids,
                items: totals.items,
            },
            items: list,
            evidence,
        };
        block.header.payload_root = payload_root(&items);
        block.header.evidence_root = block.evidence_root();
        Ok(CheckedBlock::attest(block, items))
    }

    /// Whether a proposed block's header is the one the next block of `proposer` must have.
    ///
    /// `proposer` leads the round the value was first proposed in. `fresh` is given when the value is
    /// proposed for the first time, and `None` when it is proposed again: then no clock counts.
    pub fn check_header(
        &self,
        block: &CheckedBlock,
        proposer: OperatorIndex,
        policy_hash: B256,
        fresh: Option<Freshness>,
    ) -> Result<(), HeaderError> {
        let header = block.header();
        self.check_link(header)?;
        if header.proposer != proposer {
            return Err(HeaderError::Proposer { found: header.proposer, expected: proposer });
        }
        if header.policy_hash != policy_hash {
            return Err(HeaderError::Policy { found: header.policy_hash, expected: policy_hash });
        }
        let is_next_moment = header.timestamp_ms == self.next_timestamp_ms(0);
        if let Some(Freshness { now_ms, behind_ms }) = fresh.filter(|_| !is_next_moment) {
            let (oldest, newest) = (now_ms.saturating_sub(behind_ms), now_ms.saturating_add(FRESH_WITHIN_MS));
            if !(oldest..=newest).contains(&header.timestamp_ms) {
                return Err(HeaderError::NotFresh { found: header.timestamp_ms, oldest, newest });
            }
        }
        if !header.leader_proof.is_empty() {
            return Err(HeaderError::LeaderProof);
        }
        evidence::check_list(&self.state, self.tip.height, block.evidence())?;
        check_content(block)
    }

    /// Whether the next block may carry this piece of evidence.
    pub fn check_evidence(&self, evidence: &Evidence) -> Result<(), EvidenceRefusal> {
        evidence::check(&self.state, self.tip.height, &evidence.offence())
    }

    /// Executes a decided block. On an error nothing has changed.
    pub fn apply(&mut self, block: &CheckedBlock) -> Result<Applied, ChainError> {
        let header = block.header();
        self.check_link(header)?;
        let prepared = self.execute(block).map_err(|error| self.blamed(block, error))?;
        let state_root = prepared.root(&self.cluster_id, header.height);
        let history_root = hash::history(&self.tip.history_root, header.height, &state_root);
        let changes = self.state.take(header.height, prepared);
        self.tip = Tip {
            height: header.height,
            digest: block.digest(),
            timestamp_ms: header.timestamp_ms,
            state_root,
            history_root,
        };
        Ok(Applied { changes, state_root, history_root })
    }

    fn execute(&self, block: &CheckedBlock) -> Result<Prepared, ChainError> {
        let header = block.header();
        evidence::check_list(&self.state, self.tip.height, block.evidence()).map_err(HeaderError::from)?;
        let rows = execute(&self.state, block)?;
        let expired = evidence::expired_samples(&self.state, header.height, header.timestamp_ms);
        self.state.prepare(&rows, &expired)
    }

    /// Why a block cannot be executed: what is wrong with the rows it depends upon, if they are damaged.
    fn blamed(&self, block: &CheckedBlock, error: ChainError) -> ChainError {
        let nonces = block.items().iter().map(|item| item.body());
        let nonces = nonces.map(|body| Row::Nonce { sender: body.from(), kind: body.kind(), next: 0 });
        let mut rows = nonces.chain(evidence_rows(block));
        rows.find_map(|row| self.state.check_row(&row).err()).unwrap_or(error)
    }

    /// What makes a header the child of the tip; cheap, and checked before anything is executed.
    fn check_link(&self, header: &Header) -> Result<(), HeaderError> {
        if header.cluster_id != self.cluster_id {
            return Err(HeaderError::Cluster(header.cluster_id));
        }
        let expected = self.tip.height.next();
        if header.height != expected {
            return Err(HeaderError::Height { found: header.height, expected });
        }
        if header.parent_root != self.tip.digest {
            return Err(HeaderError::Parent { found: header.parent_root, expected: self.tip.digest });
        }
        if header.state_root != self.tip.state_root {
            return Err(HeaderError::StateRoot { found: header.state_root, expected: self.tip.state_root });
        }
        if header.timestamp_ms <= self.tip.timestamp_ms {
            let parent = self.tip.timestamp_ms;
            return Err(HeaderError::NotAfterParent { found: header.timestamp_ms, parent });
        }
        if !self.quorum.contains(header.proposer) {
            return Err(HeaderError::NotAMember(header.proposer));
        }
        Ok(())
    }
}

/// Whether the header describes the items, in both of their forms, and the evidence.
fn check_content(block: &CheckedBlock) -> Result<(), HeaderError> {
    let (header, items) = (block.header(), block.items());
    if Totals::of(items) != header.totals() {
        return Err(HeaderError::Totals);
    }
    let same = block.block().items.iter().eq(items.iter().map(CheckedTransaction::transaction));
    if !same || payload_root(items) != header.payload_root {
        return Err(HeaderError::PayloadRoot);
    }
    if block.block().evidence_root() != header.evidence_root {
        return Err(HeaderError::EvidenceRoot);
    }
    Ok(())
}
