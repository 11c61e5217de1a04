//! Recorded heights are run again by the program that a production operator has.

use crate::harness::{Cluster, Node, Shape, output, until};
use aequa_storage::{Wal, WalOptions};
use aequa_types::{Claim, ClusterId, Digest, Height, InstanceId, OperatorIndex, Record};
use serde_json::{Value, json};
use std::process::Output;

fn recording() -> Shape {
    let flags = vec!["--record".into()];
    Shape { round_timeout_ms: 500, flags, ..Shape::default() }
}

fn replay(node: &Node, further: &[&str]) -> Output {
    let dir = node.dir.to_string_lossy().into_owned();
    output(&[&["replay", "--data-dir", &dir], further].concat())
}

fn said(ran: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr))
}

/// Replays a height that must be reproduced; what was printed.
#[track_caller]
fn reproduced(node: &Node, height: u64) -> String {
    let ran = replay(node, &["--height", &height.to_string()]);
    assert_eq!(ran.status.code(), Some(0), "{} height {height}:\n{}", node.dir.display(), said(&ran));
    said(&ran)
}

fn as_json(node: &Node, further: &[&str]) -> Value {
    let ran = replay(node, &[further, &["--json"]].concat());
    assert_eq!(ran.status.code(), Some(0), "{}", said(&ran));
    serde_json::from_slice(&ran.stdout).unwrap()
}

#[test]
fn heights_around_a_kill_are_reproduced_at_every_node_also_while_it_runs() {
    let mut cluster = Cluster::start(recording());
    cluster.until_all_at(5);
    cluster.nodes[2].kill();
    let dead_at = cluster.tip();
    until("blocks without node 2", || (cluster.tip() >= dead_at + 6).then_some(()));
    reproduced(&cluster.nodes[2], 5);
    cluster.nodes[2].start();
    let back_at = cluster.tip();
    cluster.until_all_at(back_at + 3);
    reproduced(&cluster.nodes[0], dead_at);
    for node in &mut cluster.nodes {
        assert!(node.stop().status.success());
    }
    for (place, node) in cluster.nodes.iter().enumerate() {
        for height in (dead_at - 2..=dead_at + 2).chain(back_at - 1..=back_at + 3) {
            // Of its last moment a node that is killed may have recorded nothing. What is decided without it, it fetched:
            // that is recorded as well.
            if place == 2 && (dead_at - 2..=dead_at + 1).contains(&height) {
                let ran = replay(node, &["--height", &height.to_string()]);
                assert!(matches!(ran.status.code(), Some(0 | 3)), "height {height}: {}", said(&ran));
                continue;
            }
            let told = reproduced(node, height);
            assert!(told.contains("decided 0x"), "{told}");
        }
    }
    let told = reproduced(&cluster.nodes[0], 3);
    for part in
        ["PREPREPARE round ", "quorum of PREPAREs", "COMMITs of", "sealed by the group", "own statements"]
    {
        assert!(told.contains(part), "no {part:?} in\n{told}");
    }
    let block = as_json(&cluster.nodes[1], &["--height", "3"]);
    assert_eq!((&block["result"], &block["operator"]), (&json!("reproduced"), &json!(1)));
    assert_eq!(block["decided"]["signers"].as_array().map(Vec::len), Some(3), "{block}");
    assert!(block["timeline"].as_array().is_some_and(|lines| lines.len() > 8), "{block}");
}

#[test]
fn a_duty_is_replayed_by_its_type_and_slot() {
    let cluster = Cluster::start(recording());
    cluster.until_all_at(2);
    let body = json!({"type": "sync", "height": 9, "round": 0, "payload": {"slot": 9}}).to_string();
    cluster.nodes.iter().for_each(|node| assert_eq!(node.post("/v1/duty", body.as_bytes()).status, 202));
    for node in &cluster.nodes {
        until("the duty is signed", || {
            Some(node.get("/v1/duty?type=sync&height=9").json()).filter(|view| view["status"] == "signed")
        });
        let duty = as_json(node, &["--duty", "sync", "--height", "9"]);
        assert_eq!((&duty["domain"], &duty["result"]), (&json!("sync"), &json!("reproduced")), "{duty}");
        let other = replay(node, &["--duty", "attester", "--height", "9"]);
        assert_eq!(other.status.code(), Some(3), "{}", said(&other));
    }
}

#[test]
fn what_was_never_recorded_or_was_dropped_is_exit_3_and_says_how_to_record() {
    let mut cluster = Cluster::make(Shape { nodes: 1, block_interval_ms: 20, ..Shape::default() });
    let node = &mut cluster.nodes[0];
    node.start();
    until("three blocks", || node.height().filter(|height| *height >= 3));
    assert!(node.stop().status.success());
    assert!(!node.dir.join("journal").exists(), "nothing is recorded unasked");
    let ran = replay(node, &["--height", "2"]);
    assert_eq!(ran.status.code(), Some(3));
    assert!(said(&ran).contains("--record"), "{}", said(&ran));

    let flags = ["--record", "--record-max-mib", "1"].map(String::from).to_vec();
    let mut node = Node::new(node.dir.clone(), node.api, node.monitoring, flags);
    node.start();
    let first = until("a block that is recorded", || {
        let ran = replay(&node, &["--height", "2"]);
        let held = said(&ran).split_once("which holds ")?.1.split(' ').next()?.parse::<u64>().ok();
        assert_eq!(ran.status.code(), Some(3), "decided before: {}", said(&ran));
        held
    });
    until("it is decided", || node.height().filter(|height| *height > first));
    reproduced(&node, first);
    // Large values fill it; a recording can be run again from its beginning only.
    for slot in 1..60 {
        let payload = "x".repeat(60_000);
        let body = json!({"type": "sync", "height": slot, "round": 0, "payload": payload}).to_string();
        assert_eq!(node.post("/v1/duty", body.as_bytes()).status, 202);
        until("the duty is signed", || {
            let view = node.get(&format!("/v1/duty?type=sync&height={slot}")).json();
            (view["status"] == "signed").then_some(())
        });
    }
    reproduced(&node, first);
    let ran = replay(&node, &["--duty", "sync", "--height", "59"]);
    assert_eq!(ran.status.code(), Some(3), "{}", said(&ran));
    assert!(said(&ran).contains("--record-max-mib"), "{}", said(&ran));
    let files = std::fs::read_dir(node.dir.join("journal")).unwrap();
    let bytes: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes <= 1 << 20, "{bytes} bytes");
    // The next start begins another. What the vote log has of values that are decided is not in it.
    assert!(node.stop().status.success());
    let flags = ["--record", "--record-max-mib", "2"].map(String::from).to_vec();
    let mut node = Node::new(node.dir.clone(), node.api, node.monitoring, flags);
    node.start();
    let tip = node.height().unwrap();
    until("two blocks more", || node.height().filter(|height| *height > tip + 2));
    reproduced(&node, tip + 2);
    reproduced(&node, first);
}

#[test]
fn a_lock_of_another_cluster_is_exit_3_and_an_empty_height_exit_2() {
    let mut cluster = Cluster::make(Shape { nodes: 1, flags: vec!["--record".into()], ..Shape::default() });
    let node = &mut cluster.nodes[0];
    node.start();
    until("three blocks", || node.height().filter(|height| *height >= 3));
    assert!(node.stop().status.success());
    reproduced(node, 2);
    let other = Cluster::make(Shape { nodes: 1, ..Shape::default() });
    let ran = replay(node, &["--height", "2", "--cluster-lock", &other.lock().to_string_lossy()]);
    assert_eq!(ran.status.code(), Some(3), "{}", said(&ran));
    assert!(said(&ran).contains("cluster"), "{}", said(&ran));
    let ran = replay(node, &["--height", ""]);
    assert_eq!(ran.status.code(), Some(2), "{}", said(&ran));
}

/// A vote log with these records and no others, where the node had its own.
fn rewrite_log(node: &Node, id: ClusterId, records: &[Record]) {
    let dir = node.dir.join("wal");
    std::fs::remove_dir_all(&dir).unwrap();
    let (mut wal, _) = Wal::open(&dir, id, OperatorIndex(0), WalOptions::default()).unwrap();
    records.iter().for_each(|record| wal.append(record).unwrap());
    wal.sync().unwrap();
}

#[test]
fn a_vote_log_that_says_something_else_or_cannot_be_read_is_told() {
    let mut cluster = Cluster::make(Shape { nodes: 1, flags: vec!["--record".into()], ..Shape::default() });
    cluster.nodes[0].start();
    until("eight blocks", || cluster.nodes[0].height().filter(|height| *height >= 8));
    assert!(cluster.nodes[0].stop().status.success());
    let (node, lock, height) = (&cluster.nodes[0], cluster.lock(), 5);
    assert!(reproduced(node, height).contains("of them are in the vote log"));
    let id = aequa_crypto::lock::load(&std::fs::read_to_string(&lock).unwrap()).unwrap().cluster_id();
    let mut whole = aequa_storage::wal::read(&node.dir.join("wal"), id, OperatorIndex(0)).unwrap();
    let instance = InstanceId::Block(Height(height));

    let newer = whole.iter().filter(|record| record.instance() > instance).cloned().collect::<Vec<_>>();
    rewrite_log(node, id, &newer);
    assert!(reproduced(node, height).contains("no longer holds them"), "pruned");

    for record in &mut whole {
        if let Record::Prepare(vote) = record
            && vote.instance == instance
        {
            vote.statement.claim = Claim::Prepare(Digest::repeat_byte(1));
        }
    }
    rewrite_log(node, id, &whole);
    let ran = replay(node, &["--height", &height.to_string()]);
    assert_eq!(ran.status.code(), Some(1), "{}", said(&ran));
    assert!(said(&ran).contains("differs from the vote log: the Prepare of round 0"), "{}", said(&ran));

    std::fs::remove_dir_all(node.dir.join("wal")).unwrap();
    let ran = replay(node, &["--height", &height.to_string()]);
    assert_eq!(ran.status.code(), Some(3), "{}", said(&ran));
}
