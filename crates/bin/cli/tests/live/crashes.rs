//! kill -9 of one operator, of two, of all: blocks go on, stop, and go on again.

use crate::harness::{Cluster, Shape, Verdict, Wallet, command, envelope, throughout, until};
use aequa_types::Digest;
use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

/// Several timeouts of round 0, which is half a second in these clusters.
const SEVERAL_TIMEOUTS: Duration = Duration::from_secs(5);
const CYCLES: usize = 3;
const KILLS: u64 = 15;

fn shape() -> Shape {
    Shape { round_timeout_ms: 500, ..Shape::default() }
}

#[test]
fn one_dead_operator_stops_nothing_and_votes_again_when_it_is_back() {
    let mut cluster = Cluster::start(shape());
    cluster.until_all_at(5);
    cluster.nodes[2].kill();
    let dead_at = cluster.tip();
    until("ten blocks without node 2", || (cluster.tip() >= dead_at + 10).then_some(()));
    cluster.nodes[2].start();
    let back_at = cluster.tip();
    cluster.until_all_at(back_at + 2);
    let proposed = until("a block proposed by node 2", || {
        let tip = cluster.nodes[0].height()?;
        (back_at + 1..=tip).find(|height| {
            cluster.nodes[0].block(*height).is_some_and(|block| block.block.header.proposer.0 == 2)
        })
    });
    cluster.until_all_at(proposed);
    one_chain(&cluster, proposed);
    // It took part: its own log says that it signed commits after it came back.
    until("node 2 signs blocks", || {
        cluster.nodes[2].metric("block_sign_total{result=\"ok\"}").filter(|signed| *signed > 0.0)
    });
}

#[test]
fn with_two_of_four_dead_nothing_is_decided_until_one_is_back() {
    let mut cluster = Cluster::start(shape());
    cluster.until_all_at(5);
    cluster.nodes[0].kill();
    cluster.nodes[3].kill();
    // What was decided before the second kill may still be on its way between the two that live.
    let settled = until("both living nodes at one height", || {
        let (one, two) = (cluster.nodes[1].height()?, cluster.nodes[2].height()?);
        std::thread::sleep(Duration::from_millis(500));
        (one == two && cluster.nodes[1].height() == Some(one) && cluster.nodes[2].height() == Some(two))
            .then_some(one)
    });
    throughout(SEVERAL_TIMEOUTS, "a block was decided by two of four", || cluster.tip() == settled);
    cluster.nodes[3].start();
    until("blocks go on with three", || (cluster.tip() >= settled + 5).then_some(()));
    cluster.nodes[0].start();
    let back_at = cluster.tip();
    cluster.until_all_at(back_at + 3);
    one_chain(&cluster, back_at);
}

#[test]
fn after_every_operator_died_under_load_the_chain_goes_on_where_it_was() {
    let mut cluster = Cluster::start(shape());
    let urls: Vec<String> =
        cluster.nodes.iter().map(|node| format!("http://127.0.0.1:{}", node.api)).collect();
    let load = command(&[
        "tx",
        "load",
        "--count",
        "600",
        "--tps",
        "30",
        "--accounts",
        "16",
        "--url",
        &urls.join(","),
    ])
    .stdout(Stdio::piped())
    .stderr(Stdio::piped())
    .spawn()
    .unwrap();
    let mut known: Vec<Digest> = Vec::new();
    for cycle in 0..CYCLES {
        let target = cluster.tip() + 8;
        until(&format!("cycle {cycle}: eight blocks more"), || (cluster.tip() >= target).then_some(()));
        for node in &cluster.nodes {
            let digests = node.digests(node.height().unwrap());
            known = longer_of(known, digests);
        }
        cluster.nodes.iter_mut().for_each(|node| node.kill());
        cluster.start_all();
        let tip = known.len() as u64;
        cluster.until_all_at(tip + 2);
        for node in &cluster.nodes {
            let now = node.digests(tip);
            assert_eq!(now, known, "cycle {cycle}: another block at a height that was known");
        }
    }
    let loaded = load.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&loaded.stdout).into_owned();
    assert!(loaded.status.success(), "{said}{}", String::from_utf8_lossy(&loaded.stderr));
    let tip = cluster.tip();
    cluster.until_all_at(tip);
    one_chain(&cluster, tip);
}

#[test]
fn a_node_killed_at_any_moment_has_every_block_it_ever_told_of() {
    // Slower than the test reads all blocks again, or it would never catch up.
    let mut cluster = Cluster::make(Shape { nodes: 1, block_interval_ms: 50, ..Shape::default() });
    let wallet = Wallet::new();
    let node = &mut cluster.nodes[0];
    let mut known: Vec<Digest> = Vec::new();
    for life in 0..KILLS {
        node.start();
        let before = node.digests(known.len() as u64);
        assert_eq!(before, known, "life {life}");
        let nonces = node.get(&format!("/v1/accounts/{}", wallet.address())).json();
        let next = nonces["nonces"]["plaintext_v1"].as_u64().unwrap();
        for nonce in next..next + 5 {
            assert!(Verdict::of(node, &envelope(&wallet.plain(nonce, life))).is_accepted());
        }
        let target = known.len() as u64 + 3 + life * 7 % 5;
        let tip = until("some blocks more", || node.height().filter(|height| *height >= target));
        known = node.digests(tip);
        // Anywhere between two blocks and in the middle of writing one.
        std::thread::sleep(Duration::from_millis(life * 13 % 61));
        node.kill();
    }
}

/// Of two chains that must agree as far as both go, the longer one.
fn longer_of(one: Vec<Digest>, two: Vec<Digest>) -> Vec<Digest> {
    let common = one.len().min(two.len());
    assert_eq!(one[..common], two[..common], "two nodes know different blocks");
    if one.len() > two.len() { one } else { two }
}

/// All nodes store the same blocks, and no log, of any life, ever told of another one.
fn one_chain(cluster: &Cluster, tip: u64) {
    let first = cluster.nodes[0].digests(tip);
    cluster.nodes[1..].iter().for_each(|node| assert_eq!(node.digests(tip), first));
    let mut decided: BTreeMap<u64, String> = BTreeMap::new();
    for line in cluster.nodes.iter().flat_map(|node| node.log()) {
        if line["msg"] == "block_decided" {
            let (height, digest) =
                (line["height"].as_u64().unwrap(), line["digest"].as_str().unwrap().to_owned());
            let before = decided.entry(height).or_insert_with(|| digest.clone());
            assert_eq!(*before, digest, "height {height} was decided twice");
        }
    }
}
