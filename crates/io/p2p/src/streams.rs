//! Substreams of members, as a libp2p behaviour.
//!
//! `libp2p-stream` would do this too, but it keeps one slot for inbound streams and drops the rest, opens on
//! a connection chosen at random, and never forgets a closed connection. Here every stream of a member
//! reaches the driver (the transport's own buffers give back-pressure), the driver names the connection, and
//! whoever is no member is not even told which protocols exist.

#![allow(clippy::wildcard_enum_match_arm, reason = "enums of libp2p, which grow")]

use crate::topic::Topic;
use libp2p::core::{Endpoint, InboundUpgrade, OutboundUpgrade, UpgradeInfo, transport::PortUse};
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
    NotifyHandler, Stream, StreamUpgradeError, SubstreamProtocol, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};
use std::collections::{HashSet, VecDeque};
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::oneshot;

/// Why a stream could not be opened. A connection that goes away drops the reply instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpenError {
    /// The peer does not speak the topic.
    Unsupported,
    /// The negotiation failed.
    Failed,
}

/// Where an opened stream is handed to.
pub(crate) type Reply = oneshot::Sender<Result<Stream, OpenError>>;

/// A member opened a stream.
#[derive(Debug)]
pub(crate) struct Inbound {
    pub peer: PeerId,
    pub connection: ConnectionId,
    pub topic: Topic,
    pub stream: Stream,
}

pub(crate) struct Behaviour {
    members: HashSet<PeerId>,
    topics: Arc<[Topic]>,
    queue: VecDeque<ToSwarm<Inbound, Open>>,
}

impl Behaviour {
    /// Serves `topics` (those with streams) to `members`.
    pub fn new(members: HashSet<PeerId>, topics: Vec<Topic>) -> Self {
        Self { members, topics: topics.into(), queue: VecDeque::new() }
    }

    /// Opens a stream on one connection of a member.
    pub fn open(&mut self, peer: PeerId, connection: ConnectionId, topic: Topic, reply: Reply) {
        let event = Open { topic, reply };
        self.queue.push_back(ToSwarm::NotifyHandler {
            peer_id: peer,
            handler: NotifyHandler::One(connection),
            event,
        });
    }

    fn handler(&self, peer: &PeerId) -> Handler {
        let topics = if self.members.contains(peer) { self.topics.clone() } else { Arc::from([]) };
        Handler { topics, events: VecDeque::new() }
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = Inbound;

    fn handle_established_inbound_connection(
        &mut self,
        _id: ConnectionId,
        peer: PeerId,
        _local: &Multiaddr,
        _remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(&peer))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _id: ConnectionId,
        peer: PeerId,
        _remote: &Multiaddr,
        _role: Endpoint,
        _port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(self.handler(&peer))
    }

    fn on_swarm_event(&mut self, _event: FromSwarm) {}

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        (topic, stream): THandlerOutEvent<Self>,
    ) {
        self.queue.push_back(ToSwarm::GenerateEvent(Inbound { peer, connection, topic, stream }));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.queue.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

/// Ask for a stream.
#[derive(Debug)]
pub(crate) struct Open {
    topic: Topic,
    reply: Reply,
}

pub(crate) struct Handler {
    topics: Arc<[Topic]>,
    events: VecDeque<ConnectionHandlerEvent<Protocols, Open, (Topic, Stream)>>,
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Open;
    type ToBehaviour = (Topic, Stream);
    type InboundProtocol = Protocols;
    type OutboundProtocol = Protocols;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Open;

    fn listen_protocol(&self) -> SubstreamProtocol<Protocols> {
        SubstreamProtocol::new(Protocols(self.topics.clone()), ())
    }

    /// Everybody the gates let in may stay; idleness is no fault.
    fn connection_keep_alive(&self) -> bool {
        true
    }

    fn poll(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Protocols, Open, Self::ToBehaviour>> {
        self.events.pop_front().map_or(Poll::Pending, Poll::Ready)
    }

    fn on_behaviour_event(&mut self, open: Open) {
        let protocol = SubstreamProtocol::new(Protocols(Arc::from([open.topic])), open);
        self.events.push_back(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<Protocols, Protocols, (), Open>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, .. }) => {
                self.events.push_back(ConnectionHandlerEvent::NotifyBehaviour(protocol));
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: (_, stream),
                info,
            }) => {
                let _ = info.reply.send(Ok(stream));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => {
                let error = match error {
                    StreamUpgradeError::NegotiationFailed => OpenError::Unsupported,
                    StreamUpgradeError::Apply(never) => match never {},
                    StreamUpgradeError::Timeout | StreamUpgradeError::Io(_) => OpenError::Failed,
                };
                let _ = info.reply.send(Err(error));
            }
            _ => {}
        }
    }
}

/// Negotiates one of these topics and does nothing more.
pub(crate) struct Protocols(Arc<[Topic]>);

/// A topic as the negotiation sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProtocolId(Topic);

impl AsRef<str> for ProtocolId {
    fn as_ref(&self) -> &str {
        self.0.protocol()
    }
}

impl UpgradeInfo for Protocols {
    type Info = ProtocolId;
    type InfoIter = Vec<ProtocolId>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.iter().copied().map(ProtocolId).collect()
    }
}

impl InboundUpgrade<Stream> for Protocols {
    type Output = (Topic, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, id: ProtocolId) -> Self::Future {
        ready(Ok((id.0, stream)))
    }
}

impl OutboundUpgrade<Stream> for Protocols {
    type Output = (Topic, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, id: ProtocolId) -> Self::Future {
        ready(Ok((id.0, stream)))
    }
}
