//! What the cluster decides and remembers.

use crate::evidence::{Evidence, EvidenceList};
use crate::limits::BLOCK_ITEMS_MAX;
use crate::merkle::list_root;
use crate::{
    Amount, CheckedTransaction, ClusterId, Digest, Height, OperatorIndex, TimestampMs, Transaction, TxBody,
    TxHash,
};
use alloy_primitives::B256;
use ssz_derive::{Decode, Encode};
use ssz_types::VariableList;
use ssz_types::typenum::{U128, U16384};
use tree_hash::TreeHash as _;
use tree_hash_derive::TreeHash;

/// Transactions of a block.
pub type Items = VariableList<Transaction, U16384>;
/// What everybody needs to check the leader draw; empty with `round_robin`.
pub type LeaderProof = VariableList<u8, U128>;

/// Head of a block. Its hash root is the digest consensus votes on.
///
/// The round is not in it: a value proposed again in a later round keeps its digest. The encoding is held by
/// a vector derived by other means; another one changes every digest and needs a new layout of the block store.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode, TreeHash)]
pub struct Header {
    /// The cluster this chain belongs to.
    pub cluster_id: ClusterId,
    /// Number of the block, from 1.
    pub height: Height,
    /// Digest of the block before; the cluster id at height 1.
    pub parent_root: Digest,
    /// Proposer's clock; greater than the parent's.
    pub timestamp_ms: TimestampMs,
    /// Leader of the round in which the value was first proposed.
    pub proposer: OperatorIndex,
    /// Hash of the builder policy the items were chosen by.
    pub policy_hash: B256,
    /// hash_tree_root of the items, signatures included.
    pub payload_root: B256,
    /// hash_tree_root of the evidence list.
    pub evidence_root: B256,
    /// State root after the *parent* was executed.
    pub state_root: B256,
    /// Leader proof, empty with `round_robin`.
    pub leader_proof: LeaderProof,
    /// Sum of the fees of `plaintext_v1` items.
    pub total_fees: Amount,
    /// Sum of the bids of `auction_bid_v1` items.
    pub total_bids: Amount,
    /// Number of items.
    pub items: u64,
}

impl Header {
    /// The digest consensus votes on.
    pub fn digest(&self) -> Digest {
        self.tree_hash_root()
    }

    /// What it says of its items.
    pub fn totals(&self) -> Totals {
        Totals { fees: self.total_fees, bids: self.total_bids, items: self.items }
    }
}

/// Sums over the items of a block. One item, however dear, leaves room for all others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Sum of the fees.
    pub fees: Amount,
    /// Sum of the bids.
    pub bids: Amount,
    /// Number of items.
    pub items: u64,
}

impl Totals {
    /// The sums over these items.
    pub fn of(items: &[CheckedTransaction]) -> Self {
        let mut totals = Self { items: items.len() as u64, ..Self::default() };
        for item in items {
            match item.body() {
                TxBody::Plaintext(body) => totals.fees += Amount::from(body.fee),
                TxBody::AuctionBid(body) => totals.bids += Amount::from(body.bid),
            }
        }
        totals
    }
}

/// A block: header, items and evidence.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode)]
pub struct Block {
    /// Head.
    pub header: Header,
    /// Transactions in the order of execution.
    pub items: Items,
    /// Evidence against operators, in the order of offences.
    pub evidence: EvidenceList,
}

impl Block {
    /// hash_tree_root of the items, to be compared with the header's.
    pub fn payload_root(&self) -> B256 {
        self.items.tree_hash_root()
    }

    /// hash_tree_root of the evidence, to be compared with the header's.
    pub fn evidence_root(&self) -> B256 {
        self.evidence.tree_hash_root()
    }
}

/// hash_tree_root of a list of items, from what is known of each: that of [`Block::payload_root`].
pub fn payload_root(items: &[CheckedTransaction]) -> B256 {
    const DEPTH: usize = BLOCK_ITEMS_MAX.ilog2() as usize;
    list_root(items.iter().map(CheckedTransaction::root).collect(), DEPTH, items.len())
}

/// hash_tree_root of an empty list: the evidence root of a block without evidence.
pub fn empty_evidence_root() -> B256 {
    EvidenceList::empty().tree_hash_root()
}

/// A block whose items and evidence passed their stateless checks and whose header commits to them.
///
/// Constructing one claims exactly that; `aequa-crypto` does it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedBlock {
    block: Block,
    digest: Digest,
    items: Vec<CheckedTransaction>,
}

impl CheckedBlock {
    /// Wraps a block the caller has just checked; `items` are the checked forms of the block's.
    pub fn attest(block: Block, items: Vec<CheckedTransaction>) -> Self {
        let digest = block.header.digest();
        Self { block, digest, items }
    }

    /// The block.
    pub fn block(&self) -> &Block {
        &self.block
    }

    /// Its header.
    pub fn header(&self) -> &Header {
        &self.block.header
    }

    /// The header's digest.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The items with their hashes.
    pub fn items(&self) -> &[CheckedTransaction] {
        &self.items
    }

    /// The evidence, whose signatures hold.
    pub fn evidence(&self) -> &[Evidence] {
        &self.block.evidence
    }

    /// Hashes of the items in order.
    pub fn tx_hashes(&self) -> impl Iterator<Item = TxHash> {
        self.items.iter().map(CheckedTransaction::hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Address;
    use crate::transaction::{AuctionBidV1, PlaintextV1, TxBody, TxSignature};

    fn transaction(nonce: u64) -> Transaction {
        let (from, gas) = (Address::repeat_byte(3), 21_000);
        let payload = vec![5; nonce as usize * 13].try_into().unwrap();
        let body = match nonce % 2 {
            0 => TxBody::Plaintext(PlaintextV1 { from, nonce, gas, fee: 7, payload }),
            _ => TxBody::AuctionBid(AuctionBidV1 { from, nonce, gas, bid: 8, fee_recipient: from, payload }),
        };
        Transaction { body, sig: TxSignature::repeat_byte(nonce as u8) }
    }

    #[test]
    fn the_root_of_checked_items_is_that_of_the_items() {
        for count in [0, 1, 2, 3, 4, 5, 17] {
            let items: Vec<Transaction> = (0..count).map(transaction).collect();
            let checked: Vec<_> = items.iter().cloned().map(CheckedTransaction::attest).collect();
            for (item, checked) in items.iter().zip(&checked) {
                assert_eq!(checked.root(), item.tree_hash_root());
                assert_eq!(checked.hash(), item.body.hash());
            }
            let list = Items::try_from(items).unwrap();
            assert_eq!(payload_root(&checked), list.tree_hash_root(), "{count} items");
        }
    }
}
