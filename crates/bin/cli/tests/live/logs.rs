//! Stopping, what a node logs, and what it never says.

use crate::harness::{Cluster, Node, Shape, Verdict, Wallet, envelope, until};
use aequa_crypto::keystore::Keystore;
use aequa_telemetry::log::check;
use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;

/// Longest time from SIGTERM to the end (contract: cli, section 6).
const STOP_WITHIN: Duration = Duration::from_secs(5);

#[test]
fn a_stop_is_quick_and_clean_and_every_line_is_a_declared_event() {
    let flags = ["--log.level", "debug"].map(String::from).to_vec();
    let mut cluster = Cluster::start(Shape { flags, ..Shape::default() });
    cluster.until_all_at(3);
    let answers = talk(&cluster);
    let tip = cluster.tip();
    cluster.until_all_at(tip + 2);
    stops_in_time(&mut cluster.nodes[1]);
    cluster.nodes[1].start();
    cluster.until_all_at(tip + 5);
    for node in &mut cluster.nodes {
        stops_in_time(node);
    }
    let mut seen = BTreeSet::new();
    for node in &cluster.nodes {
        seen.extend(lines_are_events(node));
        let errors = std::fs::read_to_string(node.dir.with_extension("err")).unwrap();
        assert_eq!(errors, "", "nothing is written beside the log");
    }
    for event in [
        "config",
        "warning",
        "listen",
        "service_op",
        "readiness",
        "p2p_start",
        "p2p_addr",
        "p2p_peer",
        "p2p_broadcast",
        "consensus_state",
        "consensus_builder_policy",
        "consensus_builder",
        "consensus_recv",
        "consensus_broadcast",
        "consensus_block",
        "consensus_block_value",
        "block_decided",
        "qbft_wal",
        "qbft_verify",
        "qbft_state",
        "api_request",
        "duty_result",
    ] {
        assert!(seen.contains(event), "no node logged {event}; there were {seen:?}");
    }
    nothing_secret(&cluster, &answers);
}

#[test]
fn at_level_info_a_block_costs_at_most_five_lines() {
    let mut cluster = Cluster::start(Shape::default());
    cluster.until_all_at(2);
    let lines = |cluster: &Cluster| cluster.nodes[0].log().len();
    let (from, before) = (cluster.tip(), lines(&cluster));
    // Without a request: those have lines of their own.
    until("blocks in the log", || {
        let decided =
            cluster.nodes[0].log().iter().filter(|line| line["msg"] == "block_decided").count() as u64;
        (decided >= from + 20).then_some(())
    });
    let after = lines(&cluster);
    assert!(after - before <= 20 * 5 + 20, "{} lines for 20 blocks", after - before);
    stops_in_time(&mut cluster.nodes[0]);
}

#[test]
fn a_second_signal_ends_a_node_at_once() {
    let mut cluster = Cluster::start(Shape { nodes: 1, ..Shape::default() });
    cluster.nodes[0].signal(Signal::INT);
    let ended = cluster.nodes[0].stop();
    // The first may have been enough already.
    assert!(matches!(ended.status.code(), Some(0 | 130)), "{ended:?}");
    assert!(ended.took < STOP_WITHIN, "{ended:?}");
}

fn stops_in_time(node: &mut Node) {
    let ended = node.stop();
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert!(ended.took < STOP_WITHIN, "{ended:?}");
}

/// Uses everything once; all answers.
fn talk(cluster: &Cluster) -> Vec<String> {
    let node = &cluster.nodes[0];
    let wallet = Wallet::new();
    let transaction = wallet.plain(0, 9);
    assert!(Verdict::of(node, &envelope(&transaction)).is_accepted());
    let duty = br#"{"type":"proposer","height":3,"payload":{"a":1}}"#;
    cluster.nodes.iter().for_each(|node| assert_eq!(node.post("/v1/duty", duty).status, 202));
    until("the duty signed", || {
        let view = node.get("/v1/duty?type=proposer&height=3").json();
        (view["status"] == "signed").then_some(())
    });
    let mut answers = vec![node.metrics()];
    let hash = transaction.body.hash();
    for path in [
        "/health",
        "/livez",
        "/readyz",
        "/status",
        "/v1/cluster",
        "/v1/blocks/1",
        "/v1/blocks/latest",
        "/v1/blocks?from=1",
        "/v1/blocks/1/certificate",
        "/v1/state-root?height=1",
        "/v1/mempool",
        "/v1/duty",
        "/openapi.json",
        "/no/route",
        "/v1/evidence",
        "/v1/checkpoints/latest",
        "/v1/blocks/abc",
        "/v1/tx/0x",
        &format!("/v1/tx/{hash}?proof=1"),
        &format!("/v1/accounts/{}", wallet.address()),
    ] {
        let answer = node.request("GET", path, "Authorization: Bearer sesame-open\r\n", b"").unwrap();
        answers.push(format!("{}\n{}", answer.head, answer.text()));
    }
    answers
}

/// Every line is a JSON object that is a declared event; the names there were.
fn lines_are_events(node: &Node) -> BTreeSet<String> {
    let text = std::fs::read_to_string(node.log_path()).unwrap();
    assert!(text.ends_with('\n'), "the last line is whole");
    let names = text.lines().map(|line| {
        let json: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        check(&json).unwrap_or_else(|why| panic!("{why}: {line}"));
        json["msg"].as_str().unwrap().to_owned()
    });
    names.collect()
}

/// No key, share or password of any operator is in any log, on stderr, or in any answer.
fn nothing_secret(cluster: &Cluster, answers: &[String]) {
    let mut secrets = vec!["sesame-open".to_owned()];
    for node in &cluster.nodes {
        for name in ["identity", "keystore-sequencer"] {
            let read =
                |end: &str| std::fs::read_to_string(node.dir.join(format!("keys/{name}.{end}"))).unwrap();
            let password = read("txt").trim().to_owned();
            let secret = Keystore::from_json(&read("json")).unwrap().decrypt(&password).unwrap();
            assert_eq!(secret.len(), 32);
            secrets.extend([hex::encode(&secret[..]), password]);
        }
    }
    let logs = cluster.nodes.iter().map(|node| std::fs::read_to_string(node.log_path()).unwrap());
    for text in logs.chain(answers.iter().cloned()) {
        let text = text.to_ascii_lowercase();
        for secret in &secrets {
            assert!(!text.contains(secret.as_str()), "a secret was told");
        }
    }
}
