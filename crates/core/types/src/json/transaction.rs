//! The output form of a transaction.

use super::{JsonError, spelling};
use crate::transaction::{Payload, TxSignature};
use crate::{Address, AuctionBidV1, PlaintextV1, Transaction, TxBody, TxHash, TxKind};
use serde::{Deserialize, Serialize};

/// A transaction as it is written: every field of its type, and its hash.
///
/// It is also a valid envelope for [`super::parse_transaction`], which ignores the hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransactionJson {
    /// Hash of the content.
    #[serde(with = "spelling::fixed")]
    pub hash: TxHash,
    /// Transaction type.
    #[serde(rename = "type")]
    pub kind: TxKind,
    /// Sender.
    #[serde(with = "spelling::fixed")]
    pub from: Address,
    /// Sequence number of this (sender, type).
    pub nonce: u64,
    /// Execution allowance, a decimal string.
    #[serde(with = "spelling::decimal")]
    pub gas: u64,
    /// Fee of `plaintext_v1`, a decimal string.
    #[serde(default, with = "spelling::decimal_option", skip_serializing_if = "Option::is_none")]
    pub fee: Option<u64>,
    /// Bid of `auction_bid_v1`, a decimal string.
    #[serde(default, with = "spelling::decimal_option", skip_serializing_if = "Option::is_none")]
    pub bid: Option<u64>,
    /// Who is credited with the bid of `auction_bid_v1`.
    #[serde(default, with = "spelling::fixed_option", skip_serializing_if = "Option::is_none")]
    pub fee_recipient: Option<Address>,
    /// Content.
    #[serde(with = "spelling::bytes")]
    pub payload: Vec<u8>,
    /// Signature of the sender.
    #[serde(with = "spelling::fixed")]
    pub sig: TxSignature,
}

impl From<&Transaction> for TransactionJson {
    fn from(transaction: &Transaction) -> Self {
        let body = &transaction.body;
        let (fee, bid, fee_recipient) = match body {
            TxBody::Plaintext(body) => (Some(body.fee), None, None),
            TxBody::AuctionBid(body) => (None, Some(body.bid), Some(body.fee_recipient)),
        };
        Self {
            hash: body.hash(),
            kind: body.kind(),
            from: body.from(),
            nonce: body.nonce(),
            gas: body.gas(),
            fee,
            bid,
            fee_recipient,
            payload: body.payload().to_vec(),
            sig: transaction.sig,
        }
    }
}

impl TryFrom<TransactionJson> for Transaction {
    type Error = JsonError;

    fn try_from(json: TransactionJson) -> Result<Self, JsonError> {
        let payload = payload(json.payload)?;
        let TransactionJson { from, nonce, gas, .. } = json;
        let body = match (json.kind, json.fee, json.bid, json.fee_recipient) {
            (TxKind::PlaintextV1, Some(fee), None, None) => {
                TxBody::Plaintext(PlaintextV1 { from, nonce, gas, fee, payload })
            }
            (TxKind::AuctionBidV1, None, Some(bid), Some(fee_recipient)) => {
                TxBody::AuctionBid(AuctionBidV1 { from, nonce, gas, bid, fee_recipient, payload })
            }
            (kind, ..) => {
                return Err(JsonError::at("items", format!("fields do not fit the type {}", kind.name())));
            }
        };
        if body.hash() != json.hash {
            return Err(JsonError::at("hash", "is not the hash of the transaction's content"));
        }
        Ok(Transaction { body, sig: json.sig })
    }
}

/// A payload within its limit.
pub(super) fn payload(bytes: Vec<u8>) -> Result<Payload, JsonError> {
    Payload::try_from(bytes).map_err(|error| JsonError::at("payload", error.to_string()))
}
