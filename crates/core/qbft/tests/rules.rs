//! The rules of a round without trouble: propose, prepare, commit, decide, and what must not disturb them.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod common;

use aequa_qbft::{Effect, Event, Note, Refusal};
use aequa_testkit::duty_value;
use aequa_types::{
    DutyId, DutyKind, Height, InstanceId, Message, OperatorIndex, Proof, Record, Round, RoundChange, Signed,
    Slot, Verified,
};
use common::*;

#[test]
fn clusters_of_one_to_ten_decide_the_leaders_value_in_round_0() {
    for operators in [1, 2, 4, 7, 10] {
        let mut cluster = Cluster::new(operators);
        cluster.start();
        cluster.settle();
        assert_eq!(cluster.decisions(), vec![Some(value(10).digest()); operators], "n = {operators}");
    }
}

#[test]
fn b4_votes_for_different_digests_never_make_a_quorum() {
    let mut node = Node::new(3, 4);
    node.receive(0, proposal(0, 0, &value(1)));
    node.prepare_from(0, 0, &value(1));
    let effects = node.prepare_from(1, 0, &value(2));
    assert!(!has!(sent(&effects), Message::Commit(_)));
    node.commit_from(0, 0, &value(1));
    node.commit_from(1, 0, &value(2));
    node.commit_from(2, 0, &value(1));
    assert_eq!(node.decided(), None);
}

#[test]
fn q_votes_of_n_move_an_instance_and_one_less_does_not() {
    for (operators, quorum) in [(1, 1), (4, 3), (7, 5), (10, 7), (13, 9)] {
        let last = operators - 1;
        let mut node = Node::new(last as u8, operators);
        let mut effects = match operators {
            1 => node.event(Event::Input { round: Round(0), value: value(1) }),
            _ => node.receive(0, proposal(0, 0, &value(1))),
        };
        // Its own vote is the first.
        for votes in 2..=quorum {
            assert!(!sends_commit(&effects), "n = {operators}: COMMIT after {} PREPAREs", votes - 1);
            effects = node.prepare_from(votes as u8 - 2, 0, &value(1));
        }
        assert!(sends_commit(&effects), "n = {operators}: no COMMIT after {quorum} PREPAREs");
        for votes in 2..=quorum {
            assert_eq!(node.decided(), None, "n = {operators}: decided by {} COMMITs", votes - 1);
            node.commit_from(votes as u8 - 2, 0, &value(1));
        }
        assert_eq!(node.decided(), Some(value(1).digest()), "n = {operators}: {quorum} COMMITs");
    }
}

#[test]
fn commits_alone_decide_nothing_before_the_value_is_here() {
    let mut node = Node::new(3, 4);
    (0..3).for_each(|from| drop(node.commit_from(from, 0, &value(1))));
    assert_eq!(node.decided(), None);
    node.receive(1, Verified::ValueReply { instance: INSTANCE, value: value(1) });
    assert_eq!(node.decided(), Some(value(1).digest()));
}

#[test]
fn b4_a_vote_counts_once_and_for_its_author_whoever_carries_it() {
    let mut node = Node::new(3, 4);
    node.receive(0, proposal(0, 0, &value(1)));
    for carrier in 0..3 {
        let effects = node.receive(carrier, Verified::Prepare(prepare(0, 0, &value(1))));
        assert!(!sends_commit(&effects), "two operators voted, {} carried", carrier + 1);
    }
    let effects = node.receive(0, Verified::Prepare(prepare(1, 0, &value(1))));
    assert!(sends_commit(&effects), "a relayed vote is as good");
}

#[test]
fn a_message_of_another_height_or_domain_changes_nothing() {
    let mut node = Node::new(3, 4);
    node.receive(0, proposal(0, 0, &value(1)));
    let before = node.instance.clone();
    let elsewhere = |instance, mut vote: Signed| {
        vote.statement.instance = instance;
        vote
    };
    let (late, early) = (DutyId { slot: Slot(u64::MAX), ..DUTY }, DutyId { slot: Slot(6), ..DUTY });
    let other = DutyId { kind: DutyKind::Sync, ..DUTY };
    for instance in [late.into(), early.into(), other.into(), InstanceId::Block(Height(7))] {
        for from in 0..3 {
            let there = |vote| elsewhere(instance, vote);
            let messages = [
                Verified::Prepare(there(prepare(from, 0, &value(1)))),
                Verified::Commit(there(commit(from, 0, &value(1)))),
                Verified::RoundChange(RoundChange {
                    change: there(change(from, 5, None)),
                    prepares: Vec::new(),
                }),
            ];
            for message in messages {
                let refused = Note::Refused(OperatorIndex(from), Refusal::WrongInstance);
                assert_eq!(node.receive(from, message), [Effect::Note(refused)]);
            }
        }
    }
    assert_eq!(node.instance, before);
}

#[test]
fn further_commits_do_not_decide_again() {
    let mut cluster = Cluster::new(7);
    cluster.start();
    cluster.settle();
    for from in 0..7 {
        cluster.nodes[0].commit_from(from, 0, &value(10));
    }
    for node in &cluster.nodes {
        let decisions = node.effects.iter().filter(|effect| matches!(effect, Effect::Decided { .. }));
        assert_eq!(decisions.count(), 1);
        let records = node.records();
        assert_eq!(records.iter().filter(|record| matches!(record, Record::Decided(_))).count(), 1);
    }
}

#[test]
fn votes_that_arrive_before_the_proposal_count_when_it_comes() {
    let mut node = Node::new(3, 4);
    node.prepare_from(0, 0, &value(1));
    node.prepare_from(1, 0, &value(1));
    let effects = node.receive(0, proposal(0, 0, &value(1)));
    assert!(has!(sent(&effects), Message::Commit(_)));
    assert!(!has!(notes(&effects), Note::Conflict(_)));
}

#[test]
fn commits_of_a_past_round_still_decide() {
    let mut node = Node::new(3, 4);
    node.receive(0, proposal(0, 0, &value(1)));
    node.prepare_from(0, 0, &value(1));
    node.prepare_from(1, 0, &value(1));
    node.timeout();
    node.commit_from(0, 0, &value(1));
    node.commit_from(1, 0, &value(1));
    assert_eq!(node.decided(), Some(value(1).digest()));
    assert_eq!(node.certificate().round, Round(0));
}

#[test]
fn a_value_of_which_nothing_is_known_blames_nobody_and_is_prepared_once_it_is_known() {
    let mut node = Node::new(2, 4);
    node.host.knows = false;
    assert!(node.receive(0, proposal(0, 0, &value(1))).is_empty());
    node.host.knows = true;
    let effects = node.receive(0, proposal(0, 0, &value(1)));
    assert!(has!(sent(&effects), Message::Prepare(_)));

    let mut leader = Node::new(1, 4);
    leader.host.knows = false;
    for from in [0, 2, 3] {
        leader.receive(from, round_change(from, 1, Some((0, &value(1)))));
    }
    let effects = leader.receive(0, Verified::ValueReply { instance: INSTANCE, value: value(1) });
    let proposes = |effects: &[Effect]| has!(sent(effects), Message::PrePrepare(_));
    assert!(!proposes(&effects), "{effects:?}");
    leader.host.knows = true;
    let effects = leader.receive(0, Verified::ValueReply { instance: INSTANCE, value: value(1) });
    assert!(proposes(&effects), "{effects:?}");
}

#[test]
fn an_invalid_fresh_value_is_never_prepared() {
    let mut node = Node::new(2, 4);
    let effects = node.receive(0, proposal(0, 0, &value(0)));
    assert!(sent(&effects).is_empty());
    assert!(matches!(notes(&effects)[..], [Note::Refused(_, Refusal::BadValue(_))]));
}

#[test]
fn an_equivocating_leader_gets_one_prepare_and_leaves_evidence() {
    let mut node = Node::new(2, 4);
    node.receive(0, proposal(0, 0, &value(1)));
    let effects = node.receive(0, proposal(0, 0, &value(2)));
    assert!(sent(&effects).is_empty());
    assert!(matches!(notes(&effects)[..], [Note::Conflict(_)]));
    assert_eq!(node.host.made[&(Round(0), aequa_types::Kind::Prepare)].len(), 1);
}

#[test]
fn an_equivocating_leader_gets_one_prepare_after_a_round_jump_too() {
    let mut node = Node::new(2, 4);
    let changes = vec![change(0, 1, None), change(1, 1, None), change(3, 1, None)];
    node.receive(1, justified_proposal(1, 1, &value(1), changes.clone(), Vec::new()));
    assert_eq!(node.instance.round(), Round(1));
    node.receive(1, justified_proposal(1, 1, &value(2), changes, Vec::new()));
    assert_eq!(node.host.made[&(Round(1), aequa_types::Kind::Prepare)].len(), 1);
}

#[test]
fn with_an_equivocating_leader_only_the_leader_is_accused() {
    let mut node = Node::new(2, 4);
    node.receive(0, proposal(0, 0, &value(1)));
    let others = [node.prepare_from(1, 0, &value(2)), node.commit_from(3, 0, &value(2))];
    assert_eq!(conflicts(&others.concat()), [], "they believed what they were told");
    let effects = node.receive(1, proposal(0, 0, &value(2)));
    let pair = (preprepare(0, 0, &value(1)), preprepare(0, 0, &value(2)));
    assert_eq!(conflicts(&effects), [pair]);
}

#[test]
fn a_double_vote_of_each_kind_is_a_conflict_and_what_honest_operators_do_is_none() {
    let mut node = Node::new(2, 4);
    node.receive(0, proposal(0, 0, &value(1)));
    for round in [0, 1, 2] {
        for _ in 0..100 {
            node.prepare_from(3, round, &value(1));
            node.commit_from(3, round, &value(1));
        }
    }
    node.receive(3, round_change(3, 3, None));
    assert_eq!(conflicts(&node.effects), [], "of one digest, of other rounds, repeated");
    let prepares = node.prepare_from(3, 0, &value(2));
    assert_eq!(conflicts(&prepares), [(prepare(3, 0, &value(1)), prepare(3, 0, &value(2)))]);
    let commits = node.commit_from(3, 1, &value(2));
    assert_eq!(conflicts(&commits), [(commit(3, 1, &value(1)), commit(3, 1, &value(2)))]);
}

#[test]
fn every_vote_is_durable_before_it_is_sent() {
    let mut cluster = Cluster::new(4);
    cluster.start();
    cluster.settle_unless(|from, _, message| from == 0 && matches!(message, Message::Commit(_)));
    cluster.timeout(0..4);
    cluster.settle();
    cluster.nodes.iter().for_each(assert_durable_when_sent);
}

#[test]
fn a_signer_that_refuses_keeps_the_node_silent_and_alive() {
    let mut node = Node::new(2, 4);
    node.host.refuse_to_sign = true;
    let effects = node.receive(0, proposal(0, 0, &value(1)));
    assert!(sent(&effects).is_empty());
    assert!(notes(&effects).contains(&Note::SignerRefused(Round(0))));
    node.commit_from(0, 0, &value(1));
    node.commit_from(1, 0, &value(1));
    let effects = node.commit_from(3, 0, &value(1));
    assert!(effects.contains(&Effect::NeedValue(value(1).digest())));
}

#[test]
fn a_certificate_names_q_distinct_operators_in_order() {
    let mut cluster = Cluster::new(7);
    cluster.start();
    cluster.settle();
    for node in &cluster.nodes {
        let Proof::Commits(commits) = node.certificate().proof else { panic!("commits expected") };
        let operators: Vec<u8> = commits.iter().map(|commit| commit.operator.0).collect();
        assert_eq!(operators.len(), 5);
        assert!(operators.is_sorted_by(|a, b| a < b));
    }
}

#[test]
fn an_empty_value_is_a_value() {
    let mut cluster = Cluster::new(4);
    let empty = duty_value(DUTY, []);
    cluster.nodes[0].input = Some(empty.clone());
    cluster.start();
    cluster.settle();
    assert_eq!(cluster.decisions(), vec![Some(empty.digest()); 4]);
}
