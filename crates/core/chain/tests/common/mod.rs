//! Transactions, and a chain that is told which blocks to take.
#![allow(dead_code, clippy::unwrap_used)]

use aequa_chain::{Applied, Chain, FRESH_WITHIN_MS, Freshness, StoredRow};
use aequa_testkit::checked;
use aequa_types::{Address, CheckedBlock, CheckedTransaction, ClusterId, OperatorIndex, Quorum};
use std::collections::BTreeMap;

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
pub struct Store(pub BTreeMap<Vec<u8>, Vec<u8>>);

impl Store {
    pub fn write(&mut self, applied: &Applied) {
        applied.removed_rows.iter().for_each(|key| drop(self.0.remove(key)));
        self.0.extend(applied.changed_rows.iter().cloned());
    }

    pub fn rows(&self) -> Vec<StoredRow> {
        self.0.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}
