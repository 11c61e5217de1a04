//! What a node must know to talk, checked before anything is bound.

use crate::error::P2pError;
use crate::score::{SCORE_MAX, SCORE_MIN};
use crate::swarm::{Scope, scope};
use crate::topic::Topic;
use aequa_types::limits::OPERATORS_MAX;
use aequa_types::{ClusterId, OperatorIndex};
use libp2p::identity::{Keypair, ed25519};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};
use std::collections::{BTreeSet, HashSet};
use zeroize::Zeroizing;

/// Default of [`Config::max_conns`]: file descriptors of a small machine.
pub const MAX_CONNS_DEFAULT: i64 = 128;

/// Configuration of the transport.
#[derive(Clone)]
pub struct Config {
    /// Seed of the operator's ed25519 identity key.
    pub secret_key: Box<Zeroizing<[u8; 32]>>,
    /// Cluster whose messages are taken.
    pub cluster_id: ClusterId,
    /// This node.
    pub me: OperatorIndex,
    /// All members of the lock (or participants of the ceremony), this node among them.
    pub members: Vec<Member>,
    /// Topics of the features that are on.
    pub topics: Vec<Topic>,
    /// Multiaddrs to listen on; none for a node that only dials.
    pub listen: Vec<String>,
    /// Peer ids that may connect besides the members. They get no stream.
    pub allow: Vec<String>,
    /// Multiaddrs dialled for ever.
    pub bootnodes: Vec<String>,
    /// Most connections at a time.
    pub max_conns: i64,
    /// Connection attempts per second and peer; 0 is no limit.
    pub rate_limit: i64,
    /// Least score of a stranger that connects; 0 is no threshold.
    pub score_threshold: i64,
    /// Turn away everybody the lock does not name, [`Config::allow`] included.
    pub dkg_required: bool,
    /// Tell members about loopback and private addresses too, though none of theirs is given by such.
    pub advertise_private: bool,
}

/// One operator of the lock.
#[derive(Debug, Clone)]
pub struct Member {
    /// Its place in the lock.
    pub operator: OperatorIndex,
    /// Its libp2p peer id.
    pub peer_id: String,
    /// Where it may be reached; empty when it dials us.
    pub addrs: Vec<String>,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config").field("me", &self.me).field("listen", &self.listen).finish_non_exhaustive()
    }
}

impl Config {
    /// A configuration with the defaults of the contract, without listeners.
    pub fn new(
        secret_key: &[u8; 32],
        cluster_id: ClusterId,
        me: OperatorIndex,
        members: Vec<Member>,
    ) -> Self {
        Self {
            secret_key: Box::new(Zeroizing::new(*secret_key)),
            cluster_id,
            me,
            members,
            topics: vec![Topic::Qbft, Topic::Tx, Topic::Evidence, Topic::Sync],
            listen: Vec::new(),
            allow: Vec::new(),
            bootnodes: Vec::new(),
            max_conns: MAX_CONNS_DEFAULT,
            rate_limit: 0,
            score_threshold: 0,
            dkg_required: false,
            advertise_private: false,
        }
    }

    /// Checks everything that can be checked without the network.
    pub fn check(&self) -> Result<(), P2pError> {
        Checked::parse(self).map(drop)
    }
}

/// The peer id of the identity key with this seed.
pub fn peer_id_of(secret_key: [u8; 32]) -> String {
    keypair(&secret_key).map(|key| key.public().to_peer_id().to_string()).unwrap_or_default()
}

/// A configuration whose strings were parsed and whose numbers make sense.
pub(crate) struct Checked {
    pub keypair: Keypair,
    pub cluster_id: ClusterId,
    pub me: OperatorIndex,
    /// The other members.
    pub others: Vec<CheckedMember>,
    pub topics: BTreeSet<Topic>,
    pub listen: Vec<Multiaddr>,
    pub allow: HashSet<PeerId>,
    /// Bootnodes that are no members; those that are became addresses of theirs.
    pub bootnodes: Vec<(Multiaddr, Option<PeerId>)>,
    pub max_conns: usize,
    pub rate_limit: f64,
    /// `None` is no threshold.
    pub score_threshold: Option<f64>,
    pub dkg_required: bool,
    /// Which addresses are announced, and dialled when a member announces them.
    pub scopes: BTreeSet<Scope>,
}

#[derive(Debug, Clone)]
pub(crate) struct CheckedMember {
    pub operator: OperatorIndex,
    pub peer: PeerId,
    pub addrs: Vec<Multiaddr>,
}

impl Checked {
    pub fn parse(config: &Config) -> Result<Self, P2pError> {
        let keypair = keypair(&config.secret_key)?;
        let mut others = members(config, keypair.public().to_peer_id())?;
        let bootnodes = bootnodes(config, &mut others, keypair.public().to_peer_id())?;
        Ok(Self {
            cluster_id: config.cluster_id,
            me: config.me,
            topics: config.topics.iter().copied().chain([Topic::Peers]).collect(),
            listen: config
                .listen
                .iter()
                .map(|text| address(text).map(|(addr, _)| addr))
                .collect::<Result<_, _>>()?,
            allow: config.allow.iter().map(|text| peer(text)).collect::<Result<_, _>>()?,
            bootnodes,
            max_conns: max_conns(config, others.len())?,
            rate_limit: non_negative("rate-limit", config.rate_limit)? as f64,
            score_threshold: score_threshold(config.score_threshold)?,
            dkg_required: config.dkg_required,
            scopes: scopes(config, &others),
            others,
            keypair,
        })
    }

    pub fn peer_id(&self) -> PeerId {
        self.keypair.public().to_peer_id()
    }
}

fn keypair(seed: &[u8; 32]) -> Result<Keypair, P2pError> {
    let mut bytes = Zeroizing::new(*seed);
    let secret = ed25519::SecretKey::try_from_bytes(&mut *bytes)
        .map_err(|_| invalid("the secret key is not an ed25519 seed"))?;
    Ok(ed25519::Keypair::from(secret).into())
}

fn members(config: &Config, own: PeerId) -> Result<Vec<CheckedMember>, P2pError> {
    if config.members.len() > OPERATORS_MAX {
        return Err(invalid(format!("{} members, the limit is {OPERATORS_MAX}", config.members.len())));
    }
    let (mut peers, mut operators, mut others) = (HashSet::new(), HashSet::new(), Vec::new());
    for member in &config.members {
        let peer = peer(&member.peer_id)?;
        if !peers.insert(peer) || !operators.insert(member.operator) {
            return Err(invalid(format!("operator {} is named twice", member.operator)));
        }
        if (member.operator == config.me) != (peer == own) {
            return Err(invalid(format!("the identity key is not that of operator {}", config.me)));
        }
        if member.operator != config.me {
            let addrs = member.addrs.iter().map(|text| address_of(text, peer)).collect::<Result<_, _>>()?;
            others.push(CheckedMember { operator: member.operator, peer, addrs });
        }
    }
    if !operators.contains(&config.me) {
        return Err(invalid(format!("operator {} is not a member", config.me)));
    }
    Ok(others)
}

fn bootnodes(
    config: &Config,
    others: &mut [CheckedMember],
    own: PeerId,
) -> Result<Vec<(Multiaddr, Option<PeerId>)>, P2pError> {
    let mut strangers = Vec::new();
    for text in &config.bootnodes {
        let (addr, peer) = address(text)?;
        if peer == Some(own) {
            continue; // One bootnodes file serves the whole cluster.
        }
        match others.iter_mut().find(|member| Some(member.peer) == peer) {
            Some(member) if !member.addrs.contains(&addr) => member.addrs.push(addr),
            Some(_) => {}
            None => strangers.push((addr, peer)),
        }
    }
    Ok(strangers)
}

/// Public addresses mean something everywhere. Those of a local network or of one host do where the members
/// are given by such.
fn scopes(config: &Config, others: &[CheckedMember]) -> BTreeSet<Scope> {
    let given = others.iter().flat_map(|member| &member.addrs).map(scope);
    let asked = config.advertise_private.then_some([Scope::Private, Scope::Host]);
    let scopes = given.chain(asked.into_iter().flatten()).chain([Scope::Public]);
    scopes.filter(|scope| *scope != Scope::Nowhere).collect()
}

fn max_conns(config: &Config, others: usize) -> Result<usize, P2pError> {
    let max_conns = non_negative("max-conns", config.max_conns)? as usize;
    if max_conns < others {
        return Err(invalid(format!("max-conns {max_conns} is below the {others} other members")));
    }
    Ok(max_conns)
}

fn score_threshold(threshold: i64) -> Result<Option<f64>, P2pError> {
    let points = threshold as f64;
    if !(SCORE_MIN..=SCORE_MAX).contains(&points) {
        return Err(invalid(format!("score-threshold {threshold} is outside {SCORE_MIN} to {SCORE_MAX}")));
    }
    Ok((threshold != 0).then_some(points))
}

fn non_negative(name: &str, value: i64) -> Result<u32, P2pError> {
    u32::try_from(value).map_err(|_| invalid(format!("{name} {value} is out of range")))
}

fn peer(text: &str) -> Result<PeerId, P2pError> {
    text.parse().map_err(|_| invalid(format!("{text:?} is not a peer id")))
}

/// Parses a TCP or QUIC address and takes a trailing peer id off it.
fn address(text: &str) -> Result<(Multiaddr, Option<PeerId>), P2pError> {
    let mut addr: Multiaddr = text.parse().map_err(|_| invalid(format!("{text:?} is not a multiaddr")))?;
    let mut peer = None;
    if let Some(Protocol::P2p(id)) = addr.iter().last() {
        peer = Some(id);
        addr.pop();
    }
    let mut parts = addr.iter();
    let host = matches!(
        parts.next(),
        Some(Protocol::Ip4(_) | Protocol::Ip6(_) | Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_))
    );
    let port = matches!(
        (parts.next(), parts.next(), parts.next()),
        (Some(Protocol::Tcp(_)), None, None) | (Some(Protocol::Udp(_)), Some(Protocol::QuicV1), None)
    );
    if !(host && port) {
        return Err(invalid(format!("{text:?} is neither a tcp nor a quic-v1 address")));
    }
    Ok((addr, peer))
}

fn address_of(text: &str, owner: PeerId) -> Result<Multiaddr, P2pError> {
    match address(text)? {
        (_, Some(peer)) if peer != owner => Err(invalid(format!("{text:?} is not an address of {owner}"))),
        (addr, _) => Ok(addr),
    }
}

fn invalid(what: impl Into<String>) -> P2pError {
    P2pError::Config { what: what.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let members = (0..4)
            .map(|i| Member {
                operator: OperatorIndex(i),
                peer_id: peer_id_of([i + 1; 32]),
                addrs: vec![format!("/ip4/10.0.0.{i}/tcp/31000")],
            })
            .collect();
        Config::new(&[1; 32], ClusterId::ZERO, OperatorIndex(0), members)
    }

    fn refusal(change: impl FnOnce(&mut Config)) -> String {
        let mut config = config();
        change(&mut config);
        config.check().unwrap_err().to_string()
    }

    #[test]
    fn a_sound_configuration_passes() {
        let mut config = config();
        config.bootnodes = vec!["/dns4/boot.example/udp/31000/quic-v1".into()];
        config.bootnodes.push(format!("/ip4/10.0.9.9/tcp/1/p2p/{}", peer_id_of([2; 32])));
        let checked = Checked::parse(&config).unwrap();
        assert_eq!(checked.bootnodes.len(), 1);
        assert_eq!(checked.others[0].addrs.len(), 2, "a member's bootnode address is one more of its own");
        assert_eq!(checked.peer_id().to_string(), peer_id_of([1; 32]));
    }

    #[test]
    fn what_contradicts_itself_is_refused_at_start() {
        assert!(refusal(|c| c.max_conns = 2).contains("below the 3 other members"));
        assert!(refusal(|c| c.max_conns = -1).contains("max-conns -1"));
        assert!(refusal(|c| c.rate_limit = -5).contains("rate-limit -5"));
        assert!(refusal(|c| c.score_threshold = -1001).contains("score-threshold"));
        assert!(refusal(|c| c.me = OperatorIndex(1)).contains("identity key"));
        assert!(refusal(|c| c.me = OperatorIndex(9)).contains("identity key"));
        assert!(refusal(|c| c.members.clear()).contains("not a member"));
        assert!(refusal(|c| c.members[3] = c.members[2].clone()).contains("twice"));
        assert!(refusal(|c| c.members[2].peer_id = "nobody".into()).contains("not a peer id"));
        assert!(refusal(|c| c.members[2].addrs.push("/ip4/1.2.3.4/udp/9".into())).contains("neither"));
        assert!(refusal(|c| c.listen.push("31000".into())).contains("not a multiaddr"));
        assert!(refusal(|c| c.allow.push("x".into())).contains("not a peer id"));
        let wrong = format!("/ip4/1.2.3.4/tcp/1/p2p/{}", peer_id_of([9; 32]));
        assert!(refusal(|c| c.members[1].addrs.push(wrong)).contains("not an address of"));
    }

    #[test]
    fn addresses_of_a_local_network_are_told_where_the_members_are_given_by_such() {
        let scopes = |addr: &str, private| {
            let mut config = config();
            config.advertise_private = private;
            config.members.iter_mut().for_each(|member| member.addrs = vec![addr.into()]);
            Checked::parse(&config).unwrap().scopes.into_iter().collect::<Vec<_>>()
        };
        assert_eq!(scopes("/ip4/8.8.8.8/tcp/1", false), [Scope::Public]);
        assert_eq!(scopes("/ip4/8.8.8.8/tcp/1", true), [Scope::Public, Scope::Private, Scope::Host]);
        assert_eq!(scopes("/ip4/10.0.0.1/tcp/1", false), [Scope::Public, Scope::Private]);
        assert_eq!(scopes("/ip4/127.0.0.1/tcp/1", false), [Scope::Public, Scope::Host]);
    }

    #[test]
    fn the_secret_key_is_not_printed() {
        assert!(!format!("{:?}", config()).contains("secret"));
    }
}
