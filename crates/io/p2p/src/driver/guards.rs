//! Counts of connections and peers that cannot get out of step: closing is a drop, not a call to remember.

use crate::hooks::Observer;
use libp2p::PeerId;
use libp2p::swarm::ConnectionId;
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// All open connections, of members and others.
pub(super) struct OpenConnections {
    observer: Arc<dyn Observer>,
    connections: HashMap<ConnectionId, ConnectionGuard>,
    peers: HashMap<PeerId, Weak<PeerGuard>>,
}

impl OpenConnections {
    pub fn new(observer: Arc<dyn Observer>) -> Self {
        Self { observer, connections: HashMap::new(), peers: HashMap::new() }
    }

    pub fn opened(&mut self, id: ConnectionId, peer: PeerId, latency: Duration) {
        self.observer.conn_opened();
        let joined = self.peers.get(&peer).and_then(Weak::upgrade).unwrap_or_else(|| {
            let peer_id = peer.to_string();
            self.observer.peer_joined(&peer_id, latency);
            Arc::new(PeerGuard { observer: self.observer.clone(), peer_id })
        });
        self.peers.insert(peer, Arc::downgrade(&joined));
        let guard = ConnectionGuard { observer: self.observer.clone(), _peer: joined };
        self.connections.insert(id, guard);
    }

    pub fn closed(&mut self, id: ConnectionId) {
        self.connections.remove(&id);
        self.peers.retain(|_, guard| guard.strong_count() > 0);
    }
}

struct ConnectionGuard {
    observer: Arc<dyn Observer>,
    _peer: Arc<PeerGuard>,
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.observer.conn_closed();
    }
}

struct PeerGuard {
    observer: Arc<dyn Observer>,
    peer_id: String,
}

impl Drop for PeerGuard {
    fn drop(&mut self) {
        self.observer.peer_left(&self.peer_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

    #[derive(Default)]
    struct Counts {
        connections: AtomicI64,
        peers: AtomicI64,
    }

    impl Observer for Counts {
        fn conn_opened(&self) {
            self.connections.fetch_add(1, Relaxed);
        }
        fn conn_closed(&self) {
            self.connections.fetch_sub(1, Relaxed);
        }
        fn peer_joined(&self, _: &str, _: Duration) {
            self.peers.fetch_add(1, Relaxed);
        }
        fn peer_left(&self, _: &str) {
            self.peers.fetch_sub(1, Relaxed);
        }
    }

    #[test]
    fn every_opening_is_reversed_exactly_once() {
        let counts = Arc::new(Counts::default());
        let now = || (counts.connections.load(Relaxed), counts.peers.load(Relaxed));
        let mut open = OpenConnections::new(counts.clone());
        let (a, b) = (PeerId::random(), PeerId::random());
        for (id, peer) in [(1, a), (2, a), (3, b)] {
            open.opened(ConnectionId::new_unchecked(id), peer, Duration::ZERO);
        }
        assert_eq!(now(), (3, 2));
        open.closed(ConnectionId::new_unchecked(1));
        open.closed(ConnectionId::new_unchecked(1));
        assert_eq!(now(), (2, 2));
        open.closed(ConnectionId::new_unchecked(2));
        assert_eq!(now(), (1, 1));
        drop(open);
        assert_eq!(now(), (0, 0));
    }
}
