//! Sequences nobody thought of: random schedules of honest operators, and peers that say anything.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod common;

use aequa_qbft::{Effect, Event};
use aequa_types::message::ValueRequest;
use aequa_types::{Round, RoundChange, Signed, Verified};
use common::*;
use proptest::prelude::*;

/// Schedules of a run. Those of the simulator have blocks and disks too.
const SCHEDULES: u64 = 10_000;

#[test]
fn honest_operators_never_disagree_and_nobody_is_accused_whatever_the_schedule() {
    let (mut decided, schedules) = (0, runs(SCHEDULES));
    for seed in 0..schedules {
        let mut dice = Dice(seed);
        let operators = [4, 4, 7][dice.below(3)];
        let mut cluster = Cluster::new(operators);
        cluster.start();
        for _ in 0..60 * operators {
            match dice.below(100) {
                0 | 1 => cluster.timeout([dice.below(operators)]),
                2 => cluster.restart(dice.below(operators)),
                3 => cluster.send_again(),
                _ => cluster.deliver_any(&mut dice),
            }
        }
        let values: std::collections::BTreeSet<_> = cluster.decisions().into_iter().flatten().collect();
        assert!(values.len() <= 1, "seed {seed}: {values:?}");
        decided += values.len();
        for node in &cluster.nodes {
            assert_eq!(conflicts(&node.effects), [], "seed {seed}");
            said_once(node);
        }
    }
    assert!(decided as u64 > schedules / 2, "the schedules are no test when nothing is decided: {decided}");
}

/// One statement per (round, kind) in all lives, each durable before it was sent; one decision.
fn said_once(node: &Node) {
    for ((round, kind), statements) in &node.host.made {
        assert_eq!(statements.len(), 1, "{kind:?} of round {round}");
    }
    assert_durable_when_sent(node);
    let decisions = node.effects.iter().filter(|effect| matches!(effect, Effect::Decided { .. }));
    assert!(decisions.count() <= 1, "decided twice");
}

/// What may happen to operator 2; authors are all others, so that far more than f of them lie, and now and then
/// itself, which a guard outside keeps from it.
#[derive(Debug, Clone)]
enum Act {
    Propose { round: u64, tag: u8, prepared: Option<u64>, proven: bool },
    Prepare { author: u8, round: u64, tag: u8 },
    Commit { author: u8, round: u64, tag: u8 },
    Change { author: u8, round: u64, prepared: Option<(u64, u8)>, proven: bool },
    Value(u8),
    Question(u8),
    Input { round: u64, tag: u8 },
    Timeout { round: u64 },
    Restart,
}

const ME: u8 = 2;

fn act() -> impl Strategy<Value = Act> {
    let author = || prop_oneof![4 => Just(0u8), 4 => Just(1), 4 => Just(3), 1 => Just(ME)];
    let round = || prop_oneof![8 => 0..4u64, 1 => Just(64), 1 => any::<u64>()];
    // A value that begins with 0 is not valid.
    let tag = || 0..4u8;
    prop_oneof![
        4 => (round(), tag(), proptest::option::of(0..4u64), any::<bool>())
            .prop_map(|(round, tag, prepared, proven)| Act::Propose { round, tag, prepared, proven }),
        4 => (author(), round(), tag()).prop_map(|(author, round, tag)| Act::Prepare { author, round, tag }),
        4 => (author(), round(), tag()).prop_map(|(author, round, tag)| Act::Commit { author, round, tag }),
        3 => (author(), round(), proptest::option::of((0..4u64, tag())), any::<bool>())
            .prop_map(|(author, round, prepared, proven)| Act::Change { author, round, prepared, proven }),
        1 => tag().prop_map(Act::Value),
        1 => tag().prop_map(Act::Question),
        1 => (0..4u64, tag()).prop_map(|(round, tag)| Act::Input { round, tag }),
        2 => (0..4u64).prop_map(|round| Act::Timeout { round }),
        1 => Just(Act::Restart),
    ]
}

fn perform(node: &mut Node, act: Act) {
    let quorum = |make: &dyn Fn(u8) -> Signed| [0, 1, 3].map(make).to_vec();
    match act {
        Act::Propose { round, tag, prepared, proven } => {
            let claim = prepared.filter(|_| round > 0).map(|prepared| (prepared, value(tag)));
            let claim = claim.as_ref().map(|(round, value)| (*round, value));
            let changes = quorum(&|i| change(i, round, claim));
            let prepares = claim
                .filter(|_| proven)
                .map_or(Vec::new(), |(round, value)| quorum(&|i| prepare(i, round, value)));
            let changes = if round > 0 { changes } else { Vec::new() };
            let leader = (round % 4) as u8;
            node.receive(0, justified_proposal(leader, round, &value(tag), changes, prepares));
        }
        Act::Prepare { author, round, tag } => drop(node.prepare_from(author, round, &value(tag))),
        Act::Commit { author, round, tag } => drop(node.commit_from(author, round, &value(tag))),
        Act::Change { author, round, prepared, proven } => {
            let claim = prepared.map(|(round, tag)| (round, value(tag)));
            let claim = claim.as_ref().map(|(round, value)| (*round, value));
            let prepares = claim
                .filter(|_| proven)
                .map_or(Vec::new(), |(round, value)| quorum(&|i| prepare(i, round, value)));
            let message = RoundChange { change: change(author, round, claim), prepares };
            node.receive(author, Verified::RoundChange(message));
        }
        Act::Value(tag) => {
            node.receive(0, Verified::ValueReply { instance: INSTANCE, value: value(tag) });
        }
        Act::Question(tag) => {
            let request = ValueRequest { instance: INSTANCE, digest: value(tag).digest() };
            node.receive(0, Verified::ValueRequest(request));
        }
        Act::Input { round, tag } => {
            node.event(Event::Input { round: Round(round), value: value(tag) });
        }
        Act::Timeout { round } => drop(node.event(Event::Timeout(Round(round)))),
        Act::Restart => drop(node.crash_and_restart()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_all_others_say_an_operator_says_one_thing_in_one_place(
        acts in proptest::collection::vec(act(), 1..60)
    ) {
        let mut node = Node::new(ME, 4);
        for act in acts {
            perform(&mut node, act);
        }
        said_once(&node);
    }
}
