//! The handle the node holds.

use crate::driver::Command;
use crate::envelope::Message;
use crate::error::P2pError;
use crate::hooks::{Direction, Outcome};
use crate::queue::Queued;
use crate::request;
use crate::shared::{MemberShared, Shared};
use crate::topic::{Carriage, Topic};
use aequa_types::OperatorIndex;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{mpsc, oneshot};

/// Code of SHA-256 among multihashes.
#[cfg(feature = "e2e")]
const SHA2_256: u64 = 0x12;

/// A running transport. Clones share it; it ends with [`Network::shutdown`] or with the last clone.
#[derive(Clone)]
pub struct Network {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
}

impl Network {
    pub(crate) fn new(shared: Arc<Shared>, commands: mpsc::Sender<Command>) -> Self {
        Self { shared, commands }
    }

    /// Queues a message for one member on a direct topic. Never waits: what cannot be queued is dropped and
    /// counted, because senders re-send.
    pub fn send(&self, to: OperatorIndex, topic: Topic, message: &Message) {
        if let (Some(member), Some(frame)) = (self.shared.members.get(&to), self.encode(topic, message)) {
            self.enqueue(member, topic, frame, message.supersedes);
        }
    }

    /// Queues a message for every other member on a direct topic.
    pub fn broadcast(&self, topic: Topic, message: &Message) {
        let start = Instant::now();
        let Some(frame) = self.encode(topic, message) else { return };
        let mut peers = 0;
        for member in self.shared.members.values() {
            peers += usize::from(self.enqueue(member, topic, frame.clone(), message.supersedes));
        }
        self.shared.observer.broadcast(topic, peers, start.elapsed());
    }

    /// Publishes a message on a gossip topic.
    pub fn gossip(&self, topic: Topic, message: &Message) {
        debug_assert_eq!(topic.carriage(), Carriage::Gossip);
        let Some(frame) = self.encode(topic, message) else { return };
        let bytes = frame.len();
        if self.commands.try_send(Command::Gossip { topic, frame }).is_err() {
            self.shared.count(topic, Direction::Tx, Outcome::Error, bytes);
        }
    }

    /// Asks a member and waits for its answer, at most [`crate::REQUEST_TIMEOUT`].
    pub async fn request(&self, to: OperatorIndex, request: &Message) -> Result<Message, P2pError> {
        let member = self.shared.members.get(&to).ok_or(P2pError::NotMember { operator: to })?;
        let opening = async {
            let (reply, opened) = oneshot::channel();
            let command = Command::Open { operator: to, topic: Topic::Sync, reply };
            self.commands.send(command).await.map_err(|_| P2pError::Closed)?;
            Ok(opened)
        };
        request::ask(&self.shared, member, request, opening).await
    }

    /// Runs a made-up peer through the gates; any text names one, a peer id names itself.
    #[cfg(feature = "e2e")]
    pub async fn judge(&self, id: &str) -> Result<crate::gate::Attempt, P2pError> {
        let peer = id.parse().unwrap_or_else(|_| {
            // A key nobody can have: the hash of the name in the place of the public key's.
            let digest = <sha2::Sha256 as sha2::Digest>::digest(id.as_bytes());
            let hash = libp2p::multihash::Multihash::wrap(SHA2_256, &digest).unwrap_or_default();
            libp2p::PeerId::from_multihash(hash).unwrap_or_else(|_| libp2p::PeerId::random())
        });
        let (reply, judged) = oneshot::channel();
        self.commands.send(Command::Judge { peer, reply }).await.map_err(|_| P2pError::Closed)?;
        judged.await.map_err(|_| P2pError::Closed)
    }

    /// Members that direct messages are delivered to now, in order.
    pub fn connected(&self) -> Vec<OperatorIndex> {
        self.shared.connected.read().iter().copied().collect()
    }

    /// Addresses listened on, each ending with this node's peer id.
    pub fn listen_addrs(&self) -> Vec<String> {
        self.shared.listen_addrs.read().clone()
    }

    /// This node's peer id.
    pub fn self_id(&self) -> String {
        self.shared.self_id.to_string()
    }

    /// A member's score now.
    pub fn score(&self, of: OperatorIndex) -> f64 {
        let member = self.shared.members.get(&of);
        member.map_or(0.0, |member| self.shared.peers.lock().score(&member.peer, Instant::now()))
    }

    /// Writes what is queued, closes every connection and listener, and waits for all tasks to end. Bounded.
    pub async fn shutdown(self) {
        let (done, ended) = oneshot::channel();
        if self.commands.send(Command::Shutdown { done }).await.is_ok() {
            // An error means the driver ended on its own, which is what is waited for.
            let _ = ended.await;
        }
        self.shared.tasks.wait().await;
    }

    fn encode(&self, topic: Topic, message: &Message) -> Option<Bytes> {
        let frame = message.encode(self.shared.cluster_id);
        if frame.len() > topic.frame_bytes_max() {
            tracing::error!(%topic, bytes = frame.len(), "own message is larger than its topic allows");
            self.shared.count(topic, Direction::Tx, Outcome::Error, frame.len());
            return None;
        }
        Some(frame)
    }

    fn enqueue(&self, member: &MemberShared, topic: Topic, frame: Bytes, supersedes: Option<u64>) -> bool {
        let bytes = frame.len();
        let queued = member.queue(topic).map_or(Queued::Dropped, |queue| queue.push(frame, supersedes));
        if queued == Queued::Overflow {
            tracing::warn!(peer = %member.peer, %topic, "member does not read, closing its connection");
            self.shared.overflowed.raise(member.operator);
        }
        if queued != Queued::Yes {
            self.shared.count(topic, Direction::Tx, Outcome::Error, bytes);
        }
        queued == Queued::Yes
    }
}
