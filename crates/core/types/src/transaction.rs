//! What clients submit: typed transactions under EIP-712 signatures.
//!
//! `hash = SHA-256("aequa/tx/v1" ‖ 0x00 ‖ kind ‖ hash_tree_root(body))`. The signature is not in
//! it: the same content signed twice is one transaction.

pub use crate::payload::{Payload, PayloadOverflow};
use crate::{Address, TxHash};
use alloy_primitives::{B256, FixedBytes};
use ethereum_hashing::hash32_concat;
use serde::{Deserialize, Serialize};
use ssz::Encode as _;
use ssz_derive::{Decode, Encode};
use std::sync::Arc;
use tree_hash::{TreeHash as _, mix_in_selector};
use tree_hash_derive::TreeHash;

/// secp256k1 signature r ‖ s ‖ v with v 27 or 28 and low s.
pub type TxSignature = FixedBytes<65>;

/// The transaction types; the number is part of the hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TxKind {
    /// Ordered by fee, readable by everybody.
    #[serde(rename = "plaintext_v1")]
    PlaintextV1,
    /// A sealed-free bid for the front of the block.
    #[serde(rename = "auction_bid_v1")]
    AuctionBidV1,
}

impl TxKind {
    /// All kinds, by number.
    pub const ALL: [TxKind; 2] = [TxKind::PlaintextV1, TxKind::AuctionBidV1];

    /// Name in JSON, metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            TxKind::PlaintextV1 => "plaintext_v1",
            TxKind::AuctionBidV1 => "auction_bid_v1",
        }
    }

    /// The kind of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Number in the transaction hash and in state keys.
    pub fn number(self) -> u8 {
        match self {
            TxKind::PlaintextV1 => 1,
            TxKind::AuctionBidV1 => 2,
        }
    }
}

/// Signed fields of `plaintext_v1`, in the order of its EIP-712 type.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode, TreeHash)]
pub struct PlaintextV1 {
    /// Sender.
    pub from: Address,
    /// Sequence number of this (sender, type), from 0.
    pub nonce: u64,
    /// Execution allowance; greater than 0.
    pub gas: u64,
    /// Fee offered; orders the block.
    pub fee: u64,
    /// Content; opaque to consensus.
    pub payload: Payload,
}

/// Signed fields of `auction_bid_v1`, in the order of its EIP-712 type.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode, TreeHash)]
pub struct AuctionBidV1 {
    /// Sender.
    pub from: Address,
    /// Sequence number of this (sender, type), from 0.
    pub nonce: u64,
    /// Execution allowance; greater than 0.
    pub gas: u64,
    /// Bid offered; greater than 0, orders the block.
    pub bid: u64,
    /// Who is credited with the bid.
    pub fee_recipient: Address,
    /// Content; opaque to consensus.
    pub payload: Payload,
}

/// The signed part of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode, TreeHash)]
#[ssz(enum_behaviour = "union")]
#[tree_hash(enum_behaviour = "union")]
pub enum TxBody {
    /// `plaintext_v1`.
    Plaintext(PlaintextV1),
    /// `auction_bid_v1`.
    AuctionBid(AuctionBidV1),
}

impl TxBody {
    /// The type.
    pub fn kind(&self) -> TxKind {
        match self {
            TxBody::Plaintext(_) => TxKind::PlaintextV1,
            TxBody::AuctionBid(_) => TxKind::AuctionBidV1,
        }
    }

    /// Sender.
    pub fn from(&self) -> Address {
        match self {
            TxBody::Plaintext(body) => body.from,
            TxBody::AuctionBid(body) => body.from,
        }
    }

    /// Sequence number of this (sender, type).
    pub fn nonce(&self) -> u64 {
        match self {
            TxBody::Plaintext(body) => body.nonce,
            TxBody::AuctionBid(body) => body.nonce,
        }
    }

    /// Execution allowance.
    pub fn gas(&self) -> u64 {
        match self {
            TxBody::Plaintext(body) => body.gas,
            TxBody::AuctionBid(body) => body.gas,
        }
    }

    /// What orders transactions of one type: the fee or the bid.
    pub fn key(&self) -> u64 {
        match self {
            TxBody::Plaintext(body) => body.fee,
            TxBody::AuctionBid(body) => body.bid,
        }
    }

    /// Content.
    pub fn payload(&self) -> &Payload {
        match self {
            TxBody::Plaintext(body) => &body.payload,
            TxBody::AuctionBid(body) => &body.payload,
        }
    }

    /// hash_tree_root of the signed fields.
    pub fn root(&self) -> B256 {
        match self {
            TxBody::Plaintext(body) => body.tree_hash_root(),
            TxBody::AuctionBid(body) => body.tree_hash_root(),
        }
    }

    /// Identifies the content; see the module documentation.
    pub fn hash(&self) -> TxHash {
        self.hash_of_root(self.root())
    }

    fn hash_of_root(&self, root: B256) -> TxHash {
        let mut preimage = b"aequa/tx/v1\0".to_vec();
        preimage.push(self.kind().number());
        preimage.extend_from_slice(root.as_slice());
        TxHash::from(ethereum_hashing::hash_fixed(&preimage))
    }

    /// Its place in the union.
    fn selector(&self) -> u8 {
        match self {
            TxBody::Plaintext(_) => 0,
            TxBody::AuctionBid(_) => 1,
        }
    }
}

/// A transaction as it travels and is stored.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Encode, Decode, TreeHash)]
pub struct Transaction {
    /// The signed fields.
    pub body: TxBody,
    /// The sender's signature over the EIP-712 digest of the body.
    pub sig: TxSignature,
}

/// A transaction that passed the stateless checks: sizes, required fields, signature, sender.
///
/// Constructing one claims exactly that; `aequa-crypto` does it. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedTransaction {
    inner: Arc<CheckedInner>,
}

#[derive(Debug, PartialEq, Eq)]
struct CheckedInner {
    transaction: Transaction,
    hash: TxHash,
    root: B256,
    bytes: usize,
}

impl CheckedTransaction {
    /// Wraps a transaction the caller has just checked.
    pub fn attest(transaction: Transaction) -> Self {
        let Transaction { body, sig } = &transaction;
        let body_root = body.root();
        let hash = body.hash_of_root(body_root);
        // Never None: there are two selectors.
        let in_union = mix_in_selector(&body_root, body.selector()).unwrap_or_default();
        let root = hash32_concat(in_union.as_slice(), sig.tree_hash_root().as_slice()).into();
        let bytes = transaction.ssz_bytes_len();
        Self { inner: Arc::new(CheckedInner { transaction, hash, root, bytes }) }
    }

    /// The transaction.
    pub fn transaction(&self) -> &Transaction {
        &self.inner.transaction
    }

    /// The signed fields.
    pub fn body(&self) -> &TxBody {
        &self.inner.transaction.body
    }

    /// Identifies the content.
    pub fn hash(&self) -> TxHash {
        self.inner.hash
    }

    /// hash_tree_root, signature included: what a block commits to.
    pub fn root(&self) -> B256 {
        self.inner.root
    }

    /// Size of the SSZ form in bytes.
    pub fn bytes(&self) -> usize {
        self.inner.bytes
    }
}
