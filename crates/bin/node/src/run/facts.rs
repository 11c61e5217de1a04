//! What threads other than the core may know at any moment, without asking it.

use aequa_api::backend::CheckpointRef;
use aequa_storage::FenceMark;
use aequa_types::{Digest, Height, OperatorIndex, Quorum, Round};
use parking_lot::{Mutex, RwLock};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Members ask each other for their status every second: silent for this long is no longer a blip (contract: http,
/// section 5).
pub const SILENT_FOR: Duration = Duration::from_secs(6);

/// Another operator as last seen.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    /// libp2p peer id.
    pub peer_id: String,
    /// Whether there is a connection to it.
    pub connected: bool,
    /// When it last said anything that only a living node of this cluster says.
    pub heard: Option<Instant>,
    /// Last round-trip time of a status exchange, in milliseconds.
    pub rtt_ms: Option<f64>,
    /// Height it has shown.
    pub height: Option<Height>,
    /// Its clock minus ours, in milliseconds.
    pub clock_offset_ms: Option<i64>,
}

impl Peer {
    /// Whether it is connected and alive: a process that hangs keeps its connections for a minute.
    pub fn answers(&self) -> bool {
        self.connected && self.heard.is_some_and(|heard| heard.elapsed() < SILENT_FOR)
    }
}

/// A snapshot board, written by the core and the network, read by the API.
#[derive(Debug)]
pub struct Facts {
    quorum: Quorum,
    tip_height: AtomicU64,
    tip_digest: RwLock<Digest>,
    stable_checkpoint: Mutex<Option<CheckpointRef>>,
    round: AtomicU64,
    leader: AtomicU64,
    peers: Mutex<Vec<Peer>>,
    started: AtomicBool,
    stopping: AtomicBool,
    storage_failed: AtomicBool,
    rejoining: AtomicBool,
    abstaining: AtomicBool,
    stalled: AtomicBool,
    left_behind: AtomicBool,
    fenced: AtomicBool,
    fence: Mutex<Option<FenceMark>>,
    since: Instant,
    behind_since: Mutex<Option<Instant>>,
    /// When the core was asked what it has not answered yet.
    core_asked: Mutex<Option<Instant>>,
}

impl Facts {
    /// A board for these peers (own entry included), at this tip.
    pub fn new(quorum: Quorum, peers: Vec<Peer>, height: Height, digest: Digest) -> Self {
        Self {
            quorum,
            tip_height: AtomicU64::new(height.0),
            tip_digest: RwLock::new(digest),
            stable_checkpoint: Mutex::new(None),
            round: AtomicU64::new(0),
            leader: AtomicU64::new(0),
            peers: Mutex::new(peers),
            started: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            storage_failed: AtomicBool::new(false),
            rejoining: AtomicBool::new(false),
            abstaining: AtomicBool::new(false),
            stalled: AtomicBool::new(false),
            left_behind: AtomicBool::new(false),
            fenced: AtomicBool::new(false),
            fence: Mutex::new(None),
            since: Instant::now(),
            behind_since: Mutex::new(None),
            core_asked: Mutex::new(None),
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

    /// A checkpoint was found stable.
    pub fn set_stable_checkpoint(&self, stable: CheckpointRef) {
        *self.stable_checkpoint.lock() = Some(stable);
    }

    /// The last stable checkpoint.
    pub fn stable_checkpoint(&self) -> Option<CheckpointRef> {
        *self.stable_checkpoint.lock()
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
    pub fn set_rejoining(&self, rejoining: bool) {
        self.rejoining.store(rejoining, Relaxed);
    }

    /// Whether the node signs nothing until the members have said what it signed.
    pub fn is_rejoining(&self) -> bool {
        self.rejoining.load(Relaxed)
    }

    /// Whether this operator signs no block at the height being agreed on.
    pub fn set_abstaining(&self, abstaining: bool) {
        self.abstaining.store(abstaining, Relaxed);
    }

    /// Whether this operator signs no block at the height being agreed on.
    pub fn is_abstaining(&self) -> bool {
        self.abstaining.load(Relaxed)
    }

    /// The node does not trust its state, or does again.
    pub fn set_fence(&self, mark: Option<FenceMark>) {
        let mut fence = self.fence.lock();
        self.fenced.store(mark.is_some(), Relaxed);
        *fence = mark;
    }

    /// Whether the node does not trust its state.
    pub fn is_fenced(&self) -> bool {
        self.fenced.load(Relaxed)
    }

    /// Why it does not.
    pub fn fence(&self) -> Option<FenceMark> {
        self.fence.lock().clone()
    }

    /// Whether work waits and rounds bring no decision.
    pub fn set_stalled(&self, stalled: bool) {
        self.stalled.store(stalled, Relaxed);
    }

    /// Other operators are in force. That stays so until this node begins again with their lock.
    pub fn set_left_behind(&self) {
        self.left_behind.store(true, Relaxed);
    }

    /// Whether other operators are in force.
    pub fn is_left_behind(&self) -> bool {
        self.left_behind.load(Relaxed)
    }

    /// The core is asked, perhaps again because it has not answered.
    pub fn core_asked(&self, now: Instant) {
        self.core_asked.lock().get_or_insert(now);
    }

    /// The core has answered.
    pub fn core_answered(&self) {
        *self.core_asked.lock() = None;
    }

    /// How long the core has left a question unanswered.
    pub fn core_silent_for(&self) -> Duration {
        self.core_asked.lock().map_or(Duration::ZERO, |asked| asked.elapsed())
    }

    /// Whether work waits and rounds bring no decision.
    pub fn is_stalled(&self) -> bool {
        self.stalled.load(Relaxed)
    }

    /// The log or the store failed.
    pub fn set_storage_failed(&self) {
        self.storage_failed.store(true, Relaxed);
    }

    /// Whether the log or the store failed.
    pub fn is_storage_failed(&self) -> bool {
        self.storage_failed.load(Relaxed)
    }

    /// For how long fewer than a quorum of operators have been heard, this one included.
    pub fn quorum_lost_for(&self, me: OperatorIndex) -> Duration {
        let peers = self.peers.lock();
        let heard = |peer: &Peer| peer.heard.unwrap_or(self.since);
        let others = peers.iter().enumerate().filter(|(i, _)| *i != me.as_usize());
        let mut silent: Vec<Duration> = others.map(|(_, peer)| heard(peer).elapsed()).collect();
        silent.sort_unstable();
        let needed = self.quorum.quorum() - 1;
        needed.checked_sub(1).and_then(|last| silent.get(last)).copied().unwrap_or_default()
    }

    /// Whether so few operators answer that what only this one has may be with no honest one but it: with itself, not
    /// even f+1.
    pub fn is_alone(&self, me: OperatorIndex) -> bool {
        let peers = self.peers.lock();
        let answering = peers.iter().enumerate().filter(|(i, peer)| *i == me.as_usize() || peer.answers());
        answering.count() < self.quorum.weak_quorum()
    }

    /// How long this node has been more than two blocks behind a peer.
    pub fn behind_for(&self) -> Option<Duration> {
        let lag = self.best_peer_height().0.saturating_sub(self.tip_height().0);
        holds_since(&self.behind_since, lag > 2)
    }
}

/// Remembers since when a condition holds.
fn holds_since(since: &Mutex<Option<Instant>>, holds: bool) -> Option<Duration> {
    let mut since = since.lock();
    if !holds {
        *since = None;
        return None;
    }
    Some(since.get_or_insert_with(Instant::now).elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: OperatorIndex = OperatorIndex(1);

    /// A board of four whose peers were heard so many seconds ago.
    fn board(heard: [Option<u64>; 3]) -> Facts {
        let facts = Facts::new(Quorum::of(4).unwrap(), vec![Peer::default(); 4], Height(0), Digest::ZERO);
        for (operator, seconds) in [0, 2, 3].into_iter().zip(heard) {
            let heard = seconds.and_then(|seconds| Instant::now().checked_sub(Duration::from_secs(seconds)));
            facts.update_peer(OperatorIndex(operator), |peer| {
                peer.connected = true;
                peer.heard = heard;
            });
        }
        facts
    }

    #[test]
    fn a_quorum_is_lost_since_one_too_few_was_heard() {
        let lost_for = |heard| board(heard).quorum_lost_for(ME).as_secs();
        assert_eq!(lost_for([Some(0), Some(0), Some(72)]), 0, "f may be silent");
        assert_eq!(lost_for([Some(72), Some(9), Some(0)]), 9);
        assert_eq!(lost_for([None, Some(0), None]), 0, "not yet longer than this node is there");
        let alone = Facts::new(Quorum::of(1).unwrap(), vec![Peer::default()], Height(0), Digest::ZERO);
        assert_eq!(alone.quorum_lost_for(OperatorIndex(0)), Duration::ZERO);
    }

    #[test]
    fn a_connected_peer_that_says_nothing_does_not_answer() {
        let answers = |seconds| {
            let peer = board([seconds; 3]).peers().remove(0);
            peer.answers()
        };
        assert!(answers(Some(5)));
        assert!(!answers(Some(6)) && !answers(None));
    }

    #[test]
    fn who_reaches_fewer_than_f_others_is_alone() {
        assert!(board([None; 3]).is_alone(ME) && board([Some(6); 3]).is_alone(ME));
        assert!(!board([None, Some(5), None]).is_alone(ME));
    }
}
