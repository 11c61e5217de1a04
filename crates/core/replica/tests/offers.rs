//! What was accepted is decided, whoever was connected when it came.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod common;

use aequa_replica::{Input, Recovery, Ticket, Timer};
use aequa_types::{ConsensusParams, OperatorIndex, TxKind};
use common::cluster::Cluster;
use common::{Effect, Operator, Outbound, at, pick, started, transaction};

/// Silent until there is work. Operator 1 leads the first height.
fn idle_cluster() -> Cluster {
    let params = ConsensusParams { round_timeout_ms: 300, empty_blocks: false, ..ConsensusParams::default() };
    let mut cluster = Cluster::new(4, params);
    cluster.run_for(5_000);
    cluster
}

fn submit_to(cluster: &mut Cluster, id: usize) {
    cluster.input(id, Input::Transactions(vec![(transaction(1, 0), Some(Ticket(1)))]));
}

#[test]
fn a_transaction_taken_while_its_node_was_cut_off_is_decided_once_the_link_is_back() {
    let mut cluster = idle_cluster();
    cluster.cut.insert(3);
    submit_to(&mut cluster, 3);
    cluster.run_for(60_000);
    assert!(cluster.nodes.iter().all(|node| node.height() == 0), "nobody else knows of it");
    cluster.rejoin(3);
    let deadline_ms = cluster.now_ms + 10_000;
    assert!(cluster.run_until(|cluster| cluster.nodes.iter().all(|node| node.height() == 1), deadline_ms));
}

#[test]
fn a_transaction_whose_node_went_down_is_offered_by_whoever_holds_it() {
    let mut cluster = idle_cluster();
    cluster.cut.extend([0, 1]);
    submit_to(&mut cluster, 3);
    cluster.run_for(100);
    assert_eq!(cluster.nodes[2].replica.mempool().len(TxKind::PlaintextV1), 1, "one other heard of it");
    cluster.cut.insert(3);
    (0..2).for_each(|id| cluster.rejoin(id));
    let deadline_ms = cluster.now_ms + 60_000;
    assert!(
        cluster.run_until(|cluster| cluster.nodes[..3].iter().all(|node| node.height() == 1), deadline_ms)
    );
}

fn offered(replica: &mut Operator, ms: u64) -> usize {
    let effects = replica.step(at(ms), Input::Timer(Timer::CatchUp));
    let offers = pick!(effects, Effect::Send(Outbound::Offer(transactions)) => transactions);
    let offers: Vec<_> = offers.collect();
    assert!(offers.len() <= 1);
    let bytes: usize = offers.iter().flat_map(|offer| offer.iter()).map(|tx| tx.bytes()).sum();
    assert!(bytes <= 60 * 1024, "{bytes} bytes");
    offers.iter().map(|offer| offer.len()).sum()
}

#[test]
fn offers_are_bounded_come_round_and_wait_for_ten_seconds_or_a_new_link() {
    let mut node = started(0, Recovery::default());
    let many: Vec<_> =
        (0..40).flat_map(|sender| (0..60).map(move |nonce| transaction(sender, nonce))).collect();
    let own = many.iter().map(|tx| (tx.clone(), Some(Ticket(1)))).collect();
    node.step(at(0), Input::Transactions(own));
    assert_eq!(offered(&mut node, 9_999), 0);
    let (mut total, mut ms) = (0, 10_000);
    while total < many.len() && ms < 20_000 {
        total += offered(&mut node, ms);
        ms += 500;
    }
    assert_eq!(total, many.len(), "each once");
    assert_eq!(offered(&mut node, ms), 0);
    node.step(at(ms), Input::PeerConnected(OperatorIndex(1)));
    assert_eq!(offered(&mut node, ms + 500), 0, "gossip does not reach the new link yet");
    assert!(offered(&mut node, ms + 1_000) > 0);
}

#[test]
fn what_others_brought_is_offered_only_while_no_block_is_decided() {
    let mut node = started(0, Recovery::default());
    node.step(at(5_000), Input::Transactions(vec![(transaction(1, 0), None)]));
    assert_eq!(offered(&mut node, 9_000), 0);
    assert_eq!(offered(&mut node, 15_000), 1, "nothing was decided for ten seconds");
}
