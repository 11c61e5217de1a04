//! One sender of a load.

use super::tally::Tally;
use super::{STALE, Shared};
use crate::client::ClientError;
use aequa_crypto::Error;
use aequa_crypto::transaction::{AccountKey, sign};
use aequa_types::json::TransactionJson;
use aequa_types::transaction::Payload;
use aequa_types::{Address, PlaintextV1, Transaction, TxBody, TxHash};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Instant;

/// Fees differ, so that the builder has something to order.
const FEE_MAX: u64 = 1000;

/// A key with its sequence of transactions.
#[derive(Debug)]
pub(super) struct Sender {
    key: AccountKey,
    next: u64,
    /// Envelopes that may have to be sent again, by nonce.
    sent: BTreeMap<u64, String>,
    /// A transaction was refused for good: nothing after it can follow.
    pub(super) broken: bool,
}

/// A transaction as it is submitted.
#[derive(Debug)]
pub(super) struct Envelope {
    pub(super) text: String,
    pub(super) hash: TxHash,
}

impl Sender {
    /// A new sender.
    pub(super) fn new() -> Result<Self, Error> {
        Ok(Self { key: AccountKey::generate()?, next: 0, sent: BTreeMap::new(), broken: false })
    }

    pub(super) fn address(&self) -> Address {
        self.key.address()
    }

    /// Signs the next transaction.
    pub(super) fn next(&mut self, shared: &Shared) -> (u64, Envelope) {
        let nonce = self.next;
        self.next += 1;
        (nonce, envelope(&self.sign(shared, nonce, shared.chain_id)))
    }

    /// Some node took it.
    pub(super) fn accepted(&mut self, tally: &mut Tally, nonce: u64, text: String) {
        let sender = self.address();
        tally.accepted(sender, nonce);
        self.sent.insert(nonce, text);
        let included = tally.next_included(&sender);
        while self.sent.first_key_value().is_some_and(|(nonce, _)| *nonce < included) {
            self.sent.pop_first();
        }
    }

    /// No node takes it.
    pub(super) fn rejected(&mut self, tally: &mut Tally, nonce: u64, error: &ClientError) {
        let reason = match error {
            ClientError::Refused { status, code, message } => format!("{status} {code}: {message}"),
            ClientError::BadUrl { .. } | ClientError::Unreachable { .. } | ClientError::Malformed { .. } => {
                error.to_string()
            }
        };
        tally.rejected(self.address(), nonce, reason);
        self.broken = true;
    }

    /// The oldest nonce that was accepted and seems to be forgotten.
    pub(super) fn stale(&self, tally: &Tally, now: Instant) -> Option<u64> {
        let (nonce, since) = tally.oldest(&self.address())?;
        let is_stale = now.saturating_duration_since(since) > STALE && self.sent.contains_key(&nonce);
        is_stale.then_some(nonce)
    }

    /// What was accepted, from a nonce on.
    pub(super) fn sent_from(&self, nonce: u64) -> impl Iterator<Item = &str> {
        self.sent.range(nonce..).map(|(_, text)| text.as_str())
    }

    /// Something that must be refused with a reason; `variant` chooses what is wrong.
    pub(super) fn bad(&self, shared: &Shared, variant: u64) -> (&'static str, Envelope) {
        let nonce = self.next;
        let signed = |nonce, chain_id| envelope(&self.sign(shared, nonce, chain_id));
        let changed = |field: &str, value: serde_json::Value| {
            let good = TransactionJson::from(&self.sign(shared, nonce, shared.chain_id));
            let mut text = serde_json::to_value(&good).unwrap_or_default();
            text[field] = value;
            Envelope { text: text.to_string(), hash: good.hash }
        };
        match variant % 6 {
            0 => ("another chain id", signed(nonce, shared.chain_id ^ 1)),
            1 => ("a nonce far ahead", signed(nonce + 1_000_000, shared.chain_id)),
            2 => ("an unsigned change of the fee", changed("fee", json!((FEE_MAX + 1).to_string()))),
            3 => ("no gas", changed("gas", json!(0))),
            4 => ("an unknown type", changed("type", json!("plaintext_v0"))),
            _ => ("bad hex", changed("sig", json!("0xzz"))),
        }
    }

    fn sign(&self, shared: &Shared, nonce: u64, chain_id: u64) -> Transaction {
        let from = self.address();
        let bytes = usize::try_from(shared.plan.payload_bytes).unwrap_or_default();
        let payload = Payload::try_from(vec![0xae; bytes]).unwrap_or_default();
        let fee = nonce.wrapping_mul(7919).wrapping_add(u64::from(from[0])) % FEE_MAX;
        sign(chain_id, TxBody::Plaintext(PlaintextV1 { from, nonce, gas: 21_000, fee, payload }), &self.key)
    }
}

fn envelope(transaction: &Transaction) -> Envelope {
    let json = TransactionJson::from(transaction);
    // Plain data: there is no failing case.
    Envelope { text: serde_json::to_string(&json).unwrap_or_default(), hash: json.hash }
}
