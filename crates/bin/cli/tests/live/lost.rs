//! Data directories that lost what was signed, or never knew it: the node asks the members, abstains,
//! and votes again.

use crate::harness::{Cluster, Promises, Shape, copy_dir, throughout, until};
use std::time::Duration;

/// Longer than the pause between two rounds of questions.
const SEVERAL_QUESTIONS: Duration = Duration::from_secs(5);
const VICTIM: usize = 3;

fn cluster() -> Cluster {
    Cluster::start(Shape { block_interval_ms: 500, ..Shape::default() })
}

/// Log lines of the inquiry with this result, in all lives of the victim.
fn inquiry_lines(cluster: &Cluster, victim: usize, result: &str) -> Vec<serde_json::Value> {
    let lines = cluster.nodes[victim].log().into_iter();
    lines.filter(|line| line["msg"] == "signing_inquiry" && line["result"] == result).collect()
}

/// Waits until the victim has heard enough, is ready, and signs blocks again.
#[track_caller]
fn until_it_votes(cluster: &Cluster, victim: usize, inquiries: usize) {
    let node = &cluster.nodes[victim];
    until("the members have answered", || {
        let done =
            inquiry_lines(cluster, victim, "done").into_iter().filter(|line| line["domain"] == "block");
        (done.count() == inquiries).then_some(())
    });
    until("it signs blocks again", || {
        node.metric("block_sign_total{result=\"ok\"}").filter(|signed| *signed > 0.0)
    });
    until("it is ready", || (node.try_get("/readyz")?.status == 200).then_some(()));
    assert!(!node.dir.join("suspect").exists());
}

#[test]
fn a_node_that_lost_what_it_signed_asks_the_members_abstains_and_votes_again() {
    let mut cluster = cluster();
    let mut promises = Promises::default();
    for (n, lost) in [&["wal"][..], &["signing"], &["wal", "signing", "chain"]].into_iter().enumerate() {
        let tip = cluster.tip();
        cluster.until_all_at(tip + 3);
        cluster.nodes[VICTIM].kill();
        promises.read_all(&cluster);
        for part in lost {
            std::fs::remove_dir_all(cluster.nodes[VICTIM].dir.join(part)).unwrap();
        }
        cluster.nodes[VICTIM].start();
        until_it_votes(&cluster, VICTIM, n + 1);
        let done = inquiry_lines(&cluster, VICTIM, "done").pop().unwrap();
        assert!(done["height"].as_u64().unwrap() >= tip + 3, "{done}");
        promises.read_all(&cluster);
    }
    assert!(promises.len() > 20);
}

#[test]
fn with_too_few_answers_it_waits_and_says_so_and_signs_nothing() {
    let mut cluster = cluster();
    cluster.until_all_at(3);
    cluster.nodes[VICTIM].kill();
    cluster.nodes[1].kill();
    std::fs::remove_dir_all(cluster.nodes[VICTIM].dir.join("wal")).unwrap();
    cluster.nodes[VICTIM].start();
    until("two have answered", || {
        inquiry_lines(&cluster, VICTIM, "wait").iter().any(|line| line["answers"] == 2).then_some(())
    });
    throughout(SEVERAL_QUESTIONS, "it went on with two answers of three", || {
        let readiness = cluster.nodes[VICTIM].get("/readyz");
        readiness.status == 503 && readiness.text().contains("replaying")
    });
    assert_eq!(cluster.nodes[VICTIM].metric("qbft_wal_appends_total").unwrap_or_default(), 0.0);
    // A restart does not make it forget that it has to ask.
    cluster.nodes[VICTIM].kill();
    cluster.nodes[VICTIM].start();
    cluster.nodes[1].start();
    until_it_votes(&cluster, VICTIM, 1);
}

#[test]
fn a_directory_restored_from_an_earlier_copy_stops_asks_and_votes_again() {
    let mut cluster = cluster();
    let mut promises = Promises::default();
    cluster.until_all_at(3);
    cluster.nodes[VICTIM].kill();
    let (dir, backup) = (cluster.nodes[VICTIM].dir.clone(), cluster.scratch().join("backup"));
    copy_dir(&dir, &backup);
    cluster.nodes[VICTIM].start();
    let tip = cluster.tip();
    cluster.until_all_at(tip + 5);
    cluster.nodes[VICTIM].kill();
    promises.read_all(&cluster);
    std::fs::remove_dir_all(&dir).unwrap();
    copy_dir(&backup, &dir);

    cluster.nodes[VICTIM].spawn();
    let ended = cluster.nodes[VICTIM].until_ended();
    assert_eq!(ended.code(), Some(4), "a member shows it what it signed since");
    assert!(dir.join("suspect").exists());
    promises.read_all(&cluster);
    cluster.nodes[VICTIM].start();
    until_it_votes(&cluster, VICTIM, 1);
    promises.read_all(&cluster);
}

/// The leader of the first height would propose it again at once, with another time in it.
#[test]
fn a_directory_lost_with_its_identity_stops_before_it_signs_asks_and_votes_again() {
    const LEADER: usize = 1;
    let mut cluster = cluster();
    let mut promises = Promises::default();
    cluster.until_all_at(3);
    cluster.nodes[LEADER].kill();
    promises.read_all(&cluster);
    let dir = cluster.nodes[LEADER].dir.clone();
    for folder in ["wal", "signing", "chain"] {
        std::fs::remove_dir_all(dir.join(folder)).unwrap();
    }
    for file in ["identity.dat", "laststate.dat", "laststate.dat.bak"] {
        std::fs::remove_file(dir.join(file)).unwrap();
    }
    cluster.nodes[LEADER].spawn();
    assert_eq!(cluster.nodes[LEADER].until_ended().code(), Some(4), "a member shows it what it signed");
    promises.read_all(&cluster);
    cluster.nodes[LEADER].start();
    until_it_votes(&cluster, LEADER, 1);
    promises.read_all(&cluster);
}
