//! What every change must pass: seeded campaigns, determinism, and oracles that can fail.

use aequa_sim::{Campaign, Options, Report, Sabotage, Violation, campaign, run};

fn short() -> Options {
    Options { safety_ms: 6_000, ..Options::default() }
}

fn clean(campaign: &Campaign) {
    if let Some(Report { seed, nodes, violation: Some(violation), .. }) = &campaign.failure {
        panic!(
            "seed {seed}, n = {nodes}: {violation}\n\
             repeat with: cargo run -p aequa-sim -- --seed {seed} --safety-ms 6000 --nodes {nodes} --trace"
        );
    }
}

fn of(nodes: usize, seeds: std::ops::Range<u64>) -> Campaign {
    let campaign = campaign(seeds, &Options { nodes: Some(nodes), ..short() }, |_| {});
    clean(&campaign);
    campaign
}

/// The violation of the first seed that has one.
fn first_violation(sabotage: Sabotage, seeds: std::ops::Range<u64>) -> Option<Violation> {
    let options = Options { nodes: Some(4), sabotage: Some(sabotage), ..short() };
    campaign(seeds, &options, |_| {}).failure.and_then(|report| report.violation)
}

#[test]
fn four_operators_survive_every_mix_of_faults_and_every_situation_is_reached() {
    let campaign = of(4, 0..180);
    assert_eq!(campaign.missing(), Vec::<&str>::new());
}

#[test]
fn seven_operators_survive_every_mix_of_faults() {
    of(7, 1000..1060);
}

#[test]
fn ten_operators_survive_every_mix_of_faults() {
    of(10, 2000..2008);
}

#[test]
fn a_lone_operator_survives_its_own_crashes() {
    of(1, 3000..3060);
}

#[test]
fn b5_a_hundred_honest_schedules_give_no_evidence_and_no_fork() {
    let honest = Options { honest: true, safety_ms: 3_000, ..Options::default() };
    let campaign = campaign(6000..6100, &honest, |_| {});
    clean(&campaign);
    for never in ["contradiction of a traitor noticed", "evidence committed"] {
        assert_eq!(campaign.sights.get(never), None, "{never}");
    }
    assert!(campaign.heights > 100);
}

#[test]
fn b5_what_honest_operators_have_against_one_traitor_is_committed_within_ten_blocks() {
    let campaign = of(4, 7000..7030);
    assert!(campaign.sights["evidence committed"] > 0);
}

#[test]
fn the_same_seed_gives_the_same_run_to_the_last_event() {
    for seed in 0..6 {
        let options = Options { trace: true, ..short() };
        let (first, second) = (run(seed, &options), run(seed, &options));
        assert_eq!(first, second, "seed {seed}");
        assert_eq!(run(seed, &short()).log_hash, first.log_hash, "tracing changes nothing, seed {seed}");
    }
    assert_ne!(run(1, &short()).log_hash, run(2, &short()).log_hash);
}

#[test]
fn sending_before_the_sync_is_noticed() {
    let found = first_violation(Sabotage::SendBeforeSync, 0..1);
    assert!(matches!(found, Some(Violation::NotDurable { .. })), "{found:?}");
}

#[test]
fn a_vote_log_lost_in_a_restart_is_noticed() {
    let found = first_violation(Sabotage::ForgetLog, 0..60);
    assert!(
        matches!(found, Some(Violation::Contradiction { .. } | Violation::LostBlock { .. })),
        "{found:?}"
    );
}

#[test]
fn a_chain_lost_in_a_restart_is_noticed() {
    let found = first_violation(Sabotage::ForgetStore, 0..60);
    assert!(
        matches!(found, Some(Violation::Contradiction { .. } | Violation::LostBlock { .. })),
        "{found:?}"
    );
}

#[test]
fn more_traitors_than_the_protocol_bears_fork_the_cluster_and_it_is_noticed() {
    let options =
        Options { nodes: Some(4), sabotage: Some(Sabotage::TooManyTraitors), liveness_heights: 0, ..short() };
    let forked =
        (90..150).any(|seed| matches!(run(seed, &options).violation, Some(Violation::Disagreement { .. })));
    assert!(forked, "no seed forks a cluster with f + 1 traitors");
}
