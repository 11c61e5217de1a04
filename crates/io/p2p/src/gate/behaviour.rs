//! The pipeline in the transport's connection hooks. Every attempt is counted here, once.

#![allow(clippy::wildcard_enum_match_arm, reason = "enums of libp2p, which grow")]

use super::{Attempt, Gate, Gates};
use crate::doorway::Doorway;
use crate::hooks::Observer;
use libp2p::core::{Endpoint, transport::PortUse};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent,
    THandlerOutEvent, ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

/// Why the transport dropped a connection.
#[derive(Debug, thiserror::Error)]
#[error("refused at the {} gate", .0.name())]
pub(crate) struct Refused(Gate);

/// First of the node's behaviours: what it refuses, no other one hears of.
pub(crate) struct Behaviour {
    gates: Gates,
    observer: Arc<dyn Observer>,
    evictions: VecDeque<(PeerId, ConnectionId)>,
    doorway: Doorway,
}

impl Behaviour {
    pub fn new(gates: Gates, observer: Arc<dyn Observer>, doorway: Doorway) -> Self {
        Self { gates, observer, evictions: VecDeque::new(), doorway }
    }

    fn refuse(&self, gate: Gate, peer: Option<&PeerId>) -> ConnectionDenied {
        let peer = peer.map(PeerId::to_string);
        self.observer.conn_attempt(gate.refusal(), peer.as_deref());
        ConnectionDenied::new(Refused(gate))
    }

    fn admit(&mut self, peer: &PeerId, address: &Multiaddr) -> Result<(), ConnectionDenied> {
        let observer = &self.observer;
        let judged = |gate, allowed| observer.gate(gate, allowed);
        match self.gates.admit_peer(peer, ip_of(address), Instant::now(), judged) {
            Ok(admission) => {
                self.observer.conn_attempt(Attempt::Allowed, Some(&peer.to_string()));
                self.evictions.extend(admission.evict);
                Ok(())
            }
            Err(gate) => Err(self.refuse(gate, Some(peer))),
        }
    }
}

#[cfg(feature = "e2e")]
impl Behaviour {
    /// Runs a made-up peer through the gates, counted as an attempt like any other. It has no connection, so
    /// nothing opens, and nothing makes room for it.
    pub fn judge(&mut self, peer: &PeerId) -> Attempt {
        let observer = &self.observer;
        let judged = |gate, allowed| observer.gate(gate, allowed);
        let admitted = self.gates.admit_peer(peer, None, Instant::now(), judged);
        let attempt = admitted.map_or_else(Gate::refusal, |_| Attempt::Allowed);
        self.observer.conn_attempt(attempt, Some(&peer.to_string()));
        attempt
    }
}

/// The IP address a multiaddr starts with.
pub(crate) fn ip_of(address: &Multiaddr) -> Option<IpAddr> {
    match address.iter().next()? {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        _local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let admitted = self.gates.admit_handshake(id, remote, Instant::now()).map_err(|gate| {
            self.observer.gate(gate, false);
            self.refuse(gate, None)
        })?;
        if let Some(caller) = admitted {
            self.doorway.turn_away(&caller);
        }
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.gates.handshake_ended(id);
        self.admit(&peer, remote)?;
        Ok(dummy::ConnectionHandler)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        _id: ConnectionId,
        peer: Option<PeerId>,
        _addresses: &[Multiaddr],
        _role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        if let Some(peer) = peer {
            self.gates.admit_dial(&peer, Instant::now()).map_err(|gate| {
                self.observer.gate(gate, false);
                self.refuse(gate, Some(&peer))
            })?;
        }
        Ok(Vec::new())
    }

    fn handle_established_outbound_connection(
        &mut self,
        _id: ConnectionId,
        peer: PeerId,
        remote: &Multiaddr,
        _role: Endpoint,
        _port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.admit(&peer, remote)?;
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm) {
        match event {
            FromSwarm::ConnectionEstablished(opened) => {
                let address = ip_of(opened.endpoint.get_remote_address());
                self.gates.opened(opened.connection_id, opened.peer_id, address);
            }
            FromSwarm::ConnectionClosed(closed) => self.gates.closed(closed.connection_id),
            FromSwarm::ListenFailure(failed) => self.gates.handshake_ended(failed.connection_id),
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _peer: PeerId,
        _id: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        match self.evictions.pop_front() {
            Some((peer_id, id)) => {
                let connection = CloseConnection::One(id);
                Poll::Ready(ToSwarm::CloseConnection { peer_id, connection })
            }
            None => Poll::Pending,
        }
    }
}
