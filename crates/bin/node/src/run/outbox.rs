//! Outputs to frames: what goes to the other operators. Decides nothing.

use super::budget::Call;
use super::context::Context;
use super::sync;
use super::testimony;
use aequa_p2p::{Message as Frame, Network, Topic};
use aequa_replica::Input;
use aequa_types::limits::TX_FRAME_BYTES_MAX;
use aequa_types::wire;
use aequa_types::{CheckedEvidence, CheckedTransaction, Height, Message, OperatorIndex, Transaction};
use bytes::Bytes;
use ssz::Encode;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::mpsc;

/// Least time between frames of transactions, unless one is full: what comes meanwhile shares the next.
const GATHER: Duration = Duration::from_millis(10);
/// A frame of several transactions is closed at this size, well below its limit.
const GATHER_BYTES: usize = TX_FRAME_BYTES_MAX / 2;
/// Admitted transactions waiting to be spread; what finds no room is offered again later.
const GATHER_QUEUE_MAX: usize = 16_384;

/// Sends to the other operators; silent in a cluster of one.
#[derive(Clone)]
pub struct Outbox {
    network: Weak<Network>,
    context: Arc<Context>,
    gathered: mpsc::Sender<CheckedTransaction>,
    runtime: tokio::runtime::Handle,
}

impl Outbox {
    /// An outbox over `network`, with its gatherer of transactions; must be called inside a runtime.
    pub fn start(network: Weak<Network>, context: Arc<Context>) -> Self {
        let (gathered, queue) = mpsc::channel(GATHER_QUEUE_MAX);
        tokio::spawn(gather(network.clone(), queue));
        Self { network, context, gathered, runtime: tokio::runtime::Handle::current() }
    }

    /// To every other operator.
    pub fn broadcast(&self, message: &Message) {
        self.note_question(message);
        let result = match self.network.upgrade() {
            Some(network) => {
                network.broadcast(Topic::Qbft, &consensus_frame(message));
                "ok"
            }
            None if self.context.quorum.operators() == 1 => return,
            None => "error",
        };
        let type_name = message.type_name();
        self.context.metrics.consensus_broadcast_total.inc([type_name, result]);
        let (height, round) = (message.instance().number(), message.round().unwrap_or_default().0);
        tracing::debug!(target: "event", result, "type" = type_name, height, round, trace_id = "", "consensus_broadcast");
    }

    /// To one operator.
    pub fn send(&self, to: OperatorIndex, message: &Message) {
        self.note_question(message);
        if let Message::ValueReply(reply) = message {
            self.context.budgets.charge(to, Call::Value, reply.value.0.len(), Duration::ZERO);
        }
        if let Some(network) = self.network.upgrade() {
            network.send(to, Topic::Qbft, &consensus_frame(message));
        }
    }

    fn note_question(&self, message: &Message) {
        if let Message::ValueRequest(request) = message {
            self.context.wanted.asked(request.instance, request.digest);
        }
    }

    /// Queues a transaction of an own client for all members. None of them sends it on: they are fully connected.
    pub fn spread(&self, transaction: CheckedTransaction) {
        // When full, the transaction is offered again later, or reaches the others inside a block.
        let _ = self.gathered.try_send(transaction);
    }

    /// Spreads transactions once more.
    pub fn offer(&self, transactions: &[CheckedTransaction]) {
        let Some(network) = self.network.upgrade() else { return };
        self.context.metrics.mempool_offered_again_total.add([], transactions.len() as u64);
        network.broadcast(Topic::Tx, &transactions_frame(transactions));
    }

    /// Spreads a piece of evidence.
    pub fn gossip_evidence(&self, evidence: &CheckedEvidence) {
        if let Some(network) = self.network.upgrade() {
            let frame = Frame::new(wire::EVIDENCE, Bytes::from(evidence.as_ssz_bytes()));
            network.gossip(Topic::Evidence, &frame);
        }
    }

    /// Asks `from` for certified blocks; the answer comes back as an input.
    pub fn fetch(&self, from: OperatorIndex, height: Height) {
        let (network, context) = (self.network.clone(), Arc::clone(&self.context));
        self.runtime.spawn(async move {
            let input = match sync::fetch(&network, &context, from, height).await {
                Ok(blocks) => Input::Fetched { from, blocks },
                Err(error) => {
                    context.metrics.swarm_sync_errors_total.inc([error.reason()]);
                    Input::FetchFailed { from }
                }
            };
            context.input(input).await;
        });
    }

    /// Asks `operator` what it has seen of this one; an answer that holds comes back as an input. One that is under a
    /// lock not known here is not asked: its word is about another epoch, and this one may be over.
    pub fn inquire(&self, operator: OperatorIndex) {
        let (network, context) = (self.network.clone(), Arc::clone(&self.context));
        self.runtime.spawn(async move {
            if sync::ask_status(&network, &context, operator).await.is_none() {
                return;
            }
            match testimony::ask(&network, &context, operator).await {
                Ok(testimony) => {
                    context.input(Input::Testimony { from: operator, testimony }).await;
                }
                Err(error) => tracing::debug!(from = %operator, %error, "no testimony"),
            }
        });
    }
}

fn consensus_frame(message: &Message) -> Frame {
    let frame = Frame::new(message.kind().number, Bytes::from(message.as_ssz_bytes()));
    // In a queue to a slow peer the newest own vote of an instance replaces the one before.
    match message {
        Message::Prepare(_) | Message::Commit(_) | Message::RoundChange(_) => {
            let mut hasher = DefaultHasher::new();
            (message.instance(), message.kind().number).hash(&mut hasher);
            frame.superseding(hasher.finish())
        }
        Message::PrePrepare(_) | Message::Decided(_) | Message::ValueRequest(_) | Message::ValueReply(_) => {
            frame
        }
    }
}

/// Sends a transaction at once, and those of the milliseconds after it together.
async fn gather(network: Weak<Network>, mut queue: mpsc::Receiver<CheckedTransaction>) {
    let mut waiting = Vec::new();
    while queue.recv_many(&mut waiting, GATHER_QUEUE_MAX).await > 0 {
        {
            let Some(network) = network.upgrade() else { return };
            let mut rest = &waiting[..];
            while let Some(batch) = take_batch(&mut rest) {
                network.broadcast(Topic::Tx, &transactions_frame(batch));
            }
        }
        waiting.clear();
        tokio::time::sleep(GATHER).await;
    }
}

/// The first transactions that fit into one frame, at least one if there is one.
fn take_batch<'a>(rest: &mut &'a [CheckedTransaction]) -> Option<&'a [CheckedTransaction]> {
    let mut bytes = 0;
    let fits = |transaction: &&CheckedTransaction| {
        bytes += transaction.bytes();
        bytes <= GATHER_BYTES
    };
    let fitting = rest.iter().take_while(fits).count();
    rest.split_off(..fitting.max(1))
}

fn transactions_frame(transactions: &[CheckedTransaction]) -> Frame {
    let transactions: Vec<&Transaction> = transactions.iter().map(CheckedTransaction::transaction).collect();
    Frame::new(wire::TRANSACTIONS, Bytes::from(transactions.as_ssz_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_testkit::{checked, plaintext_with};
    use aequa_types::Address;

    #[test]
    fn every_transaction_is_in_one_frame_and_every_frame_below_its_limit() {
        let sizes = [65_536, 10, 40_000, 30_000, 10, 65_536, 65_536];
        let transactions = sizes.map(|bytes| checked(plaintext_with(Address::ZERO, 0, 0, &vec![7; bytes])));
        let (mut rest, mut batches) = (&transactions[..], Vec::new());
        while let Some(batch) = take_batch(&mut rest) {
            assert!(transactions_frame(batch).body.len() < TX_FRAME_BYTES_MAX);
            batches.push(batch.len());
        }
        assert_eq!(batches, [1, 2, 2, 1, 1]);
    }
}
