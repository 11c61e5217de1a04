//! Who may connect: the gates of contract p2p, section 4, as a pure pipeline.
//!
//! The first refusal decides. [`behaviour`] puts the pipeline into the transport's connection hooks;
//! time and addresses are handed in, so that every rule is tested without a socket.

pub(crate) mod behaviour;

use crate::bucket::TokenBucket;
use crate::score::PeerTable;
use behaviour::ip_of;
use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Instant;

/// Handshakes per second and address: a handshake costs about a millisecond of CPU.
pub const HANDSHAKES_PER_SECOND: f64 = 8.0;
/// Handshakes of one address at once.
pub const HANDSHAKE_BURST: f64 = 16.0;
/// Handshakes under way from addresses that are no member's; each holds a descriptor for some seconds. With
/// more the oldest has to go, so that one that makes progress has the time for it however many are silent.
pub const HANDSHAKES_PENDING_MAX: usize = 256;
/// Handshakes under way of one such address: a host behind it that dials over both transports, twice.
pub const HANDSHAKES_PER_ADDRESS_MAX: usize = 4;
/// Addresses with a bucket; when full, the full buckets are forgotten.
pub const ADDRESSES_MAX: usize = 4096;
/// Connections of one peer: the old one and its replacement.
pub const CONNS_PER_PEER_MAX: usize = 2;
/// Connections of strangers from one address.
pub const CONNS_PER_ADDRESS_MAX: usize = 8;

/// A gate of the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Gate {
    /// Is the peer id listed?
    Allowlist,
    /// Has the peer, or its address, attempts left?
    Rate,
    /// Is its score high enough?
    Score,
    /// Does the lock name it?
    Lock,
    /// Is there room?
    Resource,
}

impl Gate {
    /// Value of the `gate` label.
    pub fn name(self) -> &'static str {
        match self {
            Gate::Allowlist => "allowlist",
            Gate::Rate => "rate",
            Gate::Score => "score",
            Gate::Lock => "lock",
            Gate::Resource => "resource",
        }
    }

    /// The verdict of an attempt that this gate refused.
    pub fn refusal(self) -> Attempt {
        match self {
            Gate::Allowlist | Gate::Score => Attempt::Denied,
            Gate::Rate | Gate::Resource => Attempt::Limited,
            Gate::Lock => Attempt::DkgDenied,
        }
    }
}

/// Final verdict about a connection attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Attempt {
    /// All gates passed.
    Allowed,
    /// Not listed, or of bad repute.
    Denied,
    /// Too often, or no room.
    Limited,
    /// Not named by the lock.
    DkgDenied,
}

impl Attempt {
    /// Value of the `result` label.
    pub fn name(self) -> &'static str {
        match self {
            Attempt::Allowed => "allowed",
            Attempt::Denied => "denied",
            Attempt::Limited => "limited",
            Attempt::DkgDenied => "dkg_denied",
        }
    }
}

/// What the gates are told once.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub members: HashSet<PeerId>,
    pub allow: HashSet<PeerId>,
    /// Where members are.
    pub member_addresses: Arc<MemberAddresses>,
    pub max_conns: usize,
    pub score_threshold: Option<f64>,
    pub dkg_required: bool,
}

/// The networks members are known to call from: those of the lock, and those they announced.
#[derive(Debug, Default)]
pub(crate) struct MemberAddresses(Mutex<HashMap<PeerId, HashSet<IpAddr>>>);

impl MemberAddresses {
    /// All that is known of a member.
    pub fn set<'a>(&self, member: PeerId, addrs: impl IntoIterator<Item = &'a Multiaddr>) {
        let networks = addrs.into_iter().filter_map(ip_of).map(network_of).collect();
        self.0.lock().insert(member, networks);
    }

    /// How many members share a network; none if it is no member's.
    fn sharers(&self, network: &IpAddr) -> Option<usize> {
        let sharers = self.0.lock().values().filter(|networks| networks.contains(network)).count();
        (sharers > 0).then_some(sharers)
    }
}

/// A handshake under way.
#[derive(Debug, Clone)]
struct Pending {
    from: IpAddr,
    caller: Multiaddr,
}

/// A connection that may stay, and one that must make room for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Admission {
    pub evict: Option<(PeerId, ConnectionId)>,
}

/// The pipeline and what it remembers about connections.
pub(crate) struct Gates {
    rules: Rules,
    peers: Arc<Mutex<PeerTable>>,
    addresses: HashMap<IpAddr, TokenBucket>,
    /// Inbound handshakes under way; ids grow, so the first is the oldest.
    pending: BTreeMap<ConnectionId, Pending>,
    /// Open connections; ids grow, so the first of a peer is its oldest.
    open: BTreeMap<ConnectionId, (PeerId, Option<IpAddr>)>,
}

impl Gates {
    pub fn new(rules: Rules, peers: Arc<Mutex<PeerTable>>) -> Self {
        Self { rules, peers, addresses: HashMap::new(), pending: BTreeMap::new(), open: BTreeMap::new() }
    }

    /// Gate 0: may this caller start a handshake? If so, whose has to be ended for it, if any.
    pub fn admit_handshake(
        &mut self,
        id: ConnectionId,
        caller: &Multiaddr,
        now: Instant,
    ) -> Result<Option<Multiaddr>, Gate> {
        let Some(from) = ip_of(caller).map(network_of) else { return Ok(None) };
        let sharers = self.rules.member_addresses.sharers(&from);
        self.take_handshake(from, sharers.unwrap_or(1), now)?;
        let in_the_way = self.handshake_in_the_way(from, sharers);
        let turned_away = in_the_way.and_then(|id| self.pending.remove(&id)).map(|pending| pending.caller);
        self.pending.insert(id, Pending { from, caller: caller.clone() });
        Ok(turned_away)
    }

    /// The oldest handshake of the same address when that has as many as it may, else of all addresses that
    /// are no member's. One of a member's address is never in the way of others.
    fn handshake_in_the_way(&self, from: IpAddr, sharers: Option<usize>) -> Option<ConnectionId> {
        let of_address = || self.pending.iter().filter(|(_, pending)| pending.from == from);
        let most = sharers.map_or(HANDSHAKES_PER_ADDRESS_MAX, |sharers| sharers * HANDSHAKE_BURST as usize);
        if of_address().count() >= most {
            return of_address().next().map(|(id, _)| *id);
        }
        let is_stranger = |pending: &Pending| self.rules.member_addresses.sharers(&pending.from).is_none();
        let strangers = || self.pending.iter().filter(|(_, pending)| is_stranger(pending));
        let full = sharers.is_none() && strangers().count() >= HANDSHAKES_PENDING_MAX;
        full.then(|| strangers().next().map(|(id, _)| *id)).flatten()
    }

    /// A handshake ended, well or badly.
    pub fn handshake_ended(&mut self, id: ConnectionId) {
        self.pending.remove(&id);
    }

    /// Gates that cost nothing and change nothing, for a dial before it is made.
    pub fn admit_dial(&self, peer: &PeerId, now: Instant) -> Result<(), Gate> {
        self.check_listed(peer)?;
        self.check_score(peer, now)?;
        self.check_lock(peer)
    }

    /// Gates 1 to 5 for an authenticated peer. `judged` hears of every gate asked.
    pub fn admit_peer(
        &mut self,
        peer: &PeerId,
        from: Option<IpAddr>,
        now: Instant,
        mut judged: impl FnMut(Gate, bool),
    ) -> Result<Admission, Gate> {
        for gate in [Gate::Allowlist, Gate::Rate, Gate::Score, Gate::Lock] {
            let result = match gate {
                Gate::Allowlist => self.check_listed(peer),
                Gate::Rate => self.check_rate(peer, now),
                Gate::Score => self.check_score(peer, now),
                Gate::Lock | Gate::Resource => self.check_lock(peer),
            };
            judged(gate, result.is_ok());
            result?;
        }
        let admission = self.check_room(peer, from.map(network_of));
        judged(Gate::Resource, admission.is_ok());
        admission
    }

    pub fn opened(&mut self, id: ConnectionId, peer: PeerId, from: Option<IpAddr>) {
        self.open.insert(id, (peer, from.map(network_of)));
    }

    pub fn closed(&mut self, id: ConnectionId) {
        self.open.remove(&id);
    }

    fn take_handshake(&mut self, from: IpAddr, sharers: usize, now: Instant) -> Result<(), Gate> {
        if self.addresses.len() >= ADDRESSES_MAX && !self.addresses.contains_key(&from) {
            self.forget_idle_addresses(now);
        }
        let scale = sharers.max(1) as f64;
        let bucket = self
            .addresses
            .entry(from)
            .or_insert_with(|| TokenBucket::new(HANDSHAKES_PER_SECOND * scale, HANDSHAKE_BURST * scale, now));
        if bucket.take(now) { Ok(()) } else { Err(Gate::Rate) }
    }

    /// Buckets that refilled say nothing. If none did, all are dropped: the table is bounded before it is fair.
    fn forget_idle_addresses(&mut self, now: Instant) {
        self.addresses.retain(|_, bucket| !bucket.is_full(now));
        if self.addresses.len() >= ADDRESSES_MAX {
            self.addresses.clear();
        }
    }

    fn check_listed(&self, peer: &PeerId) -> Result<(), Gate> {
        let listed = self.rules.members.contains(peer) || self.rules.allow.contains(peer);
        if listed { Ok(()) } else { Err(Gate::Allowlist) }
    }

    fn check_rate(&self, peer: &PeerId, now: Instant) -> Result<(), Gate> {
        if self.peers.lock().take_attempt(peer, now) { Ok(()) } else { Err(Gate::Rate) }
    }

    /// Members pass: f+1 of them wrongly shut out would stop the cluster.
    fn check_score(&self, peer: &PeerId, now: Instant) -> Result<(), Gate> {
        if self.rules.members.contains(peer) {
            return Ok(());
        }
        let peers = self.peers.lock();
        let low = self.rules.score_threshold.is_some_and(|least| peers.score(peer, now) < least);
        if low || peers.is_banned(peer, now) { Err(Gate::Score) } else { Ok(()) }
    }

    fn check_lock(&self, peer: &PeerId) -> Result<(), Gate> {
        let named = self.rules.members.contains(peer) || !self.rules.dkg_required;
        if named { Ok(()) } else { Err(Gate::Lock) }
    }

    fn check_room(&self, peer: &PeerId, from: Option<IpAddr>) -> Result<Admission, Gate> {
        if self.rules.members.contains(peer) {
            return Ok(Admission { evict: self.room_for_member(peer) });
        }
        let strangers = || self.open.values().filter(|(open, _)| !self.rules.members.contains(open));
        let reserved = CONNS_PER_PEER_MAX * self.rules.members.len();
        let room = strangers().count() < self.rules.max_conns.saturating_sub(reserved)
            && strangers().filter(|(open, _)| open == peer).count() < CONNS_PER_PEER_MAX
            && strangers().filter(|(_, at)| from.is_some() && *at == from).count() < CONNS_PER_ADDRESS_MAX;
        if room { Ok(Admission { evict: None }) } else { Err(Gate::Resource) }
    }

    /// A member always gets in: it proved who it is, so a connection of its own makes room, or else the older
    /// one of a member that has two.
    fn room_for_member(&self, peer: &PeerId) -> Option<(PeerId, ConnectionId)> {
        let own = || self.open.iter().filter(|(_, (open, _))| open == peer);
        if own().count() < CONNS_PER_PEER_MAX && self.open.len() < self.rules.max_conns {
            return None;
        }
        let spare = || {
            let mut seen = HashMap::new();
            self.open.iter().find_map(|(id, (peer, _))| seen.insert(*peer, *id).map(|older| (*peer, older)))
        };
        own().next().map(|(id, (peer, _))| (*peer, *id)).or_else(spare)
    }
}

/// What counts as one address: an IPv4 address, or the /64 an IPv6 host can roam in.
pub(crate) fn network_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests;
