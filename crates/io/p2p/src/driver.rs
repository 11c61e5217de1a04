//! The one task that owns the swarm: connections, dials, gossip. Frames of direct streams never pass here.

#![allow(clippy::wildcard_enum_match_arm, reason = "enums of libp2p, which grow")]

mod announcing;
mod bootnodes;
mod connections;
mod guards;
mod members;
mod talk;

use crate::config::Checked;
use crate::error::P2pError;
use crate::gossip::JUDGED_AT_ONCE_MAX;
use crate::queue::Turn;
use crate::shared::Shared;
use crate::streams::{OpenError, Reply};
use crate::swarm::{self, Behaviour, BehaviourEvent, Scope};
use crate::topic::Topic;
use aequa_types::OperatorIndex;
use bootnodes::Bootnode;
use bytes::Bytes;
use futures::{FutureExt, StreamExt};
use guards::OpenConnections;
use libp2p::core::transport::ListenerId;
use libp2p::gossipsub::{MessageAcceptance, MessageId};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{ConnectionId, Stream, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, ping};
use members::Member;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc, oneshot};

/// Commands waiting for the driver; gossip beyond this is dropped and counted.
pub(crate) const COMMANDS_MAX: usize = 1024;
/// How long a stop waits for members to read what is queued for them.
const DRAIN: Duration = Duration::from_secs(1);
/// How long a stop waits for connections to close in good order.
const FAREWELL: Duration = Duration::from_secs(2);

/// What the handle asks for.
pub(crate) enum Command {
    Gossip {
        topic: Topic,
        frame: Bytes,
    },
    Open {
        operator: OperatorIndex,
        topic: Topic,
        reply: Reply,
    },
    #[cfg(feature = "e2e")]
    Judge {
        peer: PeerId,
        reply: oneshot::Sender<crate::gate::Attempt>,
    },
    Shutdown {
        done: oneshot::Sender<()>,
    },
}

/// What stream tasks report. Unbounded, because it is bounded by the tasks: a stream ends twice at most.
enum Notice {
    Opened {
        operator: OperatorIndex,
        topic: Topic,
        connection: ConnectionId,
        result: Result<Stream, OpenError>,
    },
    Ended {
        operator: OperatorIndex,
        topic: Topic,
        turn: Turn,
        half: Half,
    },
    Judged {
        id: MessageId,
        source: PeerId,
        acceptance: MessageAcceptance,
    },
}

/// Which half of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Half {
    Reading,
    Writing,
}

pub(crate) struct Driver {
    swarm: Swarm<Behaviour>,
    listeners: Vec<ListenerId>,
    shared: Arc<Shared>,
    commands: mpsc::Receiver<Command>,
    notices: mpsc::UnboundedReceiver<Notice>,
    notify: mpsc::UnboundedSender<Notice>,
    members: BTreeMap<PeerId, Member>,
    bootnodes: Vec<Bootnode>,
    open: OpenConnections,
    judging: Arc<Semaphore>,
    scopes: BTreeSet<Scope>,
    /// Addresses listened on.
    listening: Vec<Multiaddr>,
}

impl Driver {
    /// Builds the swarm and binds its listeners. Must be called inside a tokio runtime.
    pub fn bind(
        config: Checked,
        shared: Arc<Shared>,
        commands: mpsc::Receiver<Command>,
    ) -> Result<Self, P2pError> {
        let mut swarm = swarm::build(&config, &shared)?;
        let listeners = swarm::listen(&mut swarm, &config.listen)?;
        let (notify, notices) = mpsc::unbounded_channel();
        let now = Instant::now();
        let own = config.peer_id();
        let members =
            config.others.iter().map(|member| (member.peer, Member::new(member, own, &shared, now)));
        let mut driver = Self {
            members: members.collect(),
            bootnodes: config
                .bootnodes
                .into_iter()
                .map(|(addr, peer)| Bootnode::new(addr, peer, now))
                .collect(),
            open: OpenConnections::new(shared.observer.clone()),
            judging: Arc::new(Semaphore::new(JUDGED_AT_ONCE_MAX)),
            scopes: config.scopes,
            listening: Vec::new(),
            listeners,
            swarm,
            shared,
            commands,
            notices,
            notify,
        };
        driver.take_first_events();
        Ok(driver)
    }

    /// Runs until told to stop or until every handle is gone.
    pub async fn run(mut self) {
        let shared = self.shared.clone();
        let done = loop {
            let wake = self.next_deadline();
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_event(event),
                Some(notice) = self.notices.recv() => self.on_notice(notice),
                command = self.commands.recv() => match command {
                    Some(Command::Shutdown { done }) => break Some(done),
                    Some(command) => self.on_command(command),
                    None => break None,
                },
                operators = shared.overflowed.taken() => self.on_overflow(operators),
                operators = shared.announced.taken() => self.on_announced(operators),
                () = sleep_until(wake) => self.on_deadline(Instant::now()),
            }
        };
        self.stop().await;
        if let Some(done) = done {
            // The caller may have stopped waiting.
            let _ = done.send(());
        }
    }

    /// Takes what the swarm reports at once, so that addresses are known when the node starts.
    fn take_first_events(&mut self) {
        while let Some(Some(event)) = self.swarm.next().now_or_never() {
            self.on_event(event);
        }
    }

    async fn stop(mut self) {
        self.finish_queues();
        self.shared.tasks.close();
        // Connections run on tasks of their own; the swarm needs no polling meanwhile. A member closes its half
        // when it has read all of ours. Closing the socket before that could reset it under unread frames.
        let all_read = async {
            while self.members.values().any(Member::is_reading) {
                let Some(notice) = self.notices.recv().await else { break };
                self.on_notice(notice);
            }
        };
        let _ = tokio::time::timeout(DRAIN, all_read).await;
        self.leave_members();
        // A member that notices may dial at once; nobody is let in any more.
        for listener in std::mem::take(&mut self.listeners) {
            self.swarm.remove_listener(listener);
        }
        let peers: Vec<_> = self.swarm.connected_peers().copied().collect();
        for peer in peers {
            // An error means that it has left already.
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let _ = tokio::time::timeout(FAREWELL, self.last_connections()).await;
        self.shared.stop.cancel();
    }

    /// Waits until every connection is closed; one whose handshake just ended is closed too.
    async fn last_connections(&mut self) {
        while self.swarm.connected_peers().next().is_some() {
            match self.swarm.select_next_some().await {
                SwarmEvent::ConnectionEstablished { peer_id, connection_id, established_in, .. } => {
                    self.open.opened(connection_id, peer_id, established_in);
                    self.swarm.close_connection(connection_id);
                }
                SwarmEvent::ConnectionClosed { connection_id, .. } => self.open.closed(connection_id),
                _ => {}
            }
        }
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        let now = Instant::now();
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour(event),
            SwarmEvent::ConnectionEstablished {
                peer_id, connection_id, endpoint, established_in, ..
            } => {
                self.open.opened(connection_id, peer_id, established_in);
                self.bootnode_connected(connection_id, peer_id, now);
                self.member_connected(peer_id, connection_id, endpoint.is_dialer());
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, cause, .. } => {
                tracing::debug!(peer = %peer_id, ?cause, "connection closed");
                self.open.closed(connection_id);
                self.bootnode_closed(connection_id, now);
                self.member_lost(peer_id, connection_id, now);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                tracing::debug!(%error, "dial failed");
                self.dial_failed(connection_id, now);
            }
            SwarmEvent::NewListenAddr { address, .. } => self.listening(address),
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                let gone = self.full_address(&address);
                self.shared.listen_addrs.write().retain(|addr| *addr != gone);
                self.listening.retain(|addr| *addr != address);
                self.announce();
            }
            SwarmEvent::ListenerClosed { reason: Err(error), .. } => {
                tracing::error!(%error, "listener closed");
            }
            _ => {}
        }
    }

    fn on_behaviour(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Gate(never) => match never {},
            BehaviourEvent::Streams(inbound) => self.on_inbound(inbound),
            BehaviourEvent::Gossip(event) => self.on_gossip(event),
            BehaviourEvent::Ping(ping::Event { peer, connection, result: Err(error) })
                if !matches!(error, ping::Failure::Unsupported) =>
            {
                tracing::debug!(%peer, %error, "no answer to ping, closing the connection");
                self.give_up(peer, connection);
            }
            BehaviourEvent::Ping(_) | BehaviourEvent::Identify(_) => {}
        }
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Gossip { topic, frame } => self.publish(topic, frame),
            Command::Open { operator, topic, reply } => self.open_for(operator, topic, reply),
            #[cfg(feature = "e2e")]
            Command::Judge { peer, reply } => {
                // Whoever asked may have stopped waiting.
                let _ = reply.send(self.swarm.behaviour_mut().gate.judge(&peer));
            }
            Command::Shutdown { .. } => {}
        }
    }

    fn on_notice(&mut self, notice: Notice) {
        match notice {
            Notice::Opened { operator, topic, connection, result } => {
                self.link_opened(operator, topic, connection, result);
            }
            Notice::Ended { operator, topic, turn, half } => self.link_ended(operator, topic, &turn, half),
            Notice::Judged { id, source, acceptance } => {
                let gossipsub = &mut self.swarm.behaviour_mut().gossip.inner;
                gossipsub.report_message_validation_result(&id, &source, acceptance);
            }
        }
    }

    fn on_deadline(&mut self, now: Instant) {
        self.dial_members(now);
        self.reopen_links(now);
        self.close_retired(now);
        self.dial_bootnodes(now);
    }

    fn next_deadline(&self) -> Option<Instant> {
        let members = self.members.values().filter_map(Member::deadline);
        members.chain(self.bootnodes.iter().filter_map(|bootnode| bootnode.dial_at)).min()
    }

    fn dial_failed(&mut self, connection: ConnectionId, now: Instant) {
        self.member_dial_failed(connection, now);
        self.bootnode_failed(connection, now);
    }

    fn listening(&mut self, address: Multiaddr) {
        let full = self.full_address(&address);
        self.shared.observer.listen_addr(&self.shared.self_id.to_string(), &full);
        self.shared.listen_addrs.write().push(full);
        self.listening.push(address);
        self.announce();
    }

    fn full_address(&self, address: &Multiaddr) -> String {
        address.clone().with(Protocol::P2p(self.shared.self_id)).to_string()
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
