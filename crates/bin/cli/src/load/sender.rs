//! One sender of a load.

use super::{STALE, Shared};
use crate::client::ClientError;
use aequa_crypto::Error;
use aequa_crypto::transaction::{AccountKey, sign};
use aequa_types::json::TransactionJson;
use aequa_types::transaction::Payload;
use aequa_types::{Address, PlaintextV1, Transaction, TxBody};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Wait before a refused or unanswered submission is tried again.
const BACKOFF: Duration = Duration::from_millis(100);
/// Longest time one transaction is tried.
const TRY_FOR: Duration = Duration::from_secs(60);
/// Fees differ, so that the builder has something to order.
const FEE_MAX: u64 = 1000;

/// What became of one submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Some node took it.
    Accepted,
    /// It was refused for good.
    Rejected,
}

/// A key with its sequence of transactions.
#[derive(Debug)]
pub(super) struct Sender {
    key: AccountKey,
    next: u64,
    node: usize,
    /// Envelopes that may have to be sent again, by nonce.
    sent: BTreeMap<u64, String>,
    resent: Instant,
    /// A transaction was refused for good: nothing after it can follow.
    pub(super) broken: bool,
}

impl Sender {
    /// A new sender that starts at `node`.
    pub(super) fn new(node: usize) -> Result<Self, Error> {
        let key = AccountKey::generate()?;
        Ok(Self { key, next: 0, node, sent: BTreeMap::new(), resent: Instant::now(), broken: false })
    }

    pub(super) fn address(&self) -> Address {
        self.key.address()
    }

    /// Signs and submits the next transaction, trying until it is accepted or refused for good.
    pub(super) async fn submit_next(&mut self, shared: &Shared) -> Outcome {
        let (sender, nonce) = (self.address(), self.next);
        let transaction = self.sign(shared, nonce, shared.chain_id);
        let envelope = text(&transaction);
        shared.tally.lock().begin(sender, nonce, transaction.body.hash(), Instant::now());
        let outcome = self.deliver(shared, &envelope).await;
        let mut tally = shared.tally.lock();
        match outcome {
            Ok(()) => {
                tally.accepted(sender, nonce);
                self.next += 1;
                self.sent.insert(nonce, envelope);
                self.sent = self.sent.split_off(&tally.next_included(&sender));
                Outcome::Accepted
            }
            Err(reason) => {
                tally.rejected(sender, nonce, reason);
                Outcome::Rejected
            }
        }
    }

    /// Sends an accepted transaction once more, to the next node. When that one had not heard of it, what
    /// follows it is as lost, and is sent as well; known or too old only says that it had arrived.
    pub(super) async fn resend(&mut self, shared: &Shared, nonce: u64) {
        if self.resent.elapsed() < STALE {
            return;
        }
        self.resent = Instant::now();
        self.node += 1;
        let lost: Vec<String> = self.sent.range(nonce..).map(|(_, envelope)| envelope.clone()).collect();
        for envelope in lost {
            if self.submit(shared, envelope).await.is_err() {
                return;
            }
        }
    }

    /// Submits something that must be refused with a reason. `variant` chooses what is wrong.
    pub(super) async fn submit_bad(&mut self, shared: &Shared, variant: u64) {
        let (name, envelope) = self.bad(shared, variant);
        let (answer, _) = self.answer(shared, &envelope, Instant::now() + TRY_FOR).await;
        let mut tally = shared.tally.lock();
        match answer {
            Err(ClientError::Refused { code, message, .. }) if !code.is_empty() && !message.is_empty() => {
                tally.refused(format!("{name}: {code}"));
            }
            Err(error) => tally.violation(format!("a transaction with {name} got no reason: {error}")),
            Ok(_) => tally.violation(format!("a transaction with {name} was accepted")),
        }
    }

    fn bad(&self, shared: &Shared, variant: u64) -> (&'static str, String) {
        let nonce = self.next;
        let good = self.sign(shared, nonce, shared.chain_id);
        let changed = |field: &str, value: serde_json::Value| {
            let mut envelope = serde_json::to_value(TransactionJson::from(&good)).unwrap_or_default();
            envelope[field] = value;
            envelope.to_string()
        };
        match variant % 6 {
            0 => ("another chain id", text(&self.sign(shared, nonce, shared.chain_id ^ 1))),
            1 => ("a nonce far ahead", text(&self.sign(shared, nonce + 1_000_000, shared.chain_id))),
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

    /// Submits until a node accepts; the reason when it is refused for good.
    async fn deliver(&mut self, shared: &Shared, envelope: &str) -> Result<(), String> {
        let deadline = Instant::now() + TRY_FOR;
        let mut unanswered = false;
        loop {
            let (answer, failed) = self.answer(shared, envelope, deadline).await;
            unanswered |= failed;
            match answer {
                Ok(()) => return Ok(()),
                // An earlier attempt arrived although its answer did not.
                Err(ClientError::Refused { status: 409, .. }) if unanswered => return Ok(()),
                Err(ClientError::Refused { status: 429, code, .. }) if Instant::now() < deadline => {
                    shared.tally.lock().refused(format!("{code}, tried again"));
                    tokio::time::sleep(BACKOFF).await;
                }
                Err(ClientError::Refused { status, code, message }) => {
                    return Err(format!("{status} {code}: {message}"));
                }
                Err(
                    other @ (ClientError::BadUrl { .. }
                    | ClientError::Unreachable { .. }
                    | ClientError::Malformed { .. }),
                ) => return Err(other.to_string()),
            }
        }
    }

    /// Submits until some node answers; and whether one failed to before.
    async fn answer(
        &mut self,
        shared: &Shared,
        envelope: &str,
        deadline: Instant,
    ) -> (Result<(), ClientError>, bool) {
        let mut failed = false;
        loop {
            match self.submit(shared, envelope.to_owned()).await {
                Err(error) if error.is_retryable() && Instant::now() < deadline => {
                    failed = true;
                    self.node += 1;
                    tokio::time::sleep(BACKOFF).await;
                }
                answer => return (answer, failed),
            }
        }
    }

    async fn submit(&self, shared: &Shared, envelope: String) -> Result<(), ClientError> {
        shared.nodes[self.node % shared.nodes.len()].submit(envelope).await.map(drop)
    }
}

fn text(transaction: &Transaction) -> String {
    // Plain data: there is no failing case.
    serde_json::to_string(&TransactionJson::from(transaction)).unwrap_or_default()
}
