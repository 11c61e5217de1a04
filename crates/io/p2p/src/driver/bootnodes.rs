//! Bootnodes: dialled for ever, patiently.

use super::Driver;
use crate::backoff::Backoff;
use libp2p::swarm::ConnectionId;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Multiaddr, PeerId};
use std::time::{Duration, Instant};

/// A connection that lived this long was a good one: the next dial is not punished for it.
const GOOD_LIFE: Duration = Duration::from_secs(60);

pub(super) struct Bootnode {
    addr: Multiaddr,
    peer: Option<PeerId>,
    backoff: Backoff,
    pub dial_at: Option<Instant>,
    dialing: Option<ConnectionId>,
    connected: Option<(ConnectionId, Instant)>,
}

impl Bootnode {
    pub fn new(addr: Multiaddr, peer: Option<PeerId>, now: Instant) -> Self {
        let backoff = Backoff::patient();
        Self { addr, peer, backoff, dial_at: Some(now), dialing: None, connected: None }
    }

    fn retry(&mut self, now: Instant) {
        self.dialing = None;
        self.dial_at = Some(now + self.backoff.next_delay());
    }

    fn dial_opts(&self) -> DialOpts {
        match self.peer {
            Some(peer) => DialOpts::peer_id(peer)
                .condition(PeerCondition::NotDialing)
                .addresses(vec![self.addr.clone()])
                .allocate_new_port()
                .build(),
            None => DialOpts::unknown_peer_id().address(self.addr.clone()).allocate_new_port().build(),
        }
    }
}

impl Driver {
    pub(super) fn dial_bootnodes(&mut self, now: Instant) {
        for bootnode in &mut self.bootnodes {
            if bootnode.dial_at.is_none_or(|at| now < at) {
                continue;
            }
            bootnode.dial_at = None;
            let opts = bootnode.dial_opts();
            bootnode.dialing = Some(opts.connection_id());
            if let Err(error) = self.swarm.dial(opts) {
                tracing::debug!(addr = %bootnode.addr, %error, "bootnode not dialled");
                bootnode.retry(now);
            }
        }
    }

    pub(super) fn bootnode_connected(&mut self, connection: ConnectionId, peer: PeerId, now: Instant) {
        for bootnode in &mut self.bootnodes {
            let ours = bootnode.dialing == Some(connection);
            if ours || (bootnode.peer == Some(peer) && bootnode.connected.is_none()) {
                bootnode.peer = Some(peer);
                bootnode.connected = Some((connection, now));
                bootnode.dial_at = None;
            }
            if ours {
                bootnode.dialing = None;
            }
        }
    }

    pub(super) fn bootnode_closed(&mut self, connection: ConnectionId, now: Instant) {
        for bootnode in &mut self.bootnodes {
            if let Some((id, since)) = bootnode.connected
                && id == connection
            {
                bootnode.connected = None;
                if now.saturating_duration_since(since) >= GOOD_LIFE {
                    bootnode.backoff.reset();
                }
                bootnode.retry(now);
            }
        }
    }

    pub(super) fn bootnode_failed(&mut self, connection: ConnectionId, now: Instant) {
        let dialing = |bootnode: &&mut Bootnode| bootnode.dialing == Some(connection);
        if let Some(bootnode) = self.bootnodes.iter_mut().find(dialing) {
            bootnode.dialing = None;
            if bootnode.connected.is_none() {
                bootnode.retry(now);
            }
        }
    }
}
