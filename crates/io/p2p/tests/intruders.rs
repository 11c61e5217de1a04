//! Strangers, and members that break the rules.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod common;

use aequa_p2p::*;
use aequa_types::ClusterId;
use common::*;
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{Stream, SwarmEvent};
use libp2p::{Multiaddr, StreamProtocol, SwarmBuilder, noise, tcp, yamux};
use std::net::SocketAddr;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

/// A configuration under a key outside the cluster, which takes `target` for a fellow member.
fn stranger(target: &Config) -> Config {
    // Lower than the target's, so that the stranger is the side that opens streams.
    let id = |seed: [u8; 32]| peer_id_of(seed).parse::<libp2p::PeerId>().unwrap();
    let seed = (100..=255u8).map(|i| [i; 32]).find(|seed| id(*seed) < id(**target.secret_key)).unwrap();
    let me = op(9);
    let member = Member { operator: me, peer_id: peer_id_of(seed), addrs: vec![] };
    Config::new(&seed, CLUSTER, me, vec![target.members[target.me.as_usize()].clone(), member])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_is_refused_and_gets_no_stream() {
    let configs = cluster(2, Net::Tcp);
    let target = Node::start(configs[1].clone());
    let intruder = Node::start(stranger(&configs[1]));
    target.until("refused twice", |node| node.log.attempts(Attempt::Denied) >= 2).await;
    assert_eq!(target.log.refusals(Gate::Allowlist), target.log.attempts(Attempt::Denied));
    assert_eq!(target.log.attempts(Attempt::Allowed), 0);
    assert_eq!(target.log.opened.load(SeqCst), 0);
    assert!(intruder.network.connected().is_empty());
    assert_eq!(intruder.log.ups.load(SeqCst), 0);
}

/// A stranger at an address of its own that connects, says nothing, and comes back when it is turned away.
async fn silent_stranger(number: usize, target: SocketAddr) {
    let own = SocketAddr::from(([127, 7, (number / 250) as u8, (number % 250) as u8 + 1], 0));
    loop {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(own).unwrap();
        if let Ok(mut stream) = socket.connect(target).await {
            let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut Vec::new()).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_strangers_keep_no_member_out_wherever_it_comes_from() {
    // More than there are places for, each below what its address may.
    const STRANGERS: usize = 300;
    let mut configs = cluster(2, Net::Tcp);
    // Where the member is, nobody knows.
    configs[1].members[0].addrs.clear();
    configs[0].listen.clear();
    let target = Node::start(configs[1].clone());
    let addr: Multiaddr = configs[1].listen[0].parse().unwrap();
    let mut parts = addr.iter();
    let (Some(Protocol::Ip4(ip)), Some(Protocol::Tcp(port))) = (parts.next(), parts.next()) else { panic!() };
    let strangers: Vec<_> =
        (0..STRANGERS).map(|i| tokio::spawn(silent_stranger(i, (ip, port).into()))).collect();
    let member = Node::start(configs[0].clone());
    member.until_connected(1).await;
    target.until_connected(1).await;
    strangers.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_allowed_peer_that_is_no_member_connects_but_gets_no_stream() {
    let mut configs = cluster(2, Net::Tcp);
    let friend = stranger(&configs[1]);
    configs[1].allow = vec![peer_id_of(**friend.secret_key)];
    let target = Node::start(configs[1].clone());
    let friend = Node::start(friend);
    friend.until("connected", |node| node.log.opened.load(SeqCst) == 1).await;
    let error = friend.network.request(op(1), &msg("x")).await.unwrap_err();
    assert!(matches!(error, P2pError::Refused { .. }), "{error}");
    friend.network.broadcast(Topic::Qbft, &msg("x"));
    assert!(friend.network.connected().is_empty());
    assert_eq!(target.log.attempts(Attempt::Allowed), 1);
    assert!(target.log.bodies().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_lock_is_required_an_allowed_peer_stays_outside() {
    let mut configs = cluster(2, Net::Tcp);
    let friend = stranger(&configs[1]);
    configs[1].allow = vec![peer_id_of(**friend.secret_key)];
    configs[1].dkg_required = true;
    let target = Node::start(configs[1].clone());
    let _friend = Node::start(friend);
    target.until("refused", |node| node.log.attempts(Attempt::DkgDenied) >= 1).await;
    assert!(target.log.refusals(Gate::Lock) >= 1);
    assert_eq!(target.log.opened.load(SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rate_gate_limits_dials_and_opens_again() {
    let mut configs = cluster(2, Net::Tcp);
    let friend = stranger(&configs[1]);
    configs[1].allow = vec![peer_id_of(**friend.secret_key)];
    configs[1].rate_limit = 1;
    let target = Node::start(configs[1].clone());
    // A friend that comes and goes uses up its attempts; afterwards they refill.
    let mut visits = 0;
    while target.log.attempts(Attempt::Limited) == 0 {
        let visitor = Node::start(friend.clone());
        visits += 1;
        target
            .until("an attempt", |node| {
                node.log.attempts(Attempt::Allowed) + node.log.attempts(Attempt::Limited) >= visits
            })
            .await;
        visitor.network.shutdown().await;
    }
    let allowed = target.log.attempts(Attempt::Allowed);
    assert!(allowed >= 2, "burst is twice the rate");
    let _visitor = Node::start(friend);
    target.until("admitted again", |node| node.log.attempts(Attempt::Allowed) > allowed).await;
}

/// A member's key in a program that follows no rules but libp2p's.
struct Rogue {
    control: libp2p_stream::Control,
    target: libp2p::PeerId,
    driver: tokio::task::JoinHandle<()>,
}

impl Rogue {
    async fn dial(own: &Config, target: &Config) -> Self {
        let key = libp2p::identity::Keypair::ed25519_from_bytes(**own.secret_key).unwrap();
        let mut swarm = SwarmBuilder::with_existing_identity(key)
            .with_tokio()
            .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
            .unwrap()
            .with_behaviour(|_| libp2p_stream::Behaviour::new())
            .unwrap()
            .build();
        let control = swarm.behaviour().new_control();
        let addr: Multiaddr = target.listen[0].parse().unwrap();
        swarm.dial(addr).unwrap();
        while !matches!(swarm.select_next_some().await, SwarmEvent::ConnectionEstablished { .. }) {}
        let driver = tokio::spawn(async move { while swarm.next().await.is_some() {} });
        Self { control, target: peer_id_of(**target.secret_key).parse().unwrap(), driver }
    }

    async fn open(&mut self) -> Stream {
        let protocol = StreamProtocol::new(Topic::Qbft.protocol());
        self.control.open_stream(self.target, protocol).await.unwrap()
    }
}

impl Drop for Rogue {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A rogue with the lower peer id, which opens streams, and its victim.
async fn rogue_and_victim() -> (Rogue, Node) {
    let mut configs = cluster(2, Net::Tcp);
    configs[1].members[0].addrs.clear();
    let victim = Node::start(configs[1].clone());
    (Rogue::dial(&configs[0], &configs[1]).await, victim)
}

async fn send(stream: &mut Stream, frame: &[u8]) {
    stream.write_all(&(frame.len() as u32).to_le_bytes()).await.unwrap();
    stream.write_all(frame).await.unwrap();
    stream.flush().await.unwrap();
}

fn good(text: &str) -> bytes::Bytes {
    msg(text).encode(CLUSTER)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_oversize_frame_costs_score_and_its_stream_but_not_the_membership() {
    let (mut rogue, victim) = rogue_and_victim().await;
    let mut stream = rogue.open().await;
    send(&mut stream, &good("before")).await;
    victim.until("a good frame", |node| node.log.bodies() == ["before"]).await;
    let too_much = Topic::Qbft.frame_bytes_max() as u32 + 1;
    stream.write_all(&too_much.to_le_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let refused = |node: &Node| node.log.messages(Topic::Qbft, Direction::Rx, Outcome::DecodeError) == 1;
    victim.until("refused", refused).await;
    // The victim ends the stream: end of file or a reset.
    let _ = stream.read_to_end(&mut Vec::new()).await;
    assert_eq!(victim.network.score(op(0)).round(), -49.0);
    let mut stream = rogue.open().await;
    send(&mut stream, &good("after")).await;
    victim.until("a good frame again", |node| node.log.bodies() == ["before", "after"]).await;
    assert_eq!(victim.log.closed.load(SeqCst), 0, "the connection stays");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_envelopes_are_counted_and_scored_and_unknown_versions_are_ignored() {
    let (mut rogue, victim) = rogue_and_victim().await;
    let mut stream = rogue.open().await;
    send(&mut stream, &[2, 1, 1]).await;
    victim.until("unknown version", |node| node.log.unknown.load(SeqCst) == 1).await;
    assert_eq!(victim.network.score(op(0)), 0.0);
    send(&mut stream, &good("x")[..41]).await;
    let malformed = |node: &Node| node.log.messages(Topic::Qbft, Direction::Rx, Outcome::DecodeError) == 1;
    victim.until("malformed", malformed).await;
    assert_eq!(victim.network.score(op(0)).round(), -50.0);
    send(&mut stream, &msg("x").encode(ClusterId::ZERO)).await;
    let foreign = |node: &Node| node.log.messages(Topic::Qbft, Direction::Rx, Outcome::Error) == 1;
    victim.until("another cluster's", foreign).await;
    assert_eq!(victim.network.score(op(0)).round(), -150.0);
    send(&mut stream, &good("same stream")).await;
    victim.until("a good frame", |node| node.log.bodies() == ["same stream"]).await;
    assert_eq!(victim.network.connected(), [op(0)], "a member is never cut off for its score");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_stream_replaces_the_older() {
    let (mut rogue, victim) = rogue_and_victim().await;
    let mut old = rogue.open().await;
    send(&mut old, &good("old")).await;
    victim.until("old stream", |node| node.log.bodies() == ["old"]).await;
    let mut new = rogue.open().await;
    send(&mut new, &good("new")).await;
    victim.until("new stream", |node| node.log.bodies().len() == 2).await;
    victim.network.send(op(0), Topic::Qbft, &msg("reply"));
    let mut prefix = [0; 4];
    new.read_exact(&mut prefix).await.unwrap();
    assert_eq!(u32::from_le_bytes(prefix) as usize, good("reply").len());
    assert_eq!(old.read(&mut prefix).await.unwrap(), 0, "the older stream ended in good order");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_does_not_read_loses_its_connection_and_not_our_memory() {
    let (mut rogue, victim) = rogue_and_victim().await;
    let mut stream = rogue.open().await;
    send(&mut stream, &good("hello")).await;
    victim.until_connected(1).await;
    let large = Message::new(1, vec![0; 1 << 20]);
    while victim.log.downs.load(SeqCst) == 0 {
        victim.network.send(op(0), Topic::Qbft, &large);
        tokio::task::yield_now().await;
    }
    assert!(victim.log.messages(Topic::Qbft, Direction::Tx, Outcome::Error) >= 1);
    victim.until("closed", |node| node.log.closed.load(SeqCst) == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_comes_back_while_its_old_connections_seem_alive_is_let_in() {
    let mut configs = cluster(2, Net::Tcp);
    configs[1].members[0].addrs.clear();
    let victim = Node::start(configs[1].clone());
    let mut rogues = Vec::new();
    for i in 0..4 {
        let mut rogue = Rogue::dial(&configs[0], &configs[1]).await;
        let mut stream = rogue.open().await;
        send(&mut stream, &good(&format!("{i}"))).await;
        victim.until("frame of the newest", |node| node.log.bodies().len() == i + 1).await;
        rogues.push((rogue, stream));
    }
    victim.until("two remain", |node| node.log.closed.load(SeqCst) == 2).await;
    assert_eq!(victim.log.attempts(Attempt::Allowed), 4);
}

#[cfg(feature = "e2e")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e2e_peers_are_judged_and_counted_like_any_other() {
    let configs = cluster(2, Net::Tcp);
    let node = Node::start(configs[1].clone());
    assert_eq!(node.network.judge("X0001").await.unwrap(), Attempt::Denied);
    assert_eq!(node.log.refusals(Gate::Allowlist), 1);
    assert_eq!(node.network.judge(&configs[0].members[0].peer_id).await.unwrap(), Attempt::Allowed);
    assert_eq!(node.log.opened.load(SeqCst), 0, "nothing opens");
}
