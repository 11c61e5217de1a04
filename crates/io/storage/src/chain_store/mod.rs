//! Blocks, certificates, state rows, duty results and evidence that waits for its block.
//!
//! One batch per block: header and roots, body, certificate, transaction index and what changes in the state become
//! visible together or not at all. Headers are apart from bodies: who lists or follows the chain reads
//! no body. Heights have no gaps, every block names the
//! one before as its parent, and the first block stored at a height stays.
//!
//! [`ChainStore::commit`] is buffered by the operating system: it survives the end of the process, not
//! a power cut. Until [`ChainStore::flush`] the vote log must keep what it says about newer heights.
//! After a power cut the store holds a prefix of what was committed, never part of a block; where
//! a disk lost the middle of the engine's journal the store refuses to open, and the chain is
//! fetched again from the peers.
//!
//! A store may begin with a state that came from elsewhere ([`ChainDraft`]); then it has no blocks before it.

mod cipher;
mod draft;
mod engine;
mod keys;
mod options;
mod state;
mod table;
#[cfg(test)]
mod tests;

pub use aequa_chain::Tip;
pub use cipher::StoreKey;
pub use draft::{ChainDraft, install};
pub use engine::FjallChainStore;
pub use options::ChainOptions;
pub use state::StateAt;

use crate::StorageError;
use aequa_chain::Change;
use aequa_types::{
    Block, Certificate, CertifiedBlock, CertifiedHeader, DutyId, DutyKind, Evidence, Header, Height, Slot,
    TxHash,
};
use alloy_primitives::B256;

/// The result of a duty, opaque to the store.
pub type DutyRow = (DutyId, Vec<u8>);
/// Results that one search for duties looks at, to the end of a slot: a few milliseconds, however rare the type is
/// that is searched for.
pub const DUTIES_SEARCHED_MAX: usize = 10_000;

/// Everything one decided block changes.
#[derive(Debug, Clone, Copy)]
pub struct BlockCommit<'a> {
    /// The block.
    pub block: &'a Block,
    /// Why it is believed; for this block.
    pub certificate: &'a Certificate,
    /// Hashes of the block's items, in their order.
    pub tx_hashes: &'a [TxHash],
    /// What changes in the state.
    pub changes: &'a [Change],
    /// State root after the block.
    pub state_root: B256,
    /// Chained root over all states up to this one.
    pub history_root: B256,
}

/// What a commit did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// The block is new and is now the tip.
    New,
    /// The block was there already; nothing changed.
    Same,
}

/// State and history root of a height.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roots {
    /// State root after the block.
    pub state_root: B256,
    /// Chained root over all states up to this one.
    pub history_root: B256,
}

/// Where the chain is kept. Calls block; readers see whole commits only.
pub trait ChainStore: Send + Sync {
    /// Stores the next block with all it changes, in one batch. The same block again is no change.
    ///
    /// Errors change nothing: another block at the height ([`StorageError::Conflict`]), a gap, a
    /// wrong parent, or parts that do not belong together.
    fn commit(&self, commit: &BlockCommit<'_>) -> Result<Committed, StorageError>;

    /// Replaces a certificate of commits by one with the group seal. Gives whether it did: a group
    /// seal stays, and commits never replace anything. Another digest is a conflict.
    fn put_certificate(&self, height: Height, certificate: &Certificate) -> Result<bool, StorageError>;

    /// The block at a height with its certificate.
    fn block(&self, height: Height) -> Result<Option<CertifiedBlock>, StorageError>;

    /// Header and certificate at a height; the body is not read.
    fn certified_header(&self, height: Height) -> Result<Option<CertifiedHeader>, StorageError>;

    /// Headers from a height upwards, at most `limit`; no body is read.
    fn headers(&self, from: Height, limit: usize) -> Result<Vec<Header>, StorageError>;

    /// The last block; `None` before the first.
    fn latest(&self) -> Result<Option<Tip>, StorageError>;

    /// Roots after the block at a height.
    fn roots(&self, height: Height) -> Result<Option<Roots>, StorageError>;

    /// Height and position of a transaction that was included.
    fn transaction(&self, hash: &TxHash) -> Result<Option<(Height, u32)>, StorageError>;

    /// Replaces the evidence that waits to be committed, which is all or nothing. It survives the end of the
    /// process, and a power cut after [`ChainStore::flush`].
    fn put_pending_evidence(&self, evidence: &[Evidence]) -> Result<(), StorageError>;

    /// The evidence that waits to be committed.
    fn pending_evidence(&self) -> Result<Vec<Evidence>, StorageError>;

    /// Keeps the result of a duty. A later result of the same duty takes its place: a result is a
    /// report, what was decided is in the certificate.
    fn put_duty(&self, duty: DutyId, result: &[u8]) -> Result<(), StorageError>;

    /// Keeps the result of a duty that is closed for ever, and in the same batch the slot up to which
    /// every duty of its kind is. The stored watermark never goes down.
    fn close_duty(&self, duty: DutyId, result: &[u8], watermark: Option<Slot>) -> Result<(), StorageError>;

    /// The watermark of every kind that has one: all duties up to it are closed.
    fn duty_watermarks(&self) -> Result<Vec<DutyId>, StorageError>;

    /// Every duty with a result above the watermark of its kind; no result is read.
    fn closed_duties(&self) -> Result<Vec<DutyId>, StorageError>;

    /// The result of a duty.
    fn duty(&self, duty: DutyId) -> Result<Option<Vec<u8>>, StorageError>;

    /// Results from the newest slot down: of one kind or all, below `before` if given, at most
    /// `limit`.
    fn duties(
        &self,
        kind: Option<DutyKind>,
        before: Option<Slot>,
        limit: usize,
    ) -> Result<Vec<DutyRow>, StorageError>;

    /// The duties [`ChainStore::duties`] would give, of the newest [`DUTIES_SEARCHED_MAX`] results of all kinds
    /// below `before`; no result is read. When that was too few to find them, the slot down to which all were
    /// looked at: there the next search begins.
    fn duty_instances(
        &self,
        kind: Option<DutyKind>,
        before: Option<Slot>,
        limit: usize,
    ) -> Result<(Vec<DutyId>, Option<Slot>), StorageError>;

    /// Forgets the results of all duties below `slot`; gives how many. They stay closed: the watermarks
    /// rise first.
    fn prune_duties_below(&self, slot: Slot) -> Result<usize, StorageError>;

    /// Makes everything committed so far survive a power cut.
    fn flush(&self) -> Result<(), StorageError>;
}
