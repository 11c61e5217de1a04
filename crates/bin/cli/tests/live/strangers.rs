//! Whoever is not in the lock gets no stream; whoever is, and sends garbage, pays for it.

use crate::harness::{Cluster, Shape, until};
use aequa_crypto::keystore::Keystore;
use aequa_crypto::lock::VerifiedLock;
use aequa_p2p::{
    Config, GossipVerdict, Handler, Member, Message, Network, Topic, Unobserved, Verdict, peer_id_of,
};
use aequa_types::OperatorIndex;
use futures::future::BoxFuture;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// Counts everything it is given.
#[derive(Default)]
struct Ear(AtomicUsize);

impl Handler for Ear {
    fn frame(&self, _: OperatorIndex, _: Topic, _: Message) -> BoxFuture<'_, Verdict> {
        self.0.fetch_add(1, SeqCst);
        Box::pin(async { Verdict::Accept })
    }
    fn gossip(&self, _: OperatorIndex, _: Topic, _: Message) -> BoxFuture<'_, GossipVerdict> {
        self.0.fetch_add(1, SeqCst);
        Box::pin(async { GossipVerdict::Accept })
    }
    fn request(&self, _: OperatorIndex, _: Message) -> BoxFuture<'_, Option<Message>> {
        self.0.fetch_add(1, SeqCst);
        Box::pin(async { None })
    }
    fn connected(&self, _: OperatorIndex) {
        self.0.fetch_add(1, SeqCst);
    }
    fn disconnected(&self, _: OperatorIndex) {}
}

#[test]
fn a_stranger_is_counted_and_gets_no_stream() {
    let cluster = Cluster::start(Shape::default());
    cluster.until_all_at(2);
    let node = &cluster.nodes[3];
    let opened = || node.metric("p2p_conns_open").unwrap_or_default();
    let before = until("three members connected", || Some(opened()).filter(|open| *open >= 3.0));

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let ear = Arc::new(Ear::default());
    let networks: Vec<Network> =
        [[0xa1; 32], [0xb2; 32]].map(|seed| enter(&runtime, &cluster, seed, &ear)).into();
    let refused = || {
        let attempts = |result| node.metric(&format!("p2p_conn_attempts_total{{result=\"{result}\"}}"));
        attempts("denied").unwrap_or_default() + attempts("dkg_denied").unwrap_or_default()
    };
    until("the stranger is refused twice", || (refused() >= 2.0).then_some(()));
    for network in &networks {
        assert!(network.connected().is_empty());
        let asked = runtime.block_on(network.request(OperatorIndex(3), &Message::new(1, vec![0u8; 8])));
        assert!(asked.is_err(), "a stranger got an answer");
    }
    assert_eq!(ear.0.load(SeqCst), 0, "a stranger got a stream");
    assert!(opened() <= before, "a stranger keeps a connection");
    let told = node.log().iter().filter(|line| line["msg"] == "p2p_dkg_gate").count();
    assert!(told > 0, "the log tells of it");

    let tip = cluster.tip();
    cluster.until_all_at(tip + 3);
}

#[test]
fn a_member_that_sends_garbage_is_counted_and_stops_nothing() {
    let mut cluster = Cluster::make(Shape { round_timeout_ms: 500, ..Shape::default() });
    cluster.nodes[..3].iter_mut().for_each(|node| node.start());
    until("three decide", || (cluster.nodes[0].height()? >= 2).then_some(()));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let traitor = traitor(&runtime, &cluster);
    until("the traitor is let in: it is a member", || (traitor.connected().len() == 3).then_some(()));
    for n in 0..120u8 {
        let body = vec![n; 1 + usize::from(n) * 7];
        traitor.broadcast(Topic::Qbft, &Message::new(n % 9, body.clone()));
        traitor.broadcast(Topic::Tx, &Message::new(n % 3, body));
    }
    for node in &cluster.nodes[..3] {
        until(&format!("garbage is counted at {}", node.dir.display()), || {
            node.metric("qbft_verify_results_total{result=\"malformed\",type=\"unknown\"}")
                .filter(|n| *n > 0.0)?;
            node.metric("p2p_msgs_total{direction=\"rx\",result=\"decode_error\",topic=\"aequa/qbft/v1\"}")
        });
        assert_eq!(node.metric("qbft_msg_verified_total{result=\"error\"}").map(|n| n > 0.0), Some(true));
    }
    let tip = cluster.tip();
    until("blocks go on", || {
        cluster.nodes[..3].iter().all(|node| node.height() >= Some(tip + 5)).then_some(())
    });
    assert!(cluster.nodes[..3].iter_mut().all(|node| node.is_running()));
}

/// The identity of node 3 in wrong hands.
fn traitor(runtime: &tokio::runtime::Runtime, cluster: &Cluster) -> Network {
    let keys = cluster.nodes[3].dir.join("keys");
    let read = |name: &str| std::fs::read_to_string(keys.join(name)).unwrap();
    let seed =
        Keystore::from_json(&read("identity.json")).unwrap().decrypt(read("identity.txt").trim()).unwrap();
    let lock = lock_of(cluster);
    let members = lock.lock().operators.iter().map(|operator| Member {
        operator: operator.index,
        peer_id: operator.peer_id.clone(),
        addrs: operator.multiaddrs.clone(),
    });
    let seed: [u8; 32] = seed.as_slice().try_into().unwrap();
    let mut config = Config::new(&seed, lock.cluster_id(), OperatorIndex(3), members.collect());
    // The lower peer id opens streams: the traitor may have to be dialled.
    config.listen = lock.lock().operators[3].multiaddrs.clone();
    let _inside = runtime.enter();
    aequa_p2p::start(config, Arc::new(Ear::default()), Arc::new(Unobserved)).unwrap()
}

fn lock_of(cluster: &Cluster) -> VerifiedLock {
    aequa_crypto::lock::load(&std::fs::read_to_string(cluster.lock()).unwrap()).unwrap()
}

/// Starts a stranger that takes node 3 for a fellow member of the same cluster.
fn enter(runtime: &tokio::runtime::Runtime, cluster: &Cluster, seed: [u8; 32], ear: &Arc<Ear>) -> Network {
    let lock = lock_of(cluster);
    let target = &lock.lock().operators[3];
    let members = vec![
        Member { operator: target.index, peer_id: target.peer_id.clone(), addrs: target.multiaddrs.clone() },
        Member { operator: OperatorIndex(9), peer_id: peer_id_of(seed), addrs: Vec::new() },
    ];
    let config = Config::new(&seed, lock.cluster_id(), OperatorIndex(9), members);
    let _inside = runtime.enter();
    aequa_p2p::start(config, ear.clone(), Arc::new(Unobserved)).unwrap()
}
