//! Builds the libp2p swarm: transports, behaviours, listeners.

#![allow(clippy::wildcard_enum_match_arm, reason = "enums of libp2p, which grow")]

use crate::config::Checked;
use crate::doorway::Doorway;
use crate::error::P2pError;
use crate::gate::{self, Gates, Rules, behaviour::ip_of};
use crate::members_only::MembersOnly;
use crate::shared::Shared;
use crate::topic::{Carriage, Topic};
use crate::{gossip, streams, transport};
use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::NetworkBehaviour;
use libp2p::{Multiaddr, Swarm, SwarmBuilder, identify, ping};
use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A dial that takes longer has to make way for the next address. Callers have less time.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a connection is tried.
const PING_INTERVAL: Duration = Duration::from_secs(15);
/// When it is given up.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Streams of one connection whose use is still being agreed on: a dozen are opened at its beginning.
const NEGOTIATING_STREAMS_MAX: usize = 32;
/// What a connection without any handler's interest may live; ours are always of interest.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// The node's behaviours. The gate comes first: whom it refuses, the others never see.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    pub gate: gate::behaviour::Behaviour,
    pub streams: streams::Behaviour,
    pub gossip: MembersOnly<gossip::Behaviour>,
    ping: ping::Behaviour,
    identify: identify::Behaviour,
}

/// A swarm that does not listen yet.
pub(crate) fn build(config: &Checked, shared: &Shared) -> Result<Swarm<Behaviour>, P2pError> {
    let failed = |what: String| P2pError::Transport { what };
    let doorway = Doorway::default();
    let behaviour = behaviour(config, shared, doorway.clone())?;
    let transport = transport::build(config, doorway)?;
    Ok(SwarmBuilder::with_existing_identity(config.keypair.clone())
        .with_tokio()
        .with_other_transport(|_| transport)
        .map_err(|error| failed(error.to_string()))?
        .with_behaviour(|_| behaviour)
        .map_err(|error| failed(error.to_string()))?
        .with_swarm_config(|config| {
            config
                .with_idle_connection_timeout(IDLE_TIMEOUT)
                .with_max_negotiating_inbound_streams(NEGOTIATING_STREAMS_MAX)
        })
        .with_connection_timeout(HANDSHAKE_TIMEOUT)
        .build())
}

/// Binds all addresses; the first that is taken is the error.
pub(crate) fn listen(swarm: &mut Swarm<Behaviour>, addrs: &[Multiaddr]) -> Result<Vec<ListenerId>, P2pError> {
    let mut listeners = Vec::new();
    for addr in addrs {
        let failed = |source| P2pError::Listen { addr: addr.to_string(), source };
        probe(addr).map_err(failed)?;
        let listener = swarm.listen_on(addr.clone()).map_err(|error| match error {
            libp2p::TransportError::Other(source) => failed(source),
            libp2p::TransportError::MultiaddrNotSupported(_) => failed(io::ErrorKind::Unsupported.into()),
        })?;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// How far an address means something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// To everybody.
    Public,
    /// On its own local network.
    Private,
    /// On its own host.
    Host,
    /// To nobody.
    Nowhere,
}

/// How far an address means something; a name means what its resolver says.
pub(crate) fn scope(addr: &Multiaddr) -> Scope {
    let Some(ip) = ip_of(addr).map(|ip| ip.to_canonical()) else { return Scope::Public };
    let private = match ip {
        IpAddr::V4(ip) => {
            let shared = ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64;
            ip.is_private() || ip.is_link_local() || shared
        }
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local(),
    };
    match () {
        () if ip.is_unspecified() || ip.is_multicast() => Scope::Nowhere,
        () if ip.is_loopback() => Scope::Host,
        () if private => Scope::Private,
        () => Scope::Public,
    }
}

/// libp2p sets SO_REUSEPORT on TCP listeners, so two nodes could share a port without noticing. Binding
/// without it first tells.
fn probe(addr: &Multiaddr) -> io::Result<()> {
    let tcp = addr.iter().find_map(|part| match part {
        Protocol::Tcp(port) if port != 0 => Some(port),
        _ => None,
    });
    match (ip_of(addr), tcp) {
        (Some(ip), Some(port)) => std::net::TcpListener::bind(SocketAddr::new(ip, port)).map(drop),
        _ => Ok(()),
    }
}

fn behaviour(config: &Checked, shared: &Shared, doorway: Doorway) -> Result<Behaviour, P2pError> {
    let members: HashSet<_> = config.others.iter().map(|member| member.peer).collect();
    let rules = Rules {
        members: members.clone(),
        allow: config.allow.clone(),
        member_addresses: shared.member_addresses.clone(),
        max_conns: config.max_conns,
        score_threshold: config.score_threshold,
        dkg_required: config.dkg_required,
    };
    let gates = Gates::new(rules, shared.peers.clone());
    let with_streams = |topic: &Topic| topic.carriage() != Carriage::Gossip;
    let identify = identify::Config::new("/aequa/1".into(), config.keypair.public())
        .with_agent_version(concat!("aequa/", env!("CARGO_PKG_VERSION")).into())
        .with_hide_listen_addrs(true);
    Ok(Behaviour {
        gate: gate::behaviour::Behaviour::new(gates, shared.observer.clone(), doorway),
        gossip: MembersOnly::new(members.clone(), gossip::behaviour(&config.topics)?),
        streams: streams::Behaviour::new(
            members,
            config.topics.iter().copied().filter(with_streams).collect(),
        ),
        ping: ping::Behaviour::new(
            ping::Config::new().with_interval(PING_INTERVAL).with_timeout(PING_TIMEOUT),
        ),
        identify: identify::Behaviour::new(identify),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_means_something_to_everybody_its_network_its_host_or_nobody() {
        let scope = |text: &str| scope(&text.parse().unwrap());
        let private =
            ["ip4/10.1.2.3", "ip4/192.168.0.1", "ip4/172.16.0.1", "ip4/169.254.1.1", "ip4/100.64.0.1"];
        assert!(private.iter().all(|ip| scope(&format!("/{ip}/tcp/1")) == Scope::Private));
        assert!(["fd00::1", "fe80::1"].iter().all(|ip| scope(&format!("/ip6/{ip}/tcp/1")) == Scope::Private));
        assert_eq!(scope("/ip4/127.0.0.1/tcp/1"), Scope::Host);
        assert_eq!(scope("/ip6/::1/tcp/1"), Scope::Host);
        assert_eq!(scope("/ip4/0.0.0.0/tcp/1"), Scope::Nowhere);
        for public in ["/ip4/8.8.8.8/tcp/1", "/ip6/2600::1/tcp/1", "/dns4/a.example/tcp/1"] {
            assert_eq!(scope(public), Scope::Public);
        }
    }
}
