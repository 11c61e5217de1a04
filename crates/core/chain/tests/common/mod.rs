//! Transactions, and a chain that is told which blocks to take.
#![allow(dead_code, clippy::unwrap_used)]

use aequa_chain::{
    Applied, Chain, ChainError, FRESH_WITHIN_MS, Freshness, MemoryState, State, StoredRow, Tip,
};
use aequa_testkit::checked;
use aequa_types::{Address, CheckedBlock, CheckedTransaction, ClusterId, Height, OperatorIndex, Quorum};
use std::sync::Arc;

pub const POLICY: ClusterId = ClusterId::repeat_byte(0x70);

pub fn cluster() -> ClusterId {
    ClusterId::from(std::array::from_fn(|i| i as u8))
}

pub fn four() -> Quorum {
    Quorum::of(4).unwrap()
}

pub fn genesis() -> Chain {
    Chain::genesis(cluster(), four())
}

pub fn address(byte: u8) -> Address {
    Address::repeat_byte(byte)
}

pub fn plaintext(sender: u8, nonce: u64, fee: u64) -> CheckedTransaction {
    checked(aequa_testkit::plaintext(address(sender), nonce, fee))
}

pub fn bid(sender: u8, nonce: u64, bid: u64, recipient: u8) -> CheckedTransaction {
    checked(aequa_testkit::bid(address(sender), nonce, bid, address(recipient)))
}

/// The next block of `proposer`, a second after its parent.
pub fn next(chain: &Chain, proposer: u8, items: &[CheckedTransaction]) -> CheckedBlock {
    let timestamp_ms = chain.tip().timestamp_ms + 1000;
    chain.build_block(OperatorIndex(proposer), timestamp_ms, POLICY, items.to_vec(), &[]).unwrap()
}

/// Builds, checks and executes it.
pub fn extend(chain: &mut Chain, proposer: u8, items: &[CheckedTransaction]) -> Applied {
    let block = next(chain, proposer, items);
    let fresh = Some(Freshness { now_ms: block.header().timestamp_ms, behind_ms: FRESH_WITHIN_MS });
    chain.check_header(&block, OperatorIndex(proposer), POLICY, fresh).unwrap();
    chain.apply(&block).unwrap()
}

/// A store that writes what execution says changed.
#[derive(Debug, Clone, Default)]
pub struct Store(pub MemoryState);

impl Store {
    /// A store with the rows of a state.
    pub fn of(state: &State, height: u64) -> Self {
        let mut store = Self::default();
        store.0.write(Height(height), &State::from_rows(state.rows()).unwrap().stored_changes());
        store
    }

    pub fn write(&mut self, chain: &Chain, applied: &Applied) {
        self.0.write(chain.tip().height, &applied.changes);
    }

    pub fn open(&self, tip: Tip) -> Result<Chain, ChainError> {
        Chain::open(cluster(), four(), Arc::new(self.0.clone()), tip)
    }

    pub fn rows(&self) -> Vec<StoredRow> {
        State::open(Arc::new(self.0.clone())).unwrap().rows().collect()
    }
}

/// The rows that a block changed, with the values they have after it.
pub fn rows(applied: &Applied) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    let rows = applied.changes.iter().filter(|change| change.is_row());
    rows.map(|change| (change.key.clone(), change.after.clone())).collect()
}
