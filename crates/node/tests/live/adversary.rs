//! A traitor with an operator's real key plays every attack there is against four honest processes.

use crate::harness::Ports;
use aequa_adversary::trial::Trial;
use std::time::Duration;

#[test]
fn a_traitor_leaves_nothing_but_evidence_against_itself() {
    let dir = tempfile::tempdir().unwrap();
    let ports = Ports::take();
    let trial = Trial {
        node: env!("CARGO_BIN_EXE_dvt-node").into(),
        dir: dir.path().join("c"),
        operators: 5,
        base_port: ports.api(),
        base_p2p_port: ports.transport(),
        base_test_port: ports.api() + 30,
        time: Duration::from_secs(20),
        attacks: vec!["all".into()],
        rate: 100,
        seed: 1,
        tps: 10,
        block_interval_ms: 200,
        round_timeout_ms: 500,
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut story = Vec::new();
    let report = runtime.block_on(trial.hold(|line| story.push(line))).unwrap();
    assert!(report.holds(), "{}\n{}", story.join("\n"), report.lines().join("\n"));
}
