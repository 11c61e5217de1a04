//! Builds the libp2p swarm: transports, behaviours, listeners.

use crate::config::Checked;
use crate::error::P2pError;
use crate::gate::{self, Gates, Rules, behaviour::ip_of, network_of};
use crate::members_only::MembersOnly;
use crate::shared::Shared;
use crate::topic::{Carriage, Topic};
use crate::{gossip, streams};
use libp2p::core::transport::ListenerId;
use libp2p::core::transport::dummy::DummyTransport;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::NetworkBehaviour;
use libp2p::{Multiaddr, Swarm, SwarmBuilder, dns, gossipsub, identify, noise, ping, tcp, tls, yamux};
use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A handshake that takes longer holds a descriptor for nothing; intercontinental ones take under a second.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a connection is tried.
const PING_INTERVAL: Duration = Duration::from_secs(15);
/// When it is given up.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// What a connection without any handler's interest may live; ours are always of interest.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// The node's behaviours. The gate comes first: whom it refuses, the others never see.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    pub gate: gate::behaviour::Behaviour,
    pub streams: streams::Behaviour,
    pub gossip: MembersOnly<gossipsub::Behaviour>,
    ping: ping::Behaviour,
    identify: identify::Behaviour,
}

/// A swarm that does not listen yet.
pub(crate) fn build(config: &Checked, shared: &Shared) -> Result<Swarm<Behaviour>, P2pError> {
    let failed = |what: String| P2pError::Transport { what };
    let behaviour = behaviour(config, shared)?;
    let transports = SwarmBuilder::with_existing_identity(config.keypair.clone())
        .with_tokio()
        .with_tcp(
            tcp::Config::default().nodelay(true),
            (tls::Config::new, noise::Config::new),
            yamux::Config::default,
        )
        .map_err(|error| failed(error.to_string()))?
        .with_quic();
    macro_rules! finish {
        ($transports:expr) => {
            $transports
                .with_behaviour(|_| behaviour)
                .map_err(|error| failed(error.to_string()))?
                .with_swarm_config(|config| config.with_idle_connection_timeout(IDLE_TIMEOUT))
                .with_connection_timeout(HANDSHAKE_TIMEOUT)
                .build()
        };
    }
    // A host without a resolver can still run a cluster of plain addresses, and reach those it has names for.
    if !needs_names(config) {
        return Ok(finish!(transports));
    }
    match dns::tokio::Transport::system(DummyTransport::<()>::new()).map(drop) {
        Ok(()) => Ok(finish!(transports.with_dns().map_err(|error| failed(error.to_string()))?)),
        Err(error) => {
            let text = format!(
                "the resolver has no usable configuration (/etc/resolv.conf: {error}): names of members and \
                 bootnodes are looked up in the hosts file only"
            );
            tracing::warn!(target: "event", text, "warning");
            Ok(finish!(
                transports.with_dns_config(dns::ResolverConfig::default(), dns::ResolverOpts::default())
            ))
        }
    }
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

/// Whether an address means something outside its own host and local network.
pub(crate) fn is_public(addr: &Multiaddr) -> bool {
    match ip_of(addr).map(|ip| ip.to_canonical()) {
        Some(IpAddr::V4(ip)) => {
            let shared = ip.octets()[0] == 100 && ip.octets()[1] & 0xc0 == 64;
            !(ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_unspecified() || shared)
        }
        Some(IpAddr::V6(ip)) => {
            !(ip.is_loopback() || ip.is_unspecified() || ip.is_unique_local() || ip.is_unicast_link_local())
        }
        None => true,
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

fn behaviour(config: &Checked, shared: &Shared) -> Result<Behaviour, P2pError> {
    let members: HashSet<_> = config.others.iter().map(|member| member.peer).collect();
    let rules = Rules {
        members: members.clone(),
        allow: config.allow.clone(),
        member_addresses: member_addresses(config),
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
        gate: gate::behaviour::Behaviour::new(gates, shared.observer.clone()),
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

fn member_addresses(config: &Checked) -> HashMap<IpAddr, usize> {
    let mut sharers = HashMap::new();
    for member in &config.others {
        let ips: HashSet<_> = member.addrs.iter().filter_map(ip_of).map(network_of).collect();
        for ip in ips {
            *sharers.entry(ip).or_default() += 1;
        }
    }
    sharers
}

fn needs_names(config: &Checked) -> bool {
    let member_addrs = config.others.iter().flat_map(|member| &member.addrs);
    let mut addrs = member_addrs.chain(config.bootnodes.iter().map(|(addr, _)| addr));
    addrs.any(|addr| ip_of(addr).is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_the_local_network_are_not_public() {
        let public = |text: &str| is_public(&text.parse().unwrap());
        let local =
            ["127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.1.1", "100.64.0.1", "0.0.0.0"];
        assert!(local.iter().all(|ip| !public(&format!("/ip4/{ip}/tcp/1"))));
        assert!(["::1", "fd00::1", "fe80::1"].iter().all(|ip| !public(&format!("/ip6/{ip}/tcp/1"))));
        assert!(
            public("/ip4/8.8.8.8/tcp/1") && public("/ip6/2600::1/tcp/1") && public("/dns4/a.example/tcp/1")
        );
    }
}
