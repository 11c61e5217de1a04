//! One script language for the pool tests: transactions, a state, and a pool that shows both.
#![allow(dead_code, clippy::unwrap_used)]

use aequa_mempool::{Admission, Cap, Limits, Mempool, Nonces, Removals};
use aequa_testkit::{checked, plaintext_with};
use aequa_types::{Address, BuilderPolicy, CheckedTransaction, Height, TxKind};
use std::collections::BTreeMap;

pub const PLAINTEXT: TxKind = TxKind::PlaintextV1;
pub const AUCTION: TxKind = TxKind::AuctionBidV1;

/// Bytes of a plaintext transaction without its payload.
pub const PLAINTEXT_BYTES: usize = 118;

/// The nonces of a state that executes what it is told.
#[derive(Debug, Clone, Default)]
pub struct TestState(BTreeMap<(Address, TxKind), u64>);

impl Nonces for TestState {
    fn nonce(&self, sender: &Address, kind: TxKind) -> u64 {
        self.0.get(&(*sender, kind)).copied().unwrap_or(0)
    }
}

impl TestState {
    pub fn with(mut self, sender: u64, kind: TxKind, nonce: u64) -> Self {
        self.0.insert((address(sender), kind), nonce);
        self
    }

    pub fn execute(&mut self, items: &[CheckedTransaction]) {
        for tx in items {
            let next = self.0.entry((tx.body().from(), tx.body().kind())).or_default();
            assert_eq!(tx.body().nonce(), *next, "a decided block skips a nonce");
            *next += 1;
        }
    }
}

pub fn address(sender: u64) -> Address {
    let mut bytes = [0xee; 20];
    bytes[12..].copy_from_slice(&sender.to_be_bytes());
    Address::from(bytes)
}

pub fn plaintext_of(sender: u64, nonce: u64, fee: u64, payload_bytes: usize) -> CheckedTransaction {
    checked(plaintext_with(address(sender), nonce, fee, &vec![7; payload_bytes]))
}

pub fn plaintext(sender: u64, nonce: u64, fee: u64) -> CheckedTransaction {
    plaintext_of(sender, nonce, fee, 0)
}

pub fn bid(sender: u64, nonce: u64, bid: u64) -> CheckedTransaction {
    checked(aequa_testkit::bid(address(sender), nonce, bid, address(999)))
}

/// (sender, nonce) of every item, as a test would write them.
pub fn shape(items: &[CheckedTransaction]) -> Vec<(TxKind, u64, u64)> {
    let sender =
        |tx: &CheckedTransaction| u64::from_be_bytes(tx.body().from().as_slice()[12..].try_into().unwrap());
    items.iter().map(|tx| (tx.body().kind(), sender(tx), tx.body().nonce())).collect()
}

/// A pool, the state it is relative to, and the height both are at.
pub struct Scenario {
    pub pool: Mempool,
    pub state: TestState,
    pub height: Height,
}

impl Scenario {
    pub fn new() -> Self {
        Self::with(Limits::default(), BuilderPolicy::default())
    }

    pub fn with(limits: Limits, policy: BuilderPolicy) -> Self {
        Self { pool: Mempool::new(limits, policy).unwrap(), state: TestState::default(), height: Height(1) }
    }

    pub fn with_policy(policy: BuilderPolicy) -> Self {
        Self::with(Limits::default(), policy)
    }

    /// Room for this many transactions, and bytes enough for any.
    pub fn with_room_for(transactions: usize) -> Self {
        let open = Cap { transactions, bytes: 64 << 20 };
        Self::with(Limits { open, ..Limits::default() }, BuilderPolicy::default())
    }

    /// Room for this many bytes, and any number of transactions.
    pub fn with_room_for_bytes(bytes: usize) -> Self {
        let open = Cap { transactions: 65_536, bytes };
        Self::with(Limits { open, ..Limits::default() }, BuilderPolicy::default())
    }

    /// Admits, and asserts that the check before the signature says the same whenever it refuses.
    pub fn admit(&mut self, tx: &CheckedTransaction) -> Admission {
        let early = self.pool.precheck(tx.transaction(), tx.bytes(), &self.state);
        let before = self.pool.clone();
        let admission = self.pool.admit(tx.clone(), self.height, &self.state);
        assert_eq!(early.is_ok(), admission.is_held(), "{early:?} {admission:?}");
        if let Err(refusal) = early {
            assert_eq!(refusal, admission);
            assert_eq!(self.pool, before, "a refusal changed the pool");
        }
        admission
    }

    pub fn admit_all<'a>(&mut self, txs: impl IntoIterator<Item = &'a CheckedTransaction>) {
        for tx in txs {
            assert!(self.admit(tx).is_held(), "{tx:?}");
        }
    }

    /// Decides a block of these items and lets the pool follow.
    pub fn decide(&mut self, items: &[CheckedTransaction]) -> Removals {
        self.height = self.height.next();
        self.state.execute(items);
        self.pool.on_decided(self.height, items, &self.state)
    }

    /// Decides empty blocks up to a height.
    pub fn decide_empty_until(&mut self, height: u64) -> Removals {
        self.height = Height(height);
        self.pool.on_decided(self.height, &[], &self.state)
    }

    pub fn held(&self) -> usize {
        self.pool.len(PLAINTEXT) + self.pool.len(AUCTION)
    }
}

impl Scenario {
    /// Admits without comparing the pool before and after: for large pools.
    pub fn admit_fast(&mut self, tx: &CheckedTransaction) -> Admission {
        self.pool.admit(tx.clone(), self.height, &self.state)
    }
}
