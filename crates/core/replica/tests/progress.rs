//! What a cluster does over many heights: keep its leader, its pace and its peace.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod common;

use aequa_replica::{Input, Notice, Recovery, SessionEvent, SigningHistory};
use aequa_types::{ConsensusParams, DutyKind, Height, InstanceId, OperatorIndex, Round, Slot};
use common::cluster::Cluster;
use common::{leader, pick, round_change, transaction};
use std::collections::BTreeSet;

/// One block per second.
fn params() -> ConsensusParams {
    ConsensusParams { round_timeout_ms: 300, ..ConsensusParams::default() }
}

#[test]
fn a_minute_of_progress_has_no_view_change_and_no_timeout() {
    let mut cluster = Cluster::new(4, params());
    cluster.run_for(60_000);
    for node in &cluster.nodes {
        assert!((58..=61).contains(&node.height()), "{} blocks in a minute", node.height());
        assert_eq!(node.faults(), 0);
    }
}

#[test]
fn an_idle_minute_without_empty_blocks_has_no_timeout_and_work_begins_at_once() {
    let mut cluster = Cluster::new(4, ConsensusParams { empty_blocks: false, ..params() });
    cluster.run_for(60_000);
    assert!(cluster.nodes.iter().all(|node| node.height() == 0 && node.faults() == 0));
    for nonce in 0..3 {
        cluster.submit(transaction(1, nonce));
        cluster.run_for(60_000);
        for node in &cluster.nodes {
            assert_eq!(node.height(), nonce + 1, "one block for one transaction, and silence again");
            assert_eq!(node.faults(), 0);
        }
    }
}

#[test]
fn work_without_a_decision_for_several_rounds_is_a_stall_and_silence_is_none() {
    let stalled = |cluster: &Cluster| cluster.nodes.iter().filter(|node| node.replica.has_stalled()).count();
    let mut idle = Cluster::new(4, ConsensusParams { empty_blocks: false, ..params() });
    idle.run_for(60_000);
    assert_eq!(stalled(&idle), 0, "there is nothing to agree on");
    let mut cluster = Cluster::new(4, params());
    cluster.cut.insert(3);
    for _ in 0..20 {
        cluster.run_for(1_000);
        assert_eq!(stalled(&cluster), usize::from(cluster.nodes[3].replica.has_stalled()), "f may be gone");
    }
    cluster.cut.insert(2);
    cluster.run_for(10_000);
    assert_eq!(stalled(&cluster), 4);
}

#[test]
fn an_operator_that_abstains_says_up_to_where() {
    let watermarks = vec![InstanceId::Block(Height(10)), InstanceId::duty(DutyKind::Sync, Slot(99))];
    let replica = |watermarks| common::replica(0, Recovery { watermarks, ..Recovery::default() });
    assert_eq!(replica(watermarks).abstains_up_to(), Some(Height(10)));
    assert_eq!(replica(vec![InstanceId::duty(DutyKind::Sync, Slot(99))]).abstains_up_to(), None);
    let mut cluster = Cluster::new(4, params());
    cluster.run_for(10_000);
    assert!(cluster.nodes.iter().all(|node| node.replica.abstains_up_to().is_none()));
}

#[test]
fn every_height_is_executed_stored_and_told_once_though_all_operators_commit() {
    let mut cluster = Cluster::new(4, params());
    cluster.run_for(10_000);
    for node in &cluster.nodes {
        let heights: Vec<u64> = node.committed.iter().map(|(block, _)| block.header().height.0).collect();
        assert_eq!(heights, (1..=node.height()).collect::<Vec<_>>());
        let decided = pick!(node.notices, Notice::BlockDecided { block, .. } => block);
        let told: Vec<u64> = decided.map(|block| block.header().height.0).collect();
        assert_eq!(told, heights);
    }
}

#[test]
fn cutting_one_operator_off_changes_no_leader_of_the_others() {
    let mut cluster = Cluster::new(4, params());
    cluster.cut.insert(3);
    cluster.run_for(30_000);
    assert!(cluster.nodes[0].height() > 20);
    for node in &cluster.nodes[..3] {
        for (block, certificate) in &node.committed {
            let first = leader(certificate.instance, 0);
            let round = if first == OperatorIndex(3) { Round(1) } else { Round(0) };
            assert_eq!(certificate.round, round, "only where it should have led, another did");
            assert_eq!(block.header().proposer, leader(certificate.instance, round.0));
        }
    }
}

#[test]
fn a_bad_seal_in_every_height_costs_the_chain_no_pace() {
    let heights = |spoilers: &[u8]| {
        let mut cluster = Cluster::new(4, ConsensusParams { block_interval_ms: 50, ..params() });
        cluster.spoilers = spoilers.iter().map(|operator| OperatorIndex(*operator)).collect();
        cluster.run_for(20_000);
        for node in &cluster.nodes {
            let (height, sealed) = (node.height(), node.sealed.len() as u64);
            assert!(sealed + 3 > height, "{sealed} of {height} blocks sealed in spite of it");
            let blamed: BTreeSet<OperatorIndex> =
                pick!(node.notices, Notice::ShareBlamed { operator, .. } => *operator).collect();
            assert_eq!(blamed, cluster.spoilers);
        }
        cluster.nodes[0].height()
    };
    assert_eq!(heights(&[1]), heights(&[]));
}

/// Of heights that have ended how many were refused a place, and how many are sealed, at each node.
fn limited(sessions_max: usize, sealing_ms: u64, spoilers: &[u8]) -> Vec<(u64, usize, u64)> {
    let params = ConsensusParams { block_interval_ms: 0, ..params() };
    let mut cluster = Cluster::limited(4, params, sessions_max);
    cluster.sealing_ms = sealing_ms;
    cluster.spoilers = spoilers.iter().map(|operator| OperatorIndex(*operator)).collect();
    cluster.run_for(20_000);
    let nodes = cluster.nodes.iter().map(|node| {
        assert!(node.replica.open_sessions() <= sessions_max);
        assert_eq!(node.faults(), 0, "nobody waited in vain");
        let refused = pick!(node.notices, Notice::Session(_, SessionEvent::Refused) => ()).count();
        (node.height(), refused, node.sealed.len() as u64)
    });
    nodes.collect()
}

#[test]
fn with_one_signing_session_at_a_time_seals_wait_their_turn_and_none_is_lost() {
    for spoilers in [&[][..], &[1]] {
        for (height, refused, sealed) in limited(1, 40, spoilers) {
            assert!(refused > 100, "{refused} of {height}: blocks are faster than seals");
            assert!(height > 300, "{height}: the chain goes as fast as its seals");
            assert!(sealed + 34 > height, "{sealed} of {height}: 32 may be pending");
        }
    }
}

#[test]
fn where_sealing_keeps_up_a_limit_is_not_felt() {
    for (height, refused, sealed) in limited(2, 5, &[]) {
        assert_eq!(refused, 0, "of {height}");
        assert!(sealed + 3 > height, "{sealed} of {height}");
    }
}

#[test]
fn a_chain_whose_every_seal_fails_goes_on_with_its_commits() {
    let mut cluster = Cluster::new(4, ConsensusParams { block_interval_ms: 50, ..params() });
    cluster.spoilers = (0..4).map(OperatorIndex).collect();
    cluster.run_for(20_000);
    for node in &cluster.nodes {
        assert!(node.height() > 100, "certificates of commits are enough: {}", node.height());
        assert!(node.sealed.is_empty());
    }
}

/// Empty directories, and members that have restarted too: were a statement of theirs shown to them, they would
/// stop, and start again as in the test below.
#[test]
fn more_than_f_operators_that_lost_everything_sync_enter_the_live_height_and_start_its_timer() {
    let mut cluster = Cluster::new(4, params());
    assert!(cluster.run_until(|cluster| cluster.nodes.iter().all(|node| node.height() == 10), 20_000));
    // Between two heights: nobody has signed anything at the live one.
    cluster.run_for(300);
    cluster.forgetful = true;
    let live = InstanceId::Block(Height(11));
    for id in [2, 3] {
        cluster.restart_with_nothing(id, SigningHistory::Unverified);
        assert_eq!(cluster.nodes[id].height(), 0);
    }
    for id in [2, 3] {
        let entered = |cluster: &Cluster| {
            let node = &cluster.nodes[id];
            node.height() >= 10 && node.timers_started.contains(&(live, Round(0)))
        };
        let deadline_ms = cluster.now_ms + 5_000;
        assert!(cluster.run_until(entered, deadline_ms), "operator {id} at {}", cluster.nodes[id].height());
    }
    let deadline_ms = cluster.now_ms + 10_000;
    let goes_on = |cluster: &Cluster| cluster.nodes.iter().all(|node| node.height() >= 15);
    assert!(cluster.run_until(goes_on, deadline_ms), "the cluster decides with them again");
}

/// Nobody can prove what they signed: with them, a second decision of a height could come to be (ADR 7).
#[test]
fn more_than_f_operators_that_know_they_lost_their_memory_follow_the_chain_and_abstain() {
    let mut cluster = Cluster::new(4, params());
    assert!(cluster.run_until(|cluster| cluster.nodes.iter().all(|node| node.height() == 10), 20_000));
    // They are down at the same time: neither answers the other from before.
    cluster.cut.insert(3);
    cluster.restart_with_nothing(2, SigningHistory::Lost);
    cluster.cut.remove(&3);
    cluster.restart_with_nothing(3, SigningHistory::Lost);
    cluster.run_for(10_000);
    for id in [2, 3] {
        // Either knows too little to answer the other.
        assert!(cluster.nodes[id].replica.is_rejoining());
        assert_eq!(cluster.nodes[id].height(), cluster.nodes[0].height());
    }
    assert!(cluster.nodes[0].height() <= 11, "two of four decide nothing");
}

/// A cluster of four of which these may not lead: when it had its second block, and in which round.
fn second_block(unfit: impl IntoIterator<Item = usize>) -> (u64, Round) {
    let mut cluster = Cluster::new(4, params());
    unfit.into_iter().for_each(|id| cluster.input(id, Input::MayLead(false)));
    assert!(cluster.run_until(|cluster| cluster.nodes.iter().all(|node| node.height() >= 2), 60_000));
    (cluster.now_ms, cluster.nodes[0].committed[1].1.round)
}

#[test]
fn who_may_not_lead_is_skipped_and_no_timer_is_waited_for() {
    let leader = leader(InstanceId::Block(Height(2)), 0).as_usize();
    let (in_turn_ms, round) = second_block([]);
    assert_eq!(round, Round(0));
    let (skipped_ms, round) = second_block([leader]);
    assert_eq!(round, Round(1));
    assert!(skipped_ms < in_turn_ms + 50, "{skipped_ms} ms, {in_turn_ms} in turn");
}

#[test]
fn where_nobody_may_lead_somebody_does_when_clocks_do_not_matter_any_more() {
    let (_, round) = second_block(0..4);
    assert_eq!(round, Round(2));
}

#[test]
fn a_lone_leader_that_gives_up_does_not_wake_an_idle_cluster() {
    let mut cluster = Cluster::new(4, ConsensusParams { empty_blocks: false, ..params() });
    cluster.run_for(10_000);
    let id = InstanceId::Block(Height(1));
    let leader = leader(id, 0);
    for to in (0..4).filter(|to| *to != leader.as_usize()) {
        cluster.input(to, Input::Message { from: leader, message: round_change(leader.0, id, 1) });
    }
    cluster.run_for(60_000);
    assert!(cluster.nodes.iter().all(|node| node.height() == 0 && node.faults() == 0));
    // With work it counts: nobody waits for that leader.
    cluster.submit(transaction(1, 0));
    assert!(cluster.run_until(|cluster| cluster.nodes.iter().all(|node| node.height() == 1), 120_000));
}

#[test]
fn who_may_not_lead_leaves_an_idle_cluster_in_peace() {
    let mut cluster = Cluster::new(4, ConsensusParams { empty_blocks: false, ..params() });
    (0..4).for_each(|id| cluster.input(id, Input::MayLead(false)));
    cluster.run_for(60_000);
    assert!(cluster.nodes.iter().all(|node| node.height() == 0 && node.faults() == 0));
}
