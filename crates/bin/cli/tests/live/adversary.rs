//! A traitor with an operator's real key plays every attack there is against four honest processes.

use crate::harness::Ports;
use aequa_adversary::trial::{Report, Trial};
use std::time::Duration;

/// Strangers are there too, with all that is cheap to send and dear to take. Named so that the run with test endpoints holds it again, where the adversary visits them too.
#[test]
fn e2e_a_traitor_leaves_nothing_but_evidence_against_itself() {
    let report = hold(&["all"], Duration::from_secs(20), 1);
    assert_eq!(report.books.visits.is_empty(), cfg!(not(feature = "e2e")), "test endpoints were visited");
}

#[test]
fn a_leader_that_only_withholds_its_blocks_gives_no_evidence() {
    hold(&["withheld-value"], Duration::from_secs(10), 0);
}

/// Holds a trial of these attacks, in which everything that must hold does, with so many strangers of each kind
/// at every node.
fn hold(attacks: &[&str], time: Duration, strangers: u32) -> Report {
    let dir = tempfile::tempdir().unwrap();
    let ports = Ports::take();
    let trial = Trial {
        node: env!("CARGO_BIN_EXE_dvt-node").into(),
        dir: dir.path().join("c"),
        operators: 5,
        base_port: ports.api(),
        base_p2p_port: ports.transport(),
        base_test_port: ports.api() + 30,
        time,
        attacks: attacks.iter().map(|name| (*name).to_owned()).collect(),
        rate: 100,
        seed: 1,
        tps: 10,
        payload_bytes: 1024,
        strangers,
        block_interval_ms: 200,
        round_timeout_ms: 500,
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut story = Vec::new();
    let report = runtime.block_on(trial.hold(|line| story.push(line))).unwrap();
    assert!(report.holds(), "{}\n{}", story.join("\n"), report.lines().join("\n"));
    report
}
