//! Leaving a round: timers, catching up with others, and what the next leader proposes.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod common;

use aequa_qbft::{Effect, Event, Note};
use aequa_types::{Message, Record, Round, Verified};
use common::*;

#[test]
fn a_dead_leader_costs_one_round() {
    let mut cluster = Cluster::new(4);
    cluster.down.insert(0);
    cluster.start();
    cluster.settle();
    cluster.timeout(1..4);
    cluster.settle();
    assert_eq!(cluster.decisions()[1..], vec![Some(value(11).digest()); 3]);
    assert_eq!(cluster.nodes[1].certificate().round, Round(1));
}

#[test]
fn a_value_prepared_by_a_quorum_is_proposed_again_by_the_next_leader() {
    let mut cluster = Cluster::new(4);
    cluster.start();
    cluster.settle_unless(|_, _, message| matches!(message, Message::Commit(_)));
    assert!(cluster.decisions().iter().all(Option::is_none));
    cluster.timeout(0..4);
    cluster.settle();
    assert_eq!(cluster.decisions(), vec![Some(value(10).digest()); 4]);
}

#[test]
fn round_changes_that_name_different_digests_do_not_block_progress() {
    let (old, new) = (value(1), value(2));
    let mut node = Node::new(3, 4);
    node.receive(0, round_change(0, 3, Some((0, &old))));
    node.receive(1, round_change(1, 3, Some((1, &new))));
    node.receive(2, round_change(2, 3, None));
    assert_eq!(node.instance.round(), Round(3), "f+1 operators are ahead");
    assert!(node.effects.contains(&Effect::NeedValue(new.digest())), "the highest prepared value is fetched");
    let effects = node.receive(1, Verified::ValueReply { instance: INSTANCE, value: new.clone() });
    assert_eq!(proposed(&effects), Some(new.digest()));
}

#[test]
fn f_plus_1_operators_ahead_pull_a_node_to_the_smallest_of_their_rounds() {
    let mut node = Node::new(3, 4);
    node.receive(2, round_change(2, 9, None));
    assert_eq!(node.instance.round(), Round(0), "one operator may be lying");
    node.receive(1, round_change(1, 4, None));
    assert_eq!(node.instance.round(), Round(4));
    assert!(has!(node.records(), Record::Round(_)));
}

#[test]
fn q_round_changes_of_n_make_a_proposal_and_f_plus_1_move_an_operator() {
    for (operators, weak, quorum) in [(4, 2, 3), (7, 3, 5), (10, 4, 7), (13, 5, 9)] {
        let mut leader = Node::new(1, operators);
        leader.input = Some(value(11));
        let mut others = (0..operators as u8).filter(|other| *other != 1);
        let mut effects = leader.timeout();
        for changes in 2..=quorum {
            assert_eq!(proposed(&effects), None, "n = {operators}: {} ROUND-CHANGEs", changes - 1);
            let from = others.next().unwrap();
            effects = leader.receive(from, round_change(from, 1, None));
        }
        assert_eq!(proposed(&effects), Some(value(11).digest()), "n = {operators}");

        let mut behind = Node::new(operators as u8 - 1, operators);
        for ahead in 1..=weak {
            assert_eq!(behind.instance.round(), Round(0), "n = {operators}: {} ahead", ahead - 1);
            behind.receive(ahead as u8, round_change(ahead as u8, 5, None));
        }
        assert_eq!(behind.instance.round(), Round(5), "n = {operators}");
    }
}

#[test]
fn an_operator_that_gives_up_alone_changes_no_leader() {
    let mut cluster = Cluster::new(4);
    for _ in 0..10 {
        cluster.timeout([3]);
        cluster.settle();
    }
    assert_eq!(cluster.nodes[3].instance.round(), Round(10));
    for node in &cluster.nodes[..3] {
        assert_eq!(node.instance.round(), Round(0));
    }
    cluster.start();
    cluster.settle();
    assert_eq!(cluster.decisions(), vec![Some(value(10).digest()); 4], "the leader of round 0 led");
    assert_eq!(cluster.nodes[0].certificate().round, Round(0));
}

#[test]
fn what_the_network_lost_is_sent_again_until_all_have_decided() {
    let mut cluster = Cluster::new(4);
    cluster.start();
    for _ in 0..8 {
        // Everything that was sent the first time is lost.
        cluster.settle_unless(|_, _, _| true);
        cluster.send_again();
        // One step further for everybody, and its consequences are lost again.
        cluster.deliver_what_is_under_way();
    }
    assert_eq!(cluster.decisions(), vec![Some(value(10).digest()); 4]);
    assert!(cluster.nodes.iter().all(|node| node.instance.round() == Round(0)), "no timer was needed");
}

#[test]
fn votes_of_rounds_far_above_change_no_state() {
    let mut node = Node::new(3, 4);
    let before = node.instance.clone();
    node.prepare_from(0, u64::MAX, &value(1));
    node.commit_from(0, 65, &value(1));
    assert_eq!(node.instance, before);
}

#[test]
fn one_operator_far_above_moves_nobody() {
    let mut node = Node::new(3, 4);
    for round in [u64::MAX, 1 << 40, 1000] {
        assert_eq!(node.receive(1, round_change(1, round, None)), []);
    }
    assert_eq!(node.instance.round(), Round(0));
    node.receive(2, round_change(2, 2, None));
    assert_eq!(node.instance.round(), Round(2), "the smallest of f+1");
}

#[test]
fn a_leader_that_gives_up_before_it_proposed_is_not_waited_for() {
    let mut cluster = Cluster::new(4);
    cluster.nodes[0].input = None;
    for node in 0..4 {
        let effects = cluster.nodes[node].event(Event::Start);
        cluster.post(node, &effects);
    }
    cluster.settle();
    // No timer but its own runs out.
    cluster.timeout([0]);
    cluster.settle();
    assert_eq!(cluster.decisions(), vec![Some(value(11).digest()); 4]);
    assert!(cluster.nodes.iter().all(|node| node.certificate().round == Round(1)));
}

#[test]
fn a_leader_whose_proposal_was_accepted_and_who_gives_up_then_moves_nobody() {
    let mut node = Node::new(3, 4);
    node.receive(0, proposal(0, 0, &value(10)));
    assert_eq!(node.receive(0, round_change(0, 1, None)), []);
    assert_eq!(node.instance.round(), Round(0));
}

#[test]
fn a_leader_far_above_moves_others_by_one_round_and_no_further() {
    let mut node = Node::new(3, 4);
    let effects = node.receive(0, round_change(0, 1000, None));
    assert!(sent(&effects).iter().any(|message| matches!(message, Message::RoundChange(_))));
    for round in [1 << 40, u64::MAX] {
        assert_eq!(node.receive(0, round_change(0, round, None)), []);
    }
    assert_eq!(node.instance.round(), Round(1), "its leader is another");
}

#[test]
fn a_node_cut_off_for_more_than_the_window_catches_up_with_the_rounds_of_the_others() {
    let mut node = Node::new(3, 4);
    node.timeout();
    node.receive(0, round_change(0, 70, None));
    let effects = node.receive(1, round_change(1, 70, None));
    assert_eq!(node.instance.round(), Round(70));
    assert!(effects.contains(&Effect::SetTimer(Round(70))), "three of four are there now");
}

#[test]
fn two_round_changes_of_one_operator_and_round_are_evidence() {
    let mut node = Node::new(3, 4);
    node.receive(0, round_change(0, 1, None));
    let effects = node.receive(0, round_change(0, 1, Some((0, &value(1)))));
    assert!(matches!(notes(&effects)[..], [Note::Conflict(_)]));
    assert_eq!(notes(&node.receive(0, round_change(0, 1, None))), []);
}

#[test]
fn a_stale_timer_is_ignored() {
    let mut node = Node::new(3, 4);
    node.timeout();
    assert_eq!(node.instance.round(), Round(1));
    let before = node.instance.clone();
    for stale in [0, 2, u64::MAX] {
        assert!(node.event(Event::Timeout(Round(stale))).is_empty(), "timer of round {stale}");
        assert_eq!(node.instance, before);
    }
}

#[test]
fn a_timer_that_fires_after_the_decision_is_ignored() {
    let mut cluster = Cluster::new(4);
    cluster.start();
    cluster.settle();
    for node in &mut cluster.nodes {
        assert!(node.timeout().is_empty());
        assert_eq!(node.instance.round(), Round(0));
    }
}

#[test]
fn a_new_leader_without_input_waits_for_it_and_keeps_its_quorum() {
    let mut node = Node::new(1, 4);
    node.timeout();
    node.receive(2, round_change(2, 1, None));
    let effects = node.receive(3, round_change(3, 1, None));
    assert!(effects.contains(&Effect::NeedInput(Round(1))));
    let effects = node.event(Event::Input { round: Round(1), value: value(5) });
    assert!(has!(sent(&effects), Message::PrePrepare(_)));
}

#[test]
fn an_input_that_comes_late_neither_replaces_a_prepared_value_nor_a_proposal() {
    let mut leader = Node::new(1, 4);
    leader.timeout();
    leader.receive(2, round_change(2, 1, None));
    assert!(leader.receive(3, round_change(3, 1, None)).contains(&Effect::NeedInput(Round(1))));
    // Before the input is here, a prepared value becomes known.
    leader.receive(0, round_change(0, 1, Some((0, &value(1)))));
    let effects = leader.receive(0, Verified::ValueReply { instance: INSTANCE, value: value(1) });
    assert_eq!(proposed(&effects), None, "a value nobody needs is not asked for");
    let effects = leader.event(Event::Input { round: Round(1), value: value(5) });
    assert_eq!(proposed(&effects), Some(value(5).digest()), "three of four were not prepared");
    for round in [0, 1, 2] {
        assert!(leader.event(Event::Input { round: Round(round), value: value(6) }).is_empty());
    }
}

#[test]
fn a_round_takes_no_time_while_no_quorum_is_there_to_use_it() {
    let timers =
        |effects: &[Effect]| effects.iter().filter(|effect| matches!(effect, Effect::SetTimer(_))).count();
    let mut node = Node::new(3, 4);
    let effects = node.timeout();
    assert_eq!(timers(&effects), 0);
    assert!(effects.contains(&Effect::KeepSending(Round(1))));
    assert_eq!(timers(&node.receive(0, round_change(0, 1, None))), 0);
    let effects = node.receive(2, round_change(2, 2, None));
    assert!(effects.contains(&Effect::SetTimer(Round(1))), "a higher round counts too");
    assert_eq!(timers(&node.receive(1, round_change(1, 1, None))), 0, "it is not started again");
}

#[test]
fn a_vote_shows_its_round_as_a_round_change_does() {
    let mut node = Node::new(3, 4);
    node.timeout();
    node.receive(0, round_change(0, 1, None));
    let effects = node.prepare_from(1, 1, &value(1));
    assert!(
        effects.contains(&Effect::SetTimer(Round(1))),
        "it entered by the proposal, without ROUND-CHANGE"
    );
}

#[test]
fn a_prepared_value_that_nobody_hands_out_does_not_stop_the_leader() {
    let mut leader = Node::new(1, 4);
    leader.input = Some(value(11));
    leader.timeout();
    let effects = leader.receive(0, round_change(0, 1, Some((0, &value(1)))));
    assert!(!effects.contains(&Effect::NeedValue(value(1).digest())), "no quorum yet");
    let effects = leader.receive(2, round_change(2, 1, None));
    assert!(effects.contains(&Effect::NeedValue(value(1).digest())), "every quorum needs it so far");
    let effects = leader.receive(3, round_change(3, 1, None));
    let proposal = pick!(sent(&effects), Message::PrePrepare(proposal) => proposal.clone()).next().unwrap();
    assert_eq!(proposal.proposal.digest(), Some(value(11).digest()));
    let authors: Vec<u8> = proposal.round_changes.iter().map(|change| change.author.0).collect();
    assert_eq!(authors, [1, 2, 3], "the claim without its value is no part of the quorum");
}

#[test]
fn a_prepared_value_that_is_handed_out_is_proposed_by_the_leader() {
    let mut leader = Node::new(1, 4);
    leader.timeout();
    leader.receive(0, round_change(0, 1, Some((0, &value(1)))));
    leader.receive(2, round_change(2, 1, None));
    let effects = leader.receive(0, Verified::ValueReply { instance: INSTANCE, value: value(1) });
    assert_eq!(proposed(&effects), Some(value(1).digest()));
}

#[test]
fn a_value_that_f_plus_1_operators_committed_to_outlives_its_round() {
    let decided = value(1);
    let mut node = Node::new(3, 4);
    node.receive(0, proposal(0, 0, &decided));
    for from in [0, 1] {
        node.commit_from(from, 0, &decided);
    }
    node.timeout();
    assert_eq!(node.instance.value(&decided.digest()), Some(&decided), "one of f+1 is honest");
    let effects = node.commit_from(2, 0, &decided);
    assert!(has!(effects, Effect::Decided { .. }), "nobody has to be asked");

    let mut node = Node::new(3, 4);
    node.receive(0, proposal(0, 0, &decided));
    node.commit_from(0, 0, &decided);
    node.timeout();
    assert_eq!(node.instance.value(&decided.digest()), None, "f operators may name any value");
}
