//! Whoever is not in the lock gets no stream.

use crate::harness::{Cluster, Shape, until};
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

/// Starts a stranger that takes node 3 for a fellow member of the same cluster.
fn enter(runtime: &tokio::runtime::Runtime, cluster: &Cluster, seed: [u8; 32], ear: &Arc<Ear>) -> Network {
    let lock = aequa_crypto::lock::load(&std::fs::read_to_string(cluster.lock()).unwrap()).unwrap();
    let target = &lock.lock().operators[3];
    let members = vec![
        Member { operator: target.index, peer_id: target.peer_id.clone(), addrs: target.multiaddrs.clone() },
        Member { operator: OperatorIndex(9), peer_id: peer_id_of(seed), addrs: Vec::new() },
    ];
    let config = Config::new(seed, lock.cluster_id(), OperatorIndex(9), members);
    let _inside = runtime.enter();
    aequa_p2p::start(config, ear.clone(), Arc::new(Unobserved)).unwrap()
}
