//! After the decision: answers to stragglers, certificates taken over, shares for the seal.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod common;

use aequa_qbft::Effect;
use aequa_types::{Message, Round, Verified};
use common::*;

#[test]
fn a_new_connection_is_answered_anew() {
    let mut cluster = Cluster::new(4);
    cluster.start();
    cluster.settle();
    let node = &mut cluster.nodes[0];
    assert!(!sent(&node.receive(3, round_change(3, 1, None))).is_empty());
    assert!(sent(&node.receive(3, round_change(3, 1, None))).is_empty());
    node.instance.forget_answers(aequa_types::OperatorIndex(3));
    assert!(!sent(&node.receive(3, round_change(3, 1, None))).is_empty());
}

#[test]
fn a_decided_node_answers_a_stuck_one_once_per_higher_round() {
    let mut cluster = Cluster::new(4);
    cluster.start();
    cluster.settle();
    let node = &mut cluster.nodes[0];
    let answers = |effects: Vec<Effect>| {
        sent(&effects).iter().filter(|message| matches!(message, Message::Decided(_))).count()
    };
    assert_eq!(answers(node.receive(3, round_change(3, 1, None))), 1);
    assert_eq!(answers(node.receive(3, round_change(3, 1, None))), 0);
    assert_eq!(answers(node.receive(3, round_change(3, 2, None))), 1);
    let flood: usize = (3..90).map(|round| answers(node.receive(3, round_change(3, round, None)))).sum();
    assert!(flood <= 16, "asking must not amplify: {flood}");
}

#[test]
fn a_late_vote_of_a_healthy_operator_is_not_answered() {
    let mut node = Node::new(3, 4);
    node.receive(0, proposal(0, 0, &value(1)));
    for from in [0, 1] {
        node.prepare_from(from, 0, &value(1));
    }
    node.commit_from(0, 0, &value(1));
    node.commit_from(1, 0, &value(1));
    assert!(node.decided().is_some());
    assert!(sent(&node.commit_from(2, 0, &value(1))).is_empty());
    assert!(!sent(&node.commit_from(2, 0, &value(1))).is_empty(), "a repetition is a cry for help");
}

#[test]
fn a_node_that_decides_by_certificate_adds_its_own_commit() {
    let mut cluster = Cluster::new(4);
    cluster.down.insert(3);
    cluster.start();
    cluster.settle();
    let certificate = cluster.nodes[0].certificate();
    let late = &mut cluster.nodes[3];
    let effects = late.receive(0, Verified::Decided(certificate.clone()));
    assert!(effects.contains(&Effect::NeedValue(certificate.digest)));
    let effects = late.receive(0, Verified::ValueReply { instance: INSTANCE, value: value(10) });
    assert_eq!(late.decided(), Some(certificate.digest));
    let own = pick!(sent(&effects), Message::Commit(vote) => vote.decision()).next().unwrap();
    assert_eq!(own, Some(certificate.decision()));
}

#[test]
fn a_value_nobody_asked_for_is_not_kept() {
    let mut node = Node::new(3, 4);
    let before = node.instance.clone();
    node.receive(1, Verified::ValueReply { instance: INSTANCE, value: value(9) });
    assert_eq!(node.instance, before);
}

#[test]
fn a_node_that_decides_by_a_group_seal_still_adds_its_own_commit() {
    let digest = value(1).digest();
    let proof = aequa_types::Proof::Group(aequa_types::Seal::repeat_byte(1));
    let certificate = aequa_types::Certificate { instance: INSTANCE, round: Round(0), digest, proof };
    let mut node = Node::new(3, 4);
    node.receive(0, Verified::Decided(certificate));
    let effects = node.receive(0, Verified::ValueReply { instance: INSTANCE, value: value(1) });
    assert_eq!(node.decided(), Some(digest));
    assert!(has!(sent(&effects), Message::Commit(_)));
}

#[test]
fn questions_for_a_value_are_answered_sixteen_times_at_most() {
    let mut cluster = Cluster::new(4);
    cluster.start();
    cluster.settle();
    let node = &mut cluster.nodes[0];
    let mut ask = |digest| {
        let request = aequa_types::message::ValueRequest { instance: INSTANCE, digest };
        sent(&node.receive(3, Verified::ValueRequest(request))).len()
    };
    assert_eq!((0..100).map(|_| ask(value(99).digest())).sum::<usize>(), 0, "it has no such value");
    assert_eq!((0..100).map(|_| ask(value(10).digest())).sum::<usize>(), 16);
}

#[test]
fn a_value_keeps_its_digest_from_round_to_round() {
    let mut cluster = Cluster::new(4);
    cluster.start();
    cluster.settle_unless(|_, _, message| matches!(message, Message::Commit(_)));
    cluster.timeout(0..4);
    cluster.settle();
    for node in &cluster.nodes {
        assert_eq!(node.certificate().round, Round(1));
        assert_eq!(node.decided(), Some(value(10).digest()), "proposed first in round 0");
    }
}

#[test]
fn shares_for_the_seal_are_those_of_one_round_and_digest() {
    let mut node = Node::new(3, 4);
    for (from, round, tag) in [(0, 0, 1), (1, 1, 1), (2, 0, 2), (0, 1, 1)] {
        node.commit_from(from, round, &value(tag));
    }
    let of = |round: u64, tag| {
        let commits = node.instance.commits(Round(round), value(tag).digest());
        commits.map(|commit| commit.author.0).collect::<Vec<_>>()
    };
    assert_eq!([of(0, 1), of(1, 1), of(0, 2), of(1, 2)], [vec![0], vec![0, 1], vec![2], vec![]]);
}
