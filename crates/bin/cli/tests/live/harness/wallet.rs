//! An account that signs, and what nodes say to what it sends.

use super::Node;
use aequa_crypto::transaction::{AccountKey, sign};
use aequa_types::json::TransactionJson;
use aequa_types::transaction::Payload;
use aequa_types::{AuctionBidV1, PlaintextV1, Transaction, TxBody};

/// Chain id of the tests' clusters.
pub const CHAIN_ID: u64 = 1337;

/// A key.
pub struct Wallet(AccountKey);

impl Wallet {
    pub fn new() -> Self {
        Self(AccountKey::generate().unwrap())
    }

    pub fn address(&self) -> String {
        format!("{:#x}", self.0.address())
    }

    /// A plain transaction.
    pub fn plain(&self, nonce: u64, fee: u64) -> Transaction {
        self.plain_for(CHAIN_ID, nonce, fee)
    }

    /// A plain transaction for another chain.
    pub fn plain_for(&self, chain_id: u64, nonce: u64, fee: u64) -> Transaction {
        let payload = Payload::try_from(nonce.to_be_bytes().to_vec()).unwrap();
        let body = PlaintextV1 { from: self.0.address(), nonce, gas: 21_000, fee, payload };
        sign(chain_id, TxBody::Plaintext(body), &self.0)
    }

    /// A bid for itself.
    pub fn bid(&self, nonce: u64, bid: u64) -> Transaction {
        let from = self.0.address();
        let payload = Payload::default();
        let body = AuctionBidV1 { from, nonce, gas: 21_000, bid, fee_recipient: from, payload };
        sign(CHAIN_ID, TxBody::AuctionBid(body), &self.0)
    }
}

/// The envelope of a transaction.
pub fn envelope(transaction: &Transaction) -> Vec<u8> {
    serde_json::to_vec(&TransactionJson::from(transaction)).unwrap()
}

/// Answer to a submission.
#[derive(Debug)]
pub struct Verdict {
    pub status: u16,
    /// Code of a refusal; ok or future when it was taken.
    pub code: String,
    pub message: String,
}

impl Verdict {
    /// What `node` says to an envelope.
    #[track_caller]
    pub fn of(node: &Node, envelope: &[u8]) -> Self {
        let answer = node.post("/v1/tx", envelope);
        let json = answer.json();
        let text = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
        let code = if answer.status == 202 { text("result") } else { text("code") };
        Self { status: answer.status, code, message: text("message") }
    }

    pub fn is_accepted(&self) -> bool {
        self.status == 202
    }
}
