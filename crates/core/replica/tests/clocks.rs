//! Clocks that are set while the cluster runs: blocks go on whatever they say.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod common;

use aequa_types::ConsensusParams;
use common::cluster::Cluster;

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 86_400_000;

fn cluster() -> Cluster {
    Cluster::new(
        4,
        ConsensusParams { round_timeout_ms: 300, block_interval_ms: 100, ..ConsensusParams::default() },
    )
}

fn lowest(cluster: &Cluster) -> u64 {
    cluster.nodes.iter().map(|node| node.height()).min().unwrap()
}

/// Lets a minute pass, in which at least `blocks` must be decided by everybody.
#[track_caller]
fn goes_on(cluster: &mut Cluster, blocks: u64) {
    let (before, deadline_ms) = (lowest(cluster), cluster.now_ms + MINUTE_MS as u64);
    let reached = cluster.run_until(|cluster| lowest(cluster) >= before + blocks, deadline_ms);
    assert!(reached, "from {before} to {} in a minute", lowest(cluster));
}

#[test]
fn a_chain_whose_clocks_were_all_ahead_goes_on_when_they_are_put_right() {
    for ahead_ms in [MINUTE_MS, DAY_MS] {
        let mut cluster = cluster();
        cluster.nodes.iter_mut().for_each(|node| node.clock_ahead_ms = ahead_ms);
        goes_on(&mut cluster, 10);
        cluster.nodes.iter_mut().for_each(|node| node.clock_ahead_ms = 0);
        let faults = |cluster: &Cluster| cluster.nodes.iter().map(|node| node.faults()).sum::<usize>();
        let before = faults(&cluster);
        goes_on(&mut cluster, 50);
        assert_eq!(faults(&cluster), before, "not even a round is lost");
    }
}

#[test]
fn clocks_of_any_number_of_operators_may_be_set_either_way() {
    for set in 1..=4 {
        for step_ms in [1_000, -1_000, 2_500, -2_500, MINUTE_MS, -MINUTE_MS, DAY_MS, -DAY_MS] {
            let mut cluster = cluster();
            goes_on(&mut cluster, 3);
            cluster.nodes.iter_mut().take(set).for_each(|node| node.clock_ahead_ms = step_ms);
            goes_on(&mut cluster, 12);
            cluster.nodes.iter_mut().for_each(|node| node.clock_ahead_ms = 0);
            goes_on(&mut cluster, 12);
        }
    }
}
