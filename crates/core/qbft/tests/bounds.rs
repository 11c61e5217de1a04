//! What an instance keeps is bounded, whatever its peers send.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod common;

use aequa_qbft::{Effect, Event, ROUND_CHANGES_KEPT_PER_OPERATOR};
use aequa_testkit as testkit;
use aequa_types::limits::ROUND_WINDOW;
use aequa_types::message::ValueRequest;
use aequa_types::{Digest, Round, RoundChange, Verified};
use common::*;

/// Distinct messages of the flood; every table is full after the first of these.
const FLOOD: u64 = 1_000_000;
const SETTLED_AFTER: u64 = 10_000;

/// Every field of an instance and all they hold, as its length in text.
fn size(node: &Node) -> usize {
    format!("{:?}", node.instance).len()
}

fn digest(number: u64) -> Digest {
    let mut digest = Digest::ZERO;
    digest[..8].copy_from_slice(&number.to_be_bytes());
    digest
}

/// The `number`-th message of operator 1, which leads rounds 1, 5, 9 …; no two are alike.
fn flood(number: u64) -> Verified {
    let digest = digest(number);
    let near = number / 8 % (2 * ROUND_WINDOW);
    // Of one width in text.
    let far = (1 << 40) + number;
    match number % 8 {
        0 | 1 => Verified::Prepare(testkit::prepare(INSTANCE, near, digest).by(1)),
        2 | 3 => Verified::Commit(testkit::commit(INSTANCE, near, digest).by(1)),
        4 => round_change(1, far, None),
        5 => {
            let change = testkit::change(INSTANCE, far, Some((0, digest))).by(1);
            let prepares = testkit::prepare(INSTANCE, 0, digest).by_each(0..3);
            Verified::RoundChange(RoundChange { change, prepares })
        }
        6 => Verified::ValueRequest(ValueRequest { instance: INSTANCE, digest }),
        _ => {
            let value = testkit::duty_value(DUTY, number.to_be_bytes());
            match number / 8 % 2 {
                0 => Verified::ValueReply { instance: INSTANCE, value },
                _ => {
                    let changes = quorum_of(|i| change(i, 1, None));
                    justified_proposal(1, 1, &value, changes, Vec::new())
                }
            }
        }
    }
}

#[test]
fn a_flood_of_distinct_messages_of_one_operator_leaves_memory_flat() {
    let mut node = Node::new(2, 4);
    let (mut settled, mut largest) = (0, 0);
    for number in 0..runs(FLOOD) {
        node.receive(1, flood(number));
        // The record of what the test saw is not the instance's.
        node.effects.clear();
        if number == SETTLED_AFTER {
            settled = size(&node);
        }
        if number % 20_000 == 0 {
            largest = largest.max(size(&node));
        }
    }
    assert!(settled > 0 && largest <= settled, "{settled} bytes of text grew to {largest}");
}

/// Nobody decides, as when half of the clocks are too far off for any fresh block.
#[test]
fn ten_thousand_rounds_with_a_fresh_proposal_in_each_fourth_leave_memory_flat() {
    let mut node = Node::new(3, 4);
    let (mut proposals, mut settled) = (0, 0);
    // Of one width in text.
    for round in 10_001..20_001 {
        for author in 0..3 {
            node.receive(author, round_change(author, round, None));
        }
        let value = testkit::duty_value(DUTY, round.to_be_bytes());
        let effects = node.event(Event::Input { round: Round(round), value });
        proposals += usize::from(proposed(&effects).is_some());
        node.effects.clear();
        if round == 10_100 {
            settled = size(&node);
        }
    }
    assert_eq!(proposals, 2_500, "it leads each fourth round");
    let end = size(&node);
    assert!(end <= settled, "{settled} bytes of text grew to {end}");
}

#[test]
fn of_one_operators_round_changes_the_newest_four_are_kept() {
    assert_eq!(ROUND_CHANGES_KEPT_PER_OPERATOR, 4);
    // Operator 3 leads both rounds; with its own and operator 1's, that of operator 0 is the third.
    for (round, kept) in [(995, false), (999, true)] {
        let mut node = Node::new(3, 4);
        (1..1000).for_each(|round| drop(node.receive(0, round_change(0, round, None))));
        let effects = node.receive(1, round_change(1, round, None));
        assert_eq!(node.instance.round(), Round(round));
        assert_eq!(effects.contains(&Effect::NeedInput(Round(round))), kept, "round {round}");
    }
}

#[test]
fn of_all_honest_votes_in_any_order_none_is_lost() {
    // The q-th vote of a kind moves the instance, which it would not if one before had been lost.
    const INSTANCES: u64 = 5_051;
    let (operators, quorum) = (100u8, 67);
    for tag in 0..runs(INSTANCES) {
        let value = value(tag as u8 | 1);
        let mut node = Node::new(99, usize::from(operators));
        node.receive(0, proposal(0, 0, &value));
        let mut dice = Dice(tag);
        let mut voters: Vec<u8> = (0..99).collect();
        for at in (1..voters.len()).rev() {
            voters.swap(at, dice.below(at + 1));
        }
        for (before, from) in voters.iter().enumerate() {
            let committed = sends_commit(&node.prepare_from(*from, 0, &value));
            assert_eq!(committed, before + 2 == quorum, "its own PREPARE and {} others", before + 1);
        }
        for (before, from) in voters.iter().enumerate() {
            node.commit_from(*from, 0, &value);
            assert_eq!(node.decided().is_some(), before + 2 >= quorum);
        }
        let digest = value.digest();
        assert_eq!(node.instance.commits(Round(0), digest).count(), 100, "late ones are kept for the seal");
    }
}
