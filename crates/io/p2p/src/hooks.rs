//! How the rest of the node takes part: it handles what arrives and observes what happens.

use crate::envelope::Message;
use crate::gate::{Attempt, Gate};
use crate::score::Deed;
use crate::topic::Topic;
use aequa_types::OperatorIndex;
use futures::future::BoxFuture;
use std::time::Duration;

/// What a message of a direct stream was worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It helped.
    Accept,
    /// Valid, but stale or known.
    Useless,
    /// Of a kind this node does not know: ignored, the peer may be newer.
    Unknown,
    /// The body does not decode.
    Malformed,
    /// Its evidence does not justify it, or a share or seal in it is bad.
    Unjustified,
    /// A signature in it does not hold.
    BadSignature,
}

impl Verdict {
    pub(crate) fn deed(self) -> Option<Deed> {
        match self {
            Verdict::Accept => Some(Deed::Useful),
            Verdict::Useless => Some(Deed::Useless),
            Verdict::Unknown => None,
            Verdict::Malformed => Some(Deed::Malformed),
            Verdict::Unjustified => Some(Deed::Unjustified),
            Verdict::BadSignature => Some(Deed::BadSignature),
        }
    }

    pub(crate) fn outcome(self) -> Outcome {
        match self {
            Verdict::Accept | Verdict::Useless | Verdict::Unknown => Outcome::Ok,
            Verdict::Malformed => Outcome::DecodeError,
            Verdict::Unjustified | Verdict::BadSignature => Outcome::Error,
        }
    }
}

/// Whether a gossiped message may travel on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GossipVerdict {
    /// Good: forward it.
    Accept,
    /// Bad: drop it and penalise whoever forwarded it.
    Reject,
    /// Cannot tell: drop it, no penalty.
    Ignore,
}

/// Takes what members send. Called on reader tasks, several at a time.
pub trait Handler: Send + Sync {
    /// A message of a direct topic. The next one of the same stream is read when the future is done: taking
    /// long is how a node tells a member to slow down.
    fn frame(&self, from: OperatorIndex, topic: Topic, message: Message) -> BoxFuture<'_, Verdict>;

    /// A gossiped message, before it is forwarded. `from` carried it; the author is in the body.
    fn gossip(&self, from: OperatorIndex, topic: Topic, message: Message) -> BoxFuture<'_, GossipVerdict>;

    /// A question. `None` closes its stream without an answer.
    fn request(&self, from: OperatorIndex, message: Message) -> BoxFuture<'_, Option<Message>>;

    /// Direct messages to `operator` are delivered from now on.
    fn connected(&self, operator: OperatorIndex);

    /// Direct messages to `operator` are dropped from now on.
    fn disconnected(&self, operator: OperatorIndex);
}

/// Which way a message went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Received.
    Rx,
    /// Sent.
    Tx,
}

impl Direction {
    /// Value of the `direction` label.
    pub fn name(self) -> &'static str {
        match self {
            Direction::Rx => "rx",
            Direction::Tx => "tx",
        }
    }
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Handed over.
    Ok,
    /// Not delivered, or refused after decoding.
    Error,
    /// Oversize or undecodable.
    DecodeError,
}

impl Outcome {
    /// Value of the `result` label.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Error => "error",
            Outcome::DecodeError => "decode_error",
        }
    }
}

/// Hears of everything that is counted or logged. Calls are short and never block.
#[allow(unused_variables)]
pub trait Observer: Send + Sync {
    /// A connection attempt got its final verdict; once per attempt. The peer is known once authenticated.
    fn conn_attempt(&self, attempt: Attempt, peer_id: Option<&str>) {}
    /// One gate decided about one attempt.
    fn gate(&self, gate: Gate, allowed: bool) {}
    /// A connection is open.
    fn conn_opened(&self) {}
    /// It is closed; exactly once for each one opened.
    fn conn_closed(&self) {}
    /// The first connection of a peer is open; `latency` is what its handshake took.
    fn peer_joined(&self, peer_id: &str, latency: Duration) {}
    /// Its last one is closed; exactly once for each peer joined.
    fn peer_left(&self, peer_id: &str) {}
    /// A message to or from one peer; `bytes` is the frame with its length prefix.
    fn message(&self, topic: Topic, direction: Direction, outcome: Outcome, bytes: usize) {}
    /// A message of an envelope version this node does not know was ignored.
    fn unknown_version(&self, topic: Topic, version: u8) {}
    /// One logical broadcast was handed to the queues of `peers` members.
    fn broadcast(&self, topic: Topic, peers: usize, elapsed: Duration) {}
    /// The node listens on `addr`, which ends with its peer id.
    fn listen_addr(&self, self_id: &str, addr: &str) {}
}

/// Observes nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl Observer for Unobserved {}
