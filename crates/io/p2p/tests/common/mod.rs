//! A cluster of real nodes on loopback whose handlers and observers write everything down.

#![allow(dead_code)]

use aequa_p2p::*;
use aequa_types::{ClusterId, OperatorIndex};
use bytes::Bytes;
use futures::future::BoxFuture;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

pub const CLUSTER: ClusterId = ClusterId::repeat_byte(7);
/// Far above what any condition needs; only a failing test waits this long.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Net {
    Tcp,
    Quic,
}

/// An address no other test of this machine uses: the process picks the host, a counter the port.
pub fn fresh_address(net: Net) -> String {
    static PORT: AtomicU16 = AtomicU16::new(20_000);
    let [_, a, b, c] = std::process::id().to_be_bytes();
    let port = PORT.fetch_add(1, SeqCst);
    match net {
        Net::Tcp => format!("/ip4/127.{}.{b}.{c}/tcp/{port}", a | 64),
        Net::Quic => format!("/ip4/127.{}.{b}.{c}/udp/{port}/quic-v1", a | 64),
    }
}

pub fn seed(operator: u8) -> [u8; 32] {
    [operator + 1; 32]
}

/// Seeds whose peer ids ascend, so that a test can choose who opens streams.
pub fn ascending_seeds(count: usize) -> Vec<[u8; 32]> {
    let id = |seed: &[u8; 32]| peer_id_of(*seed).parse::<libp2p::PeerId>().unwrap();
    let mut seeds: Vec<_> = (0..count as u8).map(seed).collect();
    seeds.sort_by_key(id);
    seeds
}

/// Configurations of a cluster that knows all its addresses.
pub fn cluster(n: usize, net: Net) -> Vec<Config> {
    let seeds = ascending_seeds(n);
    let addrs: Vec<_> = (0..n).map(|_| fresh_address(net)).collect();
    let members: Vec<_> = (0..n)
        .map(|i| Member {
            operator: OperatorIndex(i as u8),
            peer_id: peer_id_of(seeds[i]),
            addrs: vec![addrs[i].clone()],
        })
        .collect();
    (0..n)
        .map(|i| {
            let mut config = Config::new(&seeds[i], CLUSTER, OperatorIndex(i as u8), members.clone());
            config.listen = vec![addrs[i].clone()];
            config
        })
        .collect()
}

pub fn op(index: usize) -> OperatorIndex {
    OperatorIndex(index as u8)
}

pub fn msg(text: &str) -> Message {
    Message::new(1, text.to_owned())
}

/// A node and what it saw.
pub struct Node {
    pub network: Network,
    pub log: Arc<Log>,
}

impl Node {
    pub fn start(config: Config) -> Self {
        Self::try_start(config).unwrap()
    }

    pub fn try_start(config: Config) -> Result<Self, P2pError> {
        let log = Arc::new(Log::default());
        let network = start(config, log.clone(), log.clone())?;
        Ok(Self { network, log })
    }

    pub async fn until(&self, what: &str, condition: impl Fn(&Node) -> bool) {
        let mut changes = self.log.changes.subscribe();
        let met = changes.wait_for(|_| condition(self));
        if tokio::time::timeout(PATIENCE, met).await.is_err() {
            panic!("never happened: {what}; seen: {}", self.log.summary());
        }
    }

    pub async fn until_connected(&self, peers: usize) {
        self.until("connected to all", |node| node.network.connected().len() == peers).await;
    }
}

pub async fn start_all(configs: Vec<Config>) -> Vec<Node> {
    let nodes: Vec<_> = configs.into_iter().map(Node::start).collect();
    for node in &nodes {
        node.until_connected(nodes.len() - 1).await;
    }
    nodes
}

/// Handler and observer in one; every call wakes [`Node::until`].
#[derive(Debug, Default)]
pub struct Log {
    pub frames: Mutex<Vec<(OperatorIndex, Topic, Message)>>,
    pub gossip: Mutex<Vec<Bytes>>,
    pub ups: AtomicUsize,
    pub downs: AtomicUsize,
    pub opened: AtomicUsize,
    pub closed: AtomicUsize,
    pub joined: AtomicUsize,
    pub left: AtomicUsize,
    pub unknown: AtomicUsize,
    pub handling: AtomicUsize,
    pub handling_most: AtomicUsize,
    /// While true, frames wait in their handler.
    pub stalled: watch::Sender<bool>,
    pub attempts: Mutex<HashMap<Attempt, usize>>,
    pub refusals: Mutex<HashMap<Gate, usize>>,
    pub messages: Mutex<HashMap<(Topic, Direction, Outcome), usize>>,
    pub changes: watch::Sender<()>,
}

impl Log {
    pub fn bodies(&self) -> Vec<Bytes> {
        self.frames.lock().unwrap().iter().map(|(_, _, message)| message.body.clone()).collect()
    }

    pub fn bodies_from(&self, operator: OperatorIndex) -> Vec<Bytes> {
        let frames = self.frames.lock().unwrap();
        frames.iter().filter(|(from, ..)| *from == operator).map(|(_, _, m)| m.body.clone()).collect()
    }

    pub fn gossiped(&self, body: &str) -> bool {
        self.gossip.lock().unwrap().iter().any(|seen| seen == body)
    }

    pub fn attempts(&self, attempt: Attempt) -> usize {
        self.attempts.lock().unwrap().get(&attempt).copied().unwrap_or_default()
    }

    pub fn refusals(&self, gate: Gate) -> usize {
        self.refusals.lock().unwrap().get(&gate).copied().unwrap_or_default()
    }

    pub fn messages(&self, topic: Topic, direction: Direction, outcome: Outcome) -> usize {
        self.messages.lock().unwrap().get(&(topic, direction, outcome)).copied().unwrap_or_default()
    }

    fn summary(&self) -> String {
        let counts =
            [&self.ups, &self.downs, &self.opened, &self.closed, &self.unknown].map(|n| n.load(SeqCst));
        format!(
            "{} frames, ups downs opened closed unknown {counts:?}, {:?}, {:?}, {:?}",
            self.bodies().len(),
            self.attempts.lock().unwrap(),
            self.refusals.lock().unwrap(),
            self.messages.lock().unwrap(),
        )
    }

    fn changed(&self) {
        self.changes.send_replace(());
    }

    fn bump(&self, counter: &AtomicUsize) {
        counter.fetch_add(1, SeqCst);
        self.changed();
    }
}

impl Handler for Log {
    fn frame(&self, from: OperatorIndex, topic: Topic, message: Message) -> BoxFuture<'_, Verdict> {
        Box::pin(async move {
            let now = self.handling.fetch_add(1, SeqCst) + 1;
            self.handling_most.fetch_max(now, SeqCst);
            self.changed();
            let _ = self.stalled.subscribe().wait_for(|stalled| !stalled).await;
            tokio::task::yield_now().await;
            self.handling.fetch_sub(1, SeqCst);
            self.frames.lock().unwrap().push((from, topic, message));
            self.changed();
            Verdict::Accept
        })
    }

    /// Bodies that start with "bad" are rejected.
    fn gossip(&self, _: OperatorIndex, _: Topic, message: Message) -> BoxFuture<'_, GossipVerdict> {
        Box::pin(async move {
            let bad = message.body.starts_with(b"bad");
            self.gossip.lock().unwrap().push(message.body);
            self.changed();
            if bad { GossipVerdict::Reject } else { GossipVerdict::Accept }
        })
    }

    /// Answers with the question twice; "silence" gets none, "never" takes for ever.
    fn request(&self, _: OperatorIndex, message: Message) -> BoxFuture<'_, Option<Message>> {
        Box::pin(async move {
            if message.body == "never" {
                std::future::pending::<()>().await;
            }
            let body = [&message.body[..], &message.body[..]].concat();
            (message.body != "silence").then(|| Message::new(message.kind + 1, body))
        })
    }

    fn connected(&self, _: OperatorIndex) {
        self.bump(&self.ups);
    }

    fn disconnected(&self, _: OperatorIndex) {
        self.bump(&self.downs);
    }
}

impl Observer for Log {
    fn conn_attempt(&self, attempt: Attempt, _: Option<&str>) {
        *self.attempts.lock().unwrap().entry(attempt).or_default() += 1;
        self.changed();
    }
    fn gate(&self, gate: Gate, allowed: bool) {
        *self.refusals.lock().unwrap().entry(gate).or_default() += usize::from(!allowed);
        self.changed();
    }
    fn conn_opened(&self) {
        self.bump(&self.opened);
    }
    fn conn_closed(&self) {
        self.bump(&self.closed);
    }
    fn peer_joined(&self, _: &str, _: Duration) {
        self.bump(&self.joined);
    }
    fn peer_left(&self, _: &str) {
        self.bump(&self.left);
    }
    fn message(&self, topic: Topic, direction: Direction, outcome: Outcome, _: usize) {
        *self.messages.lock().unwrap().entry((topic, direction, outcome)).or_default() += 1;
        self.changed();
    }
    fn unknown_version(&self, _: Topic, _: u8) {
        self.bump(&self.unknown);
    }
}
