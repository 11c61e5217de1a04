//! Restarts: what was signed binds, is sent again as stored, and is never replaced.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod common;

use aequa_qbft::{Effect, Event};
use aequa_types::{Message, Round};
use common::*;

#[test]
fn a_restarted_operator_sends_what_it_stored_and_never_a_second_prepare() {
    let mut node = Node::new(2, 4);
    node.receive(0, proposal(0, 0, &value(1)));
    let stored = node.host.made.clone();
    let effects = node.crash_and_restart();
    assert!(sent(&effects).contains(&Message::Prepare(prepare(2, 0, &value(1)))));
    let effects = node.receive(0, proposal(0, 0, &value(2)));
    assert!(sent(&effects).is_empty());
    assert_eq!(node.host.made, stored);
}

#[test]
fn a_restarted_leader_sends_its_stored_proposal_byte_for_byte() {
    let mut leader = Node::new(0, 4);
    let first = leader.event(Event::Input { round: Round(0), value: value(1) });
    let again = leader.crash_and_restart();
    assert!(!again.contains(&Effect::NeedInput(Round(0))), "it must not choose anew");
    let proposals = |effects: &[Effect]| -> Vec<Message> {
        sent(effects).into_iter().filter(|message| matches!(message, Message::PrePrepare(_))).collect()
    };
    assert_eq!(proposals(&first), proposals(&again));
    assert_eq!(proposals(&first).len(), 1);
}

#[test]
fn a_restarted_operator_still_shows_what_it_saw_prepared() {
    let mut node = Node::new(2, 4);
    node.receive(0, proposal(0, 0, &value(1)));
    node.prepare_from(0, 0, &value(1));
    node.prepare_from(1, 0, &value(1));
    node.crash_and_restart();
    let effects = node.timeout();
    let shown = pick!(sent(&effects), Message::RoundChange(message) => message.clone()).next().unwrap();
    assert_eq!(shown.change.digest(), Some(value(1).digest()));
    assert_eq!(shown.prepares.len(), 3);
}

#[test]
fn more_than_f_restarted_operators_still_decide_the_prepared_value() {
    let mut cluster = Cluster::new(4);
    cluster.start();
    cluster.settle_unless(|_, _, message| matches!(message, Message::Commit(_)));
    for node in 0..4 {
        let effects = cluster.nodes[node].crash_and_restart();
        cluster.post(node, &effects);
    }
    cluster.settle();
    assert_eq!(cluster.decisions(), vec![Some(value(10).digest()); 4]);
}

/// The round that a proposal led to was kept, the PREPARE for it was lost in the same write.
#[test]
fn an_operator_that_lost_its_prepare_with_the_round_kept_shows_that_it_is_there() {
    let round = aequa_types::record::RoundRecord { instance: INSTANCE, round: Round(2), change: None };
    let mut node = Node::new(2, 4);
    let effects = node.restart_with(vec![aequa_types::Record::Round(round)]);
    let shown = sent(&effects)
        .into_iter()
        .any(|message| matches!(message, Message::RoundChange(message) if message.change.round == Round(2)));
    assert!(shown, "nobody would wait for it: {effects:?}");
    assert!(sent(&node.event(Event::Start)).len() <= 1, "and says it once");
}
