//! Connections and direct streams of members.
//!
//! Both sides dial, the lower peer id first; the lower peer id also opens the streams, on the connection that
//! [`connections`](super::connections) chooses.

use super::connections::Connections;
use super::{Driver, Half, Notice};
use crate::backoff::Backoff;
use crate::bucket::TokenBucket;
use crate::config::CheckedMember;
use crate::link::{self, Origin};
use crate::queue::{Queue, Turn};
use crate::request;
use crate::score::Deed;
use crate::shared::Shared;
use crate::streams::{Inbound, OpenError};
use crate::topic::{Carriage, Topic};
use aequa_types::OperatorIndex;
use futures::AsyncReadExt;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, Stream};
use libp2p::{Multiaddr, PeerId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU8;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

/// How much longer the higher peer id waits before it dials, so that one dial is usually enough.
const HEAD_START: Duration = Duration::from_millis(300);
/// A stream that lived this long was a good one: reopening starts without delay growth.
const GOOD_LIFE: Duration = Duration::from_secs(5);
/// Direct streams a member may open per second, and at once; each replaces the one before.
const STREAMS_PER_SECOND: f64 = 4.0;
const STREAM_BURST: f64 = 64.0;
/// Streams of one topic read at a time: the one in use and the one it replaced.
const READERS_MAX: usize = 2;
/// Every so many dials QUIC addresses go before TCP ones.
const QUIC_FIRST_EVERY: u32 = 4;

pub(super) struct Member {
    pub operator: OperatorIndex,
    pub peer: PeerId,
    /// Whether this node opens the streams.
    opens: bool,
    pub addrs: Vec<Multiaddr>,
    /// Where it says it is.
    pub announced: Vec<Multiaddr>,
    connections: Connections,
    dialing: Option<ConnectionId>,
    dial_at: Option<Instant>,
    /// How often it was dialled.
    dials: u32,
    backoff: Backoff,
    links: BTreeMap<Topic, Link>,
    streams: TokenBucket,
    /// Whether the handler was told that the member is connected.
    up: bool,
}

struct Link {
    queue: Arc<Queue>,
    serving: Option<Serving>,
    opening: Option<ConnectionId>,
    reopen_at: Option<Instant>,
    backoff: Backoff,
    readers: VecDeque<AbortHandle>,
    /// Readers that have not ended.
    reading: usize,
}

/// Reports the end of a half however it comes: the last frame, a fault, an abort.
struct EndNotice {
    notify: mpsc::UnboundedSender<Notice>,
    operator: OperatorIndex,
    topic: Topic,
    turn: Turn,
    half: Half,
}

impl Drop for EndNotice {
    fn drop(&mut self) {
        let Self { operator, topic, half, .. } = *self;
        // A driver that is gone has no use for it.
        let _ = self.notify.send(Notice::Ended { operator, topic, turn: self.turn.clone(), half });
    }
}

struct Serving {
    turn: Turn,
    connection: ConnectionId,
    since: Instant,
}

impl Member {
    pub fn new(member: &CheckedMember, own: PeerId, shared: &Shared, now: Instant) -> Self {
        let opens = own < member.peer;
        let queues = shared.members.get(&member.operator);
        let links = Topic::ALL.into_iter().filter_map(|topic| {
            let queue = queues?.queue(topic)?.clone();
            Some((topic, Link::new(queue)))
        });
        Self {
            operator: member.operator,
            peer: member.peer,
            opens,
            addrs: member.addrs.clone(),
            announced: Vec::new(),
            connections: Connections::new(opens),
            dialing: None,
            dial_at: Some(if opens { now } else { now + HEAD_START }),
            dials: 0,
            backoff: Backoff::eager(),
            links: links.collect(),
            streams: TokenBucket::new(STREAMS_PER_SECOND, STREAM_BURST, now),
            up: false,
        }
    }

    /// The connection for streams, if there is any.
    pub fn connection(&self) -> Option<ConnectionId> {
        self.connections.current()
    }

    pub fn is_reading(&self) -> bool {
        self.links.values().any(|link| link.reading > 0)
    }

    pub fn deadline(&self) -> Option<Instant> {
        let reopen = self.links.values().filter_map(|link| link.reopen_at);
        reopen.chain(self.connections.deadline()).chain(self.dial_at).min()
    }

    fn plan_dial(&mut self, now: Instant) {
        if self.connections.is_empty() && self.dialing.is_none() {
            let patience = if self.opens { Duration::ZERO } else { HEAD_START };
            self.dial_at = Some(now + patience + self.backoff.next_delay());
        }
    }

    /// It is known to be up: dialled at once, whatever is still being tried.
    pub fn seek(&mut self, now: Instant) {
        if self.connections.is_empty() {
            self.backoff.reset();
            self.dialing = None;
            self.dial_at = Some(if self.opens { now } else { now + HEAD_START });
        }
    }

    /// One address after the other, those it announced before those of the lock, and TCP first: the kernel tells at once when a process at the other end of a
    /// TCP connection has died, QUIC only after its idle timeout. Now and then QUIC goes first, for networks
    /// that swallow TCP.
    fn dial_opts(&mut self) -> Option<DialOpts> {
        let given = self.addrs.iter().filter(|addr| !self.announced.contains(addr));
        let mut addrs: Vec<_> = self.announced.iter().chain(given).cloned().collect();
        let quic_first = self.dials % QUIC_FIRST_EVERY == QUIC_FIRST_EVERY - 1;
        addrs.sort_by_key(|addr| is_tcp(addr) == quic_first);
        self.dials = self.dials.wrapping_add(1);
        let known = !addrs.is_empty();
        let opts = DialOpts::peer_id(self.peer)
            .condition(PeerCondition::Disconnected)
            .addresses(addrs)
            .override_dial_concurrency_factor(NonZeroU8::MIN);
        // A port of its own: the listener's would meet a connection that is still closing.
        known.then(|| opts.allocate_new_port().build())
    }

    /// Whether it can be talked with: the transport's own topic is no conversation.
    fn is_connected(&self) -> bool {
        let mut links = self.links.iter().filter(|(topic, _)| **topic != Topic::Peers).peekable();
        match links.peek() {
            None => !self.connections.is_empty(),
            Some(_) => links.any(|(_, link)| link.serving.is_some()),
        }
    }
}

impl Link {
    fn new(queue: Arc<Queue>) -> Self {
        let backoff = Backoff::eager();
        Self {
            queue,
            serving: None,
            opening: None,
            reopen_at: None,
            backoff,
            readers: VecDeque::new(),
            reading: 0,
        }
    }

    /// The stream in use is gone. Says whether there was one.
    fn end(&mut self, now: Instant) -> bool {
        let Some(serving) = self.serving.take() else { return false };
        self.queue.end_turn(&serving.turn);
        if now.saturating_duration_since(serving.since) >= GOOD_LIFE {
            self.backoff.reset();
        }
        true
    }

    fn keep_reader(&mut self, reader: AbortHandle) {
        self.reading += 1;
        self.readers.retain(|reader| !reader.is_finished());
        self.readers.push_back(reader);
        while self.readers.len() > READERS_MAX {
            if let Some(oldest) = self.readers.pop_front() {
                oldest.abort();
            }
        }
    }
}

/// Connections.
impl Driver {
    pub(super) fn dial_members(&mut self, now: Instant) {
        for member in self.members.values_mut() {
            if member.dial_at.is_none_or(|at| now < at) {
                continue;
            }
            member.dial_at = None;
            let Some(opts) = member.dial_opts() else { continue };
            member.dialing = Some(opts.connection_id());
            if let Err(error) = self.swarm.dial(opts) {
                tracing::debug!(peer = %member.peer, %error, "member not dialled");
                member.dialing = None;
                member.plan_dial(now);
            }
        }
    }

    pub(super) fn member_dial_failed(&mut self, connection: ConnectionId, now: Instant) {
        if let Some(member) = self.members.values_mut().find(|member| member.dialing == Some(connection)) {
            member.dialing = None;
            member.plan_dial(now);
        }
    }

    pub(super) fn member_connected(&mut self, peer: PeerId, connection: ConnectionId, dialled: bool) {
        let Some(member) = self.members.get_mut(&peer) else { return };
        if member.dialing == Some(connection) {
            member.dialing = None;
        }
        member.dial_at = None;
        let moves = member.connections.opened(connection, dialled, Instant::now());
        for link in member.links.values() {
            link.queue.connected();
        }
        // It is up, and if this connection fails the next is tried at once.
        member.backoff.reset();
        if moves && member.opens {
            let topics: Vec<_> = member.links.keys().copied().collect();
            for topic in topics {
                self.open_link(peer, topic);
            }
        }
        self.tell(peer);
    }

    pub(super) fn member_lost(&mut self, peer: PeerId, connection: ConnectionId, now: Instant) {
        let Some(member) = self.members.get_mut(&peer) else { return };
        if !member.connections.contains(connection) {
            return; // Given up before it closed.
        }
        member.connections.closed(connection);
        let gone = member.connections.is_empty();
        let mut reopen = Vec::new();
        for (topic, link) in &mut member.links {
            if link.serving.as_ref().is_some_and(|serving| serving.connection == connection) {
                link.end(now);
            }
            if link.opening == Some(connection) {
                link.opening = None;
            }
            if gone {
                link.reopen_at = None;
                link.queue.disconnected();
            } else if member.opens && link.serving.is_none() && link.opening.is_none() {
                reopen.push(*topic);
            }
        }
        if gone {
            member.plan_dial(now);
        }
        for topic in reopen {
            self.open_link(peer, topic);
        }
        self.tell(peer);
    }

    /// Gives a connection up at once: closing it in good order may take as long as the peer likes.
    pub(super) fn give_up(&mut self, peer: PeerId, connection: ConnectionId) {
        self.member_lost(peer, connection, Instant::now());
        self.swarm.close_connection(connection);
    }

    pub(super) fn on_overflow(&mut self, operators: BTreeSet<OperatorIndex>) {
        for operator in operators {
            let Some(peer) = self.shared.members.get(&operator).map(|member| member.peer) else { continue };
            let connections = self.members.get(&peer).map(|member| member.connections.ids());
            for connection in connections.unwrap_or_default() {
                self.give_up(peer, connection);
            }
        }
    }

    pub(super) fn close_retired(&mut self, now: Instant) {
        let retired = |member: &Member| {
            let peer = member.peer;
            member.connections.due(now).into_iter().map(move |id| (peer, id))
        };
        let due: Vec<_> = self.members.values().flat_map(retired).collect();
        for (peer, connection) in due {
            self.give_up(peer, connection);
        }
    }

    pub(super) fn finish_queues(&mut self) {
        for link in self.members.values().flat_map(|member| member.links.values()) {
            link.queue.finish();
        }
    }

    pub(super) fn leave_members(&mut self) {
        let now = Instant::now();
        let peers: Vec<_> = self.members.keys().copied().collect();
        for peer in peers {
            if let Some(member) = self.members.get_mut(&peer) {
                member.connections.clear();
                for link in member.links.values_mut() {
                    link.end(now);
                    link.queue.disconnected();
                }
            }
            self.tell(peer);
        }
    }

    /// Tells the handler when a member came or went.
    fn tell(&mut self, peer: PeerId) {
        let Some(member) = self.members.get_mut(&peer) else { return };
        let up = member.is_connected();
        if up == member.up {
            return;
        }
        member.up = up;
        if up {
            self.shared.connected.write().insert(member.operator);
            self.shared.handler.connected(member.operator);
        } else {
            self.shared.connected.write().remove(&member.operator);
            self.shared.handler.disconnected(member.operator);
        }
    }
}

/// Direct streams.
impl Driver {
    pub(super) fn reopen_links(&mut self, now: Instant) {
        let mut due = Vec::new();
        for member in self.members.values_mut() {
            for (topic, link) in &mut member.links {
                if link.reopen_at.is_some_and(|at| at <= now) {
                    link.reopen_at = None;
                    due.push((member.peer, *topic));
                }
            }
        }
        for (peer, topic) in due {
            self.open_link(peer, topic);
        }
    }

    fn open_link(&mut self, peer: PeerId, topic: Topic) {
        let Some(member) = self.members.get_mut(&peer) else { return };
        let (operator, Some(connection)) = (member.operator, member.connection()) else { return };
        let Some(link) = member.links.get_mut(&topic) else { return };
        link.opening = Some(connection);
        link.reopen_at = None;
        let (reply, opened) = oneshot::channel();
        self.swarm.behaviour_mut().streams.open(peer, connection, topic, reply);
        let notify = self.notify.clone();
        self.shared.spawn(async move {
            let result = opened.await.unwrap_or(Err(OpenError::Failed));
            // A driver that is gone has no use for streams.
            let _ = notify.send(Notice::Opened { operator, topic, connection, result });
        });
    }

    pub(super) fn link_opened(
        &mut self,
        operator: OperatorIndex,
        topic: Topic,
        connection: ConnectionId,
        result: Result<Stream, OpenError>,
    ) {
        let Some(peer) = self.shared.members.get(&operator).map(|member| member.peer) else { return };
        let Some(member) = self.members.get_mut(&peer) else { return };
        let Some(link) = member.links.get_mut(&topic) else { return };
        if link.opening != Some(connection) {
            return; // A newer connection took over; dropping the stream resets it.
        }
        link.opening = None;
        match result {
            Ok(stream) => self.serve(peer, topic, connection, stream),
            // Until the peer reconnects, perhaps upgraded, nothing is kept for this topic.
            Err(OpenError::Unsupported) => link.queue.disconnected(),
            Err(OpenError::Failed) => link.reopen_at = Some(Instant::now() + link.backoff.next_delay()),
        }
    }

    pub(super) fn on_inbound(&mut self, inbound: Inbound) {
        let Inbound { peer, connection, topic, stream } = inbound;
        let Some(member) = self.members.get_mut(&peer) else { return };
        match topic.carriage() {
            Carriage::Request => request::answer(&self.shared, member.operator, stream),
            Carriage::Direct if member.opens => {
                tracing::debug!(%peer, %topic, "stream opened by the wrong side");
            }
            Carriage::Direct if !member.streams.take(Instant::now()) => {
                self.shared.score(&peer, Deed::RateExcess);
            }
            Carriage::Direct => self.serve(peer, topic, connection, stream),
            Carriage::Gossip => {}
        }
    }

    /// Reads and writes a stream from now on, in place of the one before.
    fn serve(&mut self, peer: PeerId, topic: Topic, connection: ConnectionId, stream: Stream) {
        let now = Instant::now();
        let Some(member) = self.members.get_mut(&peer) else { return };
        if !member.connections.contains(connection) {
            return;
        }
        if !member.opens {
            member.connections.follow(connection);
        }
        let operator = member.operator;
        let Some(link) = member.links.get_mut(&topic) else { return };
        link.end(now);
        let turn = link.queue.begin_turn();
        link.serving = Some(Serving { turn: turn.clone(), connection, since: now });
        let (reader, writer) = stream.split();
        let ended =
            |half| EndNotice { notify: self.notify.clone(), operator, topic, turn: turn.clone(), half };
        let (reading, writing) = (ended(Half::Reading), ended(Half::Writing));
        let (shared, origin) = (self.shared.clone(), Origin { operator, peer, topic });
        link.keep_reader(self.shared.spawn(async move {
            link::read(&shared, origin, reader).await;
            drop(reading);
        }));
        let (shared, queue) = (self.shared.clone(), link.queue.clone());
        self.shared.spawn(async move {
            link::write(&shared, topic, &queue, &turn, writer).await;
            drop(writing);
        });
        if topic == Topic::Peers {
            self.tell_addresses(operator);
        }
        self.tell(peer);
    }

    pub(super) fn link_ended(&mut self, operator: OperatorIndex, topic: Topic, turn: &Turn, half: Half) {
        let Some(peer) = self.shared.members.get(&operator).map(|member| member.peer) else { return };
        let Some(member) = self.members.get_mut(&peer) else { return };
        let Some(link) = member.links.get_mut(&topic) else { return };
        if half == Half::Reading {
            link.reading = link.reading.saturating_sub(1);
        }
        if !link.serving.as_ref().is_some_and(|serving| serving.turn.is(turn)) {
            return;
        }
        let now = Instant::now();
        link.end(now);
        if member.opens && !member.connections.is_empty() {
            link.reopen_at = Some(now + link.backoff.next_delay());
        }
        self.tell(peer);
    }
}

fn is_tcp(addr: &Multiaddr) -> bool {
    addr.iter().any(|part| matches!(part, Protocol::Tcp(_)))
}
