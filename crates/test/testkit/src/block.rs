//! Transactions nobody signed, and blocks nobody executed.

use aequa_types::block::empty_evidence_root;
use aequa_types::{
    Address, AuctionBidV1, Block, CheckedTransaction, ClusterId, Digest, Header, Height, OperatorIndex,
    PlaintextV1, Totals, Transaction, TxBody,
};

/// A transaction of the kind plaintext, without payload.
pub fn plaintext(from: Address, nonce: u64, fee: u64) -> TxBody {
    plaintext_with(from, nonce, fee, &[])
}

/// The same with a payload.
pub fn plaintext_with(from: Address, nonce: u64, fee: u64, payload: &[u8]) -> TxBody {
    let payload = payload.to_vec().try_into().unwrap();
    TxBody::Plaintext(PlaintextV1 { from, nonce, gas: 21_000, fee, payload })
}

/// A bid, without payload.
pub fn bid(from: Address, nonce: u64, bid: u64, fee_recipient: Address) -> TxBody {
    let payload = Default::default();
    TxBody::AuctionBid(AuctionBidV1 { from, nonce, gas: 21_000, bid, fee_recipient, payload })
}

/// A transaction without a signature.
pub fn unsigned(body: TxBody) -> Transaction {
    Transaction { body, sig: Default::default() }
}

/// The same, believed.
pub fn checked(body: TxBody) -> CheckedTransaction {
    CheckedTransaction::attest(unsigned(body))
}

/// A block whose header describes its items, and no state.
pub fn block(cluster_id: ClusterId, height: u64, parent_root: Digest, items: Vec<Transaction>) -> Block {
    let totals = items.iter().cloned().map(CheckedTransaction::attest).collect::<Vec<_>>();
    let totals = Totals::of(&totals);
    let header = Header {
        cluster_id,
        height: Height(height),
        parent_root,
        timestamp_ms: 1_700_000_000_000 + height,
        proposer: OperatorIndex(1),
        policy_hash: Digest::repeat_byte(3),
        payload_root: Digest::ZERO,
        evidence_root: empty_evidence_root(),
        state_root: Digest::repeat_byte(4),
        leader_proof: Default::default(),
        total_fees: totals.fees,
        total_bids: totals.bids,
        items: totals.items,
    };
    let mut block = Block { header, items: items.try_into().unwrap(), evidence: Default::default() };
    block.header.payload_root = block.payload_root();
    block
}
