//! What threads other than the core may know at any moment, without asking it.

use aequa_types::{Digest, Height, OperatorIndex, Quorum, Round};
use parking_lot::{Mutex, RwLock};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// Another operator as last seen.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    /// libp2p peer id.
    pub peer_id: String,
    /// Whether direct messages reach it.
    pub connected: bool,
    /// Last round-trip time of a status exchange, in milliseconds.
    pub rtt_ms: Option<f64>,
    /// Height it has shown.
    pub height: Option<Height>,
    /// Its clock minus ours, in milliseconds.
    pub clock_offset_ms: Option<i64>,
}

/// A snapshot board, written by the core and the network, read by the API.
#[derive(Debug)]
pub struct Facts {
    quorum: Quorum,
    tip_height: AtomicU64,
    tip_digest: RwLock<Digest>,
    round: AtomicU64,
    leader: AtomicU64,
    peers: Mutex<Vec<Peer>>,
    started: AtomicBool,
    stopping: AtomicBool,
    storage_failed: AtomicBool,
    inquiring: AtomicBool,
    quorum_lost_since: Mutex<Option<Instant>>,
    behind_since: Mutex<Option<Instant>>,
}

impl Facts {
    /// A board for these peers (own entry included), at this tip.
    pub fn new(quorum: Quorum, peers: Vec<Peer>, height: Height, digest: Digest) -> Self {
        Self {
            quorum,
            tip_height: AtomicU64::new(height.0),
            tip_digest: RwLock::new(digest),
            round: AtomicU64::new(0),
            leader: AtomicU64::new(0),
            peers: Mutex::new(peers),
            started: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            storage_failed: AtomicBool::new(false),
            inquiring: AtomicBool::new(false),
            quorum_lost_since: Mutex::new(None),
            behind_since: Mutex::new(None),
        }
    }

    /// The last stored block.
    pub fn tip(&self) -> (Height, Digest) {
        let digest = *self.tip_digest.read();
        (self.tip_height(), digest)
    }

    /// Height of the last stored block.
    pub fn tip_height(&self) -> Height {
        Height(self.tip_height.load(Relaxed))
    }

    /// A block was stored.
    pub fn set_tip(&self, height: Height, digest: Digest) {
        *self.tip_digest.write() = digest;
        self.tip_height.store(height.0, Relaxed);
    }

    /// Round and leader of the height being agreed.
    pub fn agreeing(&self) -> (Round, OperatorIndex) {
        let leader = u8::try_from(self.leader.load(Relaxed)).unwrap_or(u8::MAX);
        (Round(self.round.load(Relaxed)), OperatorIndex(leader))
    }

    /// The core moved to this round.
    pub fn set_agreeing(&self, round: Round, leader: OperatorIndex) {
        self.round.store(round.0, Relaxed);
        self.leader.store(u64::from(leader.0), Relaxed);
    }

    /// All operators, by index.
    pub fn peers(&self) -> Vec<Peer> {
        self.peers.lock().clone()
    }

    /// Changes what is known of one operator.
    pub fn update_peer(&self, operator: OperatorIndex, update: impl FnOnce(&mut Peer)) {
        if let Some(peer) = self.peers.lock().get_mut(operator.as_usize()) {
            update(peer);
        }
    }

    /// The highest height that f+1 peers have shown or passed: one of them is honest.
    pub fn best_peer_height(&self) -> Height {
        let mut shown: Vec<Height> = self.peers.lock().iter().filter_map(|peer| peer.height).collect();
        shown.sort_unstable_by(|a, b| b.cmp(a));
        shown.get(self.quorum.faulty_max()).copied().unwrap_or_default()
    }

    /// The core runs.
    pub fn set_started(&self) {
        self.started.store(true, Relaxed);
    }

    /// Whether the core runs.
    pub fn is_started(&self) -> bool {
        self.started.load(Relaxed)
    }

    /// The node is shutting down.
    pub fn set_stopping(&self) {
        self.stopping.store(true, Relaxed);
    }

    /// Whether the node is shutting down.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Relaxed)
    }

    /// The members have to be asked what was signed, or have answered.
    pub fn set_inquiring(&self, inquiring: bool) {
        self.inquiring.store(inquiring, Relaxed);
    }

    /// Whether the node signs nothing until the members have said what it signed.
    pub fn is_inquiring(&self) -> bool {
        self.inquiring.load(Relaxed)
    }

    /// The log or the store failed.
    pub fn set_storage_failed(&self) {
        self.storage_failed.store(true, Relaxed);
    }

    /// Whether the log or the store failed.
    pub fn is_storage_failed(&self) -> bool {
        self.storage_failed.load(Relaxed)
    }

    /// How long fewer than a quorum of operators have been connected, this one included.
    pub fn quorum_lost_for(&self, me: OperatorIndex) -> Option<std::time::Duration> {
        let peers = self.peers.lock();
        let up = peers.iter().enumerate().filter(|(i, peer)| *i == me.as_usize() || peer.connected).count();
        holds_since(&self.quorum_lost_since, up < self.quorum.quorum())
    }

    /// How long this node has been more than two blocks behind a peer.
    pub fn behind_for(&self) -> Option<std::time::Duration> {
        let lag = self.best_peer_height().0.saturating_sub(self.tip_height().0);
        holds_since(&self.behind_since, lag > 2)
    }
}

/// Remembers since when a condition holds.
fn holds_since(since: &Mutex<Option<Instant>>, holds: bool) -> Option<std::time::Duration> {
    let mut since = since.lock();
    if !holds {
        *since = None;
        return None;
    }
    Some(since.get_or_insert_with(Instant::now).elapsed())
}
