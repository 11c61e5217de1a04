//! What a peer's behaviour is worth, and how much it may send.
//!
//! Points halve every ten minutes. The carrier of a message is scored, not its author. Members are
//! never cut off for their score: they are slowed down.

use crate::bucket::TokenBucket;
use libp2p::PeerId;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// After this long half of a score is forgotten.
pub const HALF_LIFE: Duration = Duration::from_secs(600);
/// Lowest score, so that even the worst peer is forgiven within two hours.
pub const SCORE_MIN: f64 = -1000.0;
/// Highest score, so that credit cannot be hoarded for an attack.
pub const SCORE_MAX: f64 = 100.0;
/// At this score strangers are cut off and members slowed down.
pub const SCORE_CUT: f64 = -200.0;
/// How long a stranger stays cut off.
pub const BAN: Duration = Duration::from_secs(600);
/// Peers remembered; strangers with fresh ids push each other out, members stay.
pub const PEERS_MAX: usize = 4096;

/// Frames a member may send per second: an order of magnitude above a busy cluster's traffic.
pub const FRAMES_PER_SECOND: f64 = 20_000.0;
/// Bytes a member may send per second: a full proposal every 63 ms.
pub const BYTES_PER_SECOND: f64 = 64.0 * 1024.0 * 1024.0;
/// Seconds of traffic that may come at once.
const BURST_SECONDS: f64 = 2.0;
/// How much dearer traffic is for a member below [`SCORE_CUT`].
const THROTTLE: f64 = 10.0;
/// A rate excess costs points once in this long, not once per frame.
const EXCESS_PERIOD: Duration = Duration::from_secs(1);

/// Something a peer did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// A message that helped.
    Useful,
    /// A valid message that was late or known.
    Useless,
    /// More traffic than allowed.
    RateExcess,
    /// Undecodable bytes or an oversize frame.
    Malformed,
    /// A message that its evidence does not justify, a bad share or seal.
    Unjustified,
    /// A signature that does not hold.
    BadSignature,
    /// A message of another cluster.
    WrongCluster,
}

impl Deed {
    /// Points the deed is worth.
    pub fn points(self) -> f64 {
        match self {
            Deed::Useful => 1.0,
            Deed::Useless => -1.0,
            Deed::RateExcess => -5.0,
            Deed::Malformed | Deed::Unjustified => -50.0,
            Deed::BadSignature | Deed::WrongCluster => -100.0,
        }
    }
}

/// How a peer must be paced after sending something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace {
    /// How long to leave its stream unread.
    pub wait: Duration,
}

/// Scores, attempt budgets and traffic budgets of peers.
#[derive(Debug)]
pub(crate) struct PeerTable {
    attempts_per_second: f64,
    peers: HashMap<PeerId, Peer>,
}

#[derive(Debug)]
struct Peer {
    member: bool,
    points: f64,
    at: Instant,
    banned_until: Option<Instant>,
    attempts: Option<TokenBucket>,
    traffic: Option<Box<Traffic>>,
}

#[derive(Debug)]
struct Traffic {
    frames: TokenBucket,
    bytes: TokenBucket,
    excess_at: Option<Instant>,
}

impl PeerTable {
    /// A table with the members in it. `attempts_per_second` 0 turns the attempt budget off.
    pub fn new(members: impl IntoIterator<Item = PeerId>, attempts_per_second: f64, now: Instant) -> Self {
        let peers = members.into_iter().map(|peer| (peer, Peer::new(true, now))).collect();
        Self { attempts_per_second, peers }
    }

    /// The peer's score now; 0 for a peer never seen.
    pub fn score(&self, peer: &PeerId, now: Instant) -> f64 {
        self.peers.get(peer).map_or(0.0, |peer| peer.points_at(now))
    }

    /// Whether the peer is a stranger that was cut off.
    pub fn is_banned(&self, peer: &PeerId, now: Instant) -> bool {
        self.peers.get(peer).and_then(|peer| peer.banned_until).is_some_and(|until| now < until)
    }

    /// Takes one connection attempt from the peer's budget.
    pub fn take_attempt(&mut self, peer: &PeerId, now: Instant) -> bool {
        let rate = self.attempts_per_second;
        if rate <= 0.0 {
            return true;
        }
        let attempts = &mut self.entry(peer, now).attempts;
        attempts.get_or_insert_with(|| TokenBucket::new(rate, 2.0 * rate, now)).take(now)
    }

    /// Adds a deed's points. Returns `true` when this cuts the peer off, which happens to strangers only.
    pub fn record(&mut self, peer: &PeerId, deed: Deed, now: Instant) -> bool {
        self.entry(peer, now).add(deed, now)
    }

    /// Charges a received frame of `bytes` and says how long to leave the peer's stream unread.
    pub fn charge(&mut self, peer: &PeerId, bytes: usize, now: Instant) -> Pace {
        let entry = self.entry(peer, now);
        let factor = if entry.points_at(now) <= SCORE_CUT { THROTTLE } else { 1.0 };
        let traffic = entry.traffic.get_or_insert_with(|| Box::new(Traffic::new(now)));
        let frames = traffic.frames.borrow(factor, now);
        let wait = traffic.bytes.borrow(bytes as f64 * factor, now).max(frames);
        let excess = !wait.is_zero()
            && traffic.excess_at.is_none_or(|at| now.saturating_duration_since(at) >= EXCESS_PERIOD);
        if excess {
            traffic.excess_at = Some(now);
            entry.add(Deed::RateExcess, now);
        }
        Pace { wait }
    }

    fn entry(&mut self, peer: &PeerId, now: Instant) -> &mut Peer {
        if !self.peers.contains_key(peer) && self.peers.len() >= PEERS_MAX {
            self.forget_oldest();
        }
        self.peers.entry(*peer).or_insert_with(|| Peer::new(false, now))
    }

    /// Linear, but only for a stranger never seen while the table is full, and those pass the address bucket first.
    fn forget_oldest(&mut self) {
        let strangers = self.peers.iter().filter(|(_, peer)| !peer.member);
        if let Some(oldest) = strangers.min_by_key(|(_, peer)| peer.at).map(|(id, _)| *id) {
            self.peers.remove(&oldest);
        }
    }
}

impl Peer {
    fn new(member: bool, now: Instant) -> Self {
        Self { member, points: 0.0, at: now, banned_until: None, attempts: None, traffic: None }
    }

    fn points_at(&self, now: Instant) -> f64 {
        let age = now.saturating_duration_since(self.at).as_secs_f64();
        self.points * (-age / HALF_LIFE.as_secs_f64()).exp2()
    }

    fn add(&mut self, deed: Deed, now: Instant) -> bool {
        self.points = (self.points_at(now) + deed.points()).clamp(SCORE_MIN, SCORE_MAX);
        self.at = self.at.max(now);
        let cut = !self.member && self.points <= SCORE_CUT;
        if cut {
            self.banned_until = Some(now + BAN);
        }
        cut
    }
}

impl Traffic {
    fn new(now: Instant) -> Self {
        Self {
            frames: TokenBucket::new(FRAMES_PER_SECOND, FRAMES_PER_SECOND * BURST_SECONDS, now),
            bytes: TokenBucket::new(BYTES_PER_SECOND, BYTES_PER_SECOND * BURST_SECONDS, now),
            excess_at: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(members: &[PeerId], now: Instant) -> PeerTable {
        PeerTable::new(members.iter().copied(), 2.0, now)
    }

    #[test]
    fn points_halve_every_ten_minutes_and_stay_in_range() {
        let (now, peer) = (Instant::now(), PeerId::random());
        let mut table = table(&[peer], now);
        table.record(&peer, Deed::BadSignature, now);
        assert_eq!(table.score(&peer, now), -100.0);
        assert_eq!(table.score(&peer, now + HALF_LIFE), -50.0);
        for _ in 0..100 {
            table.record(&peer, Deed::BadSignature, now);
        }
        assert_eq!(table.score(&peer, now), SCORE_MIN);
        for _ in 0..2000 {
            table.record(&peer, Deed::Useful, now);
        }
        assert_eq!(table.score(&peer, now), SCORE_MAX);
    }

    #[test]
    fn a_stranger_is_cut_off_for_ten_minutes_and_a_member_never() {
        let (now, member, stranger) = (Instant::now(), PeerId::random(), PeerId::random());
        let mut table = table(&[member], now);
        for peer in [member, stranger] {
            assert!(!table.record(&peer, Deed::WrongCluster, now));
        }
        assert!(!table.record(&member, Deed::WrongCluster, now));
        assert!(table.record(&stranger, Deed::WrongCluster, now));
        assert!(!table.is_banned(&member, now));
        assert!(table.is_banned(&stranger, now + BAN - Duration::from_millis(1)));
        assert!(!table.is_banned(&stranger, now + BAN));
    }

    #[test]
    fn a_member_of_bad_repute_is_slowed_down() {
        let (now, peer) = (Instant::now(), PeerId::random());
        let mut table = table(&[peer], now);
        let burst = (BYTES_PER_SECOND * BURST_SECONDS) as usize;
        assert_eq!(table.charge(&peer, burst, now).wait, Duration::ZERO);
        table.record(&peer, Deed::BadSignature, now);
        table.record(&peer, Deed::BadSignature, now);
        let slow = table.charge(&peer, BYTES_PER_SECOND as usize, now).wait;
        assert_eq!(slow, Duration::from_secs(10));
    }

    #[test]
    fn an_excess_of_traffic_costs_points_once_a_second() {
        let (now, peer) = (Instant::now(), PeerId::random());
        let mut table = table(&[peer], now);
        for _ in 0..10 {
            table.charge(&peer, (BYTES_PER_SECOND * 1.0) as usize, now);
        }
        assert_eq!(table.score(&peer, now), Deed::RateExcess.points());
    }

    #[test]
    fn fresh_ids_push_out_strangers_but_not_members() {
        let (now, member) = (Instant::now(), PeerId::random());
        let mut table = table(&[member], now);
        for i in 0..PEERS_MAX + 10 {
            table.record(&PeerId::random(), Deed::Useless, now + Duration::from_millis(i as u64));
        }
        assert_eq!(table.peers.len(), PEERS_MAX);
        assert!(table.peers.contains_key(&member));
    }

    #[test]
    fn the_attempt_budget_refills() {
        let (now, peer) = (Instant::now(), PeerId::random());
        let mut table = table(&[peer], now);
        assert_eq!((0..10).filter(|_| table.take_attempt(&peer, now)).count(), 4);
        assert!(table.take_attempt(&peer, now + Duration::from_secs(1)));
    }
}
