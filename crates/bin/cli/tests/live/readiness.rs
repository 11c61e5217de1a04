//! A cluster that does not get on says so, on every node that knows.

use crate::harness::{Cluster, Node, Shape, throughout, until};
use rustix::process::Signal;
use std::time::Duration;

/// Whether the node gives this as a reason for not being ready.
fn says(node: &Node, reason: &str) -> bool {
    node.try_get("/readyz").is_some_and(|answer| {
        answer.status == 503 && answer.json()["reasons"].as_array().unwrap().iter().any(|told| told == reason)
    })
}

fn until_ready(node: &Node) {
    until("ready", || (node.try_get("/readyz")?.status == 200).then_some(()));
}

/// How often the log has this event with `text` in its line.
fn told(node: &Node, event: &str, text: &str) -> usize {
    node.log().iter().filter(|line| line["msg"] == event && line.to_string().contains(text)).count()
}

#[test]
fn readiness_follows_the_quorum_and_is_told_once_per_change() {
    let mut cluster = Cluster::start(Shape { round_timeout_ms: 500, ..Shape::default() });
    cluster.until_all_at(3);
    until_ready(&cluster.nodes[0]);
    cluster.nodes[2].kill();
    cluster.nodes[3].kill();
    until("node 0 misses a quorum", || says(&cluster.nodes[0], "insufficient_peers").then_some(()));
    cluster.nodes[2].start();
    until("the last line says ready", || {
        let log = cluster.nodes[0].log();
        log.iter()
            .rev()
            .find(|line| line["msg"] == "readiness")
            .filter(|line| line["ready"] == true)
            .map(drop)
    });
    let before = told(&cluster.nodes[0], "readiness", "");
    throughout(Duration::from_secs(2), "readiness was told without a change", || {
        told(&cluster.nodes[0], "readiness", "") == before
    });
    let log = cluster.nodes[0].log();
    let lines = log.iter().filter(|line| line["msg"] == "readiness");
    let mut ready: Vec<bool> = lines.map(|line| line["ready"] == true).collect();
    ready.dedup();
    assert!(ready.windows(3).any(|w| w == [true, false, true]), "{ready:?}");
}

/// A process that hangs keeps its connections: what counts is who answers.
#[test]
fn a_cluster_halted_by_hanging_operators_is_ready_on_no_node() {
    let mut cluster = Cluster::start(Shape { round_timeout_ms: 300, ..Shape::default() });
    cluster.until_all_at(3);
    (0..2).for_each(|node| until_ready(&cluster.nodes[node]));
    (2..4).for_each(|node| cluster.nodes[node].signal(Signal::STOP));
    for node in &cluster.nodes[..2] {
        until("it has no quorum", || says(node, "insufficient_peers").then_some(()));
        until("it makes no progress", || says(node, "no_progress").then_some(()));
        assert_eq!(node.metric("readiness{reason=\"no_progress\"}"), Some(1.0));
        until("the log says what helps", || (told(node, "warning", "several rounds") > 0).then_some(()));
        let status = node.status().unwrap();
        let peers = status["peers"].as_array().unwrap().iter();
        assert_eq!(peers.filter(|peer| peer["connected"] == true).count(), 1, "{status}");
    }
    (2..4).for_each(|node| cluster.nodes[node].signal(Signal::CONT));
    cluster.nodes.iter().for_each(until_ready);
}

#[test]
fn where_too_few_seal_blocks_those_who_would_say_so() {
    let mut cluster = Cluster::make(Shape { block_interval_ms: 50, ..Shape::default() });
    for node in &mut cluster.nodes[2..] {
        node.flags = ["--enable-tss=false", "--enable-tss-sign=false"].map(String::from).to_vec();
    }
    cluster.start_all();
    cluster.until_all_at(20);
    for node in &cluster.nodes[..2] {
        until("a warning", || (told(node, "seals_missing", "group key") > 0).then_some(()));
        assert!(node.metric("blocks_unsealed") >= Some(16.0));
        until_ready(node);
    }
    assert_eq!(told(&cluster.nodes[2], "seals_missing", ""), 0, "it asks for none");
}
