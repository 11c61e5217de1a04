//! The rules, one by one, and the mistakes other implementations made with them.
#![allow(clippy::unwrap_used)]

mod common;

use aequa_qbft::{Effect, Event, Note, Refusal};
use aequa_types::statement::Claim;
use aequa_types::{Message, Proof, Record, Round, Verified};
use common::*;

#[test]
fn four_operators_decide_the_leaders_value_in_round_0() {
    for operators in [1, 2, 4, 7, 10] {
        let mut cluster = Cluster::new(operators);
        cluster.start();
        cluster.settle();
        assert_eq!(cluster.decisions(), vec![Some(value(10).digest()); operators], "n = {operators}");
    }
}

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
fn votes_for_different_digests_never_make_a_quorum() {
    let mut node = Node::new(3, 4);
    node.receive(0, proposal(0, 0, &value(1)));
    node.prepare_from(0, 0, &value(1));
    let effects = node.prepare_from(1, 0, &value(2));
    assert!(!sent(&effects).iter().any(|message| matches!(message, Message::Commit(_))));
    node.commit_from(0, 0, &value(1));
    node.commit_from(1, 0, &value(2));
    node.commit_from(2, 0, &value(1));
    assert_eq!(node.decided(), None);
}

#[test]
fn votes_that_arrive_before_the_proposal_count_when_it_comes() {
    let mut node = Node::new(3, 4);
    node.prepare_from(0, 0, &value(1));
    node.prepare_from(1, 0, &value(1));
    let effects = node.receive(0, proposal(0, 0, &value(1)));
    assert!(sent(&effects).iter().any(|message| matches!(message, Message::Commit(_))));
    assert!(!notes(&effects).iter().any(|note| matches!(note, Note::Conflict(_))));
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
fn a_round_change_without_its_prepare_quorum_is_refused() {
    let mut node = Node::new(1, 4);
    let claim = aequa_types::RoundChange {
        change: change(2, 1, Some((0, &value(1)))),
        prepares: vec![prepare(0, 0, &value(1)), prepare(1, 0, &value(1))],
    };
    let effects = node.receive(2, Verified::RoundChange(claim));
    assert!(
        notes(&effects).contains(&Note::Refused(aequa_types::OperatorIndex(2), Refusal::BadJustification))
    );
    let duplicated = aequa_types::RoundChange {
        change: change(2, 1, Some((0, &value(1)))),
        prepares: vec![prepare(0, 0, &value(1)), prepare(1, 0, &value(1)), prepare(1, 0, &value(1))],
    };
    assert!(!notes(&node.receive(2, Verified::RoundChange(duplicated))).is_empty());
}

#[test]
fn prepared_in_its_own_round_or_later_is_no_claim() {
    let mut node = Node::new(1, 4);
    for round in [1, 2] {
        let effects = node.receive(2, round_change(2, 1, Some((round, &value(1)))));
        assert!(matches!(notes(&effects)[..], [Note::Refused(_, Refusal::BadJustification)]));
    }
}

#[test]
fn a_proposal_must_carry_the_highest_prepared_value() {
    let (old, new) = (value(1), value(2));
    let changes = vec![change(0, 3, Some((0, &old))), change(1, 3, Some((1, &new))), change(2, 3, None)];
    let mut node = Node::new(0, 4);
    let wrong = justified_proposal(3, 3, &old, changes.clone(), quorum_of(|i| prepare(i, 0, &old)));
    assert!(matches!(notes(&node.receive(3, wrong))[..], [Note::Refused(_, Refusal::BadJustification)]));
    let fresh = justified_proposal(3, 3, &value(9), changes.clone(), Vec::new());
    assert!(matches!(notes(&node.receive(3, fresh))[..], [Note::Refused(_, Refusal::BadJustification)]));
    let right = justified_proposal(3, 3, &new, changes, quorum_of(|i| prepare(i, 1, &new)));
    let effects = node.receive(3, right);
    assert!(sent(&effects).iter().any(|message| matches!(message, Message::Prepare(_))));
    assert_eq!(node.instance.round(), Round(3));
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
    let proposed = sent(&effects).into_iter().find_map(|message| match message {
        Message::PrePrepare(proposal) => proposal.proposal.digest(),
        _ => None,
    });
    assert_eq!(proposed, Some(new.digest()));
}

#[test]
fn a_justified_value_is_not_validated_again() {
    let stale = value(0); // would fail validation
    let changes = vec![change(0, 1, Some((0, &stale))), change(2, 1, None), change(3, 1, None)];
    let mut node = Node::new(2, 4);
    let message = justified_proposal(1, 1, &stale, changes, quorum_of(|i| prepare(i, 0, &stale)));
    let effects = node.receive(1, message);
    assert_eq!(node.host.validations, 0);
    assert!(sent(&effects).iter().any(|message| matches!(message, Message::Prepare(_))));
}

#[test]
fn an_invalid_fresh_value_is_never_prepared() {
    let mut node = Node::new(2, 4);
    let effects = node.receive(0, proposal(0, 0, &value(0)));
    assert!(sent(&effects).is_empty());
    assert!(matches!(notes(&effects)[..], [Note::Refused(_, Refusal::BadValue)]));
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
fn a_proposal_of_anyone_but_the_leader_changes_nothing() {
    let mut node = Node::new(2, 4);
    let before = node.instance.clone();
    let changes = vec![change(0, 5, None), change(1, 5, None), change(3, 5, None)];
    let effects = node.receive(3, justified_proposal(3, 5, &value(1), changes, Vec::new()));
    assert!(matches!(notes(&effects)[..], [Note::Refused(_, Refusal::NotLeader)]));
    assert_eq!(node.instance, before);
}

#[test]
fn an_unjustified_proposal_of_a_later_round_changes_nothing() {
    let mut node = Node::new(2, 4);
    let before = node.instance.clone();
    let two = vec![change(0, 1, None), change(3, 1, None)];
    for changes in [Vec::new(), two, vec![change(0, 1, None); 3], quorum_of(|i| change(i, 2, None))] {
        let effects = node.receive(1, justified_proposal(1, 1, &value(1), changes, Vec::new()));
        assert!(matches!(notes(&effects)[..], [Note::Refused(_, Refusal::BadJustification)]));
    }
    assert_eq!(node.instance, before);
}

#[test]
fn a_justification_of_another_instance_is_worthless() {
    let mut foreign = quorum_of(|i| change(i, 1, None));
    for change in &mut foreign {
        change.statement.instance.height.0 += 1;
    }
    let mut node = Node::new(2, 4);
    let effects = node.receive(1, justified_proposal(1, 1, &value(1), foreign, Vec::new()));
    assert!(matches!(notes(&effects)[..], [Note::Refused(_, Refusal::BadJustification)]));
}

#[test]
fn f_plus_1_operators_ahead_pull_a_node_to_the_smallest_of_their_rounds() {
    let mut node = Node::new(3, 4);
    node.receive(0, round_change(0, 9, None));
    assert_eq!(node.instance.round(), Round(0), "one operator may be lying");
    node.receive(1, round_change(1, 4, None));
    assert_eq!(node.instance.round(), Round(4));
    assert!(node.records().iter().any(|record| matches!(record, Record::Round(_))));
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
        assert_eq!(node.receive(0, round_change(0, round, None)), []);
    }
    assert_eq!(node.instance.round(), Round(0));
    node.receive(1, round_change(1, 2, None));
    assert_eq!(node.instance.round(), Round(2), "the smallest of f+1");
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
fn a_stale_timer_is_ignored() {
    let mut node = Node::new(3, 4);
    node.timeout();
    assert_eq!(node.instance.round(), Round(1));
    assert!(node.event(Event::Timeout(Round(0))).is_empty());
    assert_eq!(node.instance.round(), Round(1));
}

#[test]
fn a_new_leader_without_input_waits_for_it_and_keeps_its_quorum() {
    let mut node = Node::new(1, 4);
    node.timeout();
    node.receive(2, round_change(2, 1, None));
    let effects = node.receive(3, round_change(3, 1, None));
    assert!(effects.contains(&Effect::NeedInput(Round(1))));
    let effects = node.event(Event::Input { round: Round(1), value: value(5) });
    assert!(sent(&effects).iter().any(|message| matches!(message, Message::PrePrepare(_))));
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
    let own = sent(&effects).into_iter().find_map(|message| match message {
        Message::Commit(vote) => Some(vote),
        _ => None,
    });
    assert!(matches!(&own.unwrap().claim, Claim::Commit(commit) if commit.digest == certificate.digest));
}

#[test]
fn a_value_nobody_asked_for_is_not_kept() {
    let mut node = Node::new(3, 4);
    let before = node.instance.clone();
    node.receive(1, Verified::ValueReply { instance: INSTANCE, value: value(9) });
    assert_eq!(node.instance, before);
}

#[test]
fn every_vote_is_durable_before_it_is_sent() {
    let mut cluster = Cluster::new(4);
    cluster.start();
    cluster.settle_unless(|from, _, message| from == 0 && matches!(message, Message::Commit(_)));
    cluster.timeout(0..4);
    cluster.settle();
    for node in &cluster.nodes {
        let mut durable = Vec::new();
        for effect in &node.effects {
            match effect {
                Effect::Persist(record) => durable.extend(record.statement().cloned()),
                Effect::Broadcast(message) | Effect::Send(_, message) => {
                    let own = match message {
                        Message::Prepare(vote) | Message::Commit(vote) => Some(vote),
                        Message::RoundChange(change) => Some(&change.change),
                        Message::PrePrepare(proposal) => Some(&proposal.proposal),
                        _ => None,
                    };
                    assert!(own.is_none_or(|own| durable.contains(own)), "{message:?}");
                }
                _ => {}
            }
        }
    }
}

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
    let shown = sent(&effects).into_iter().find_map(|message| match message {
        Message::RoundChange(message) => Some(message),
        _ => None,
    });
    let shown = shown.unwrap();
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
    let empty = aequa_types::Value::duty(INSTANCE, aequa_types::ValueBytes(Vec::new().into()));
    cluster.nodes[0].input = Some(empty.clone());
    cluster.start();
    cluster.settle();
    assert_eq!(cluster.decisions(), vec![Some(empty.digest()); 4]);
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
    let effects = node.receive(1, round_change(1, 2, None));
    assert!(effects.contains(&Effect::SetTimer(Round(1))), "a higher round counts too");
    assert_eq!(timers(&node.receive(2, round_change(2, 1, None))), 0, "it is not started again");
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
    let proposal = sent(&effects).into_iter().find_map(|message| match message {
        Message::PrePrepare(proposal) => Some(proposal),
        _ => None,
    });
    let proposal = proposal.unwrap();
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
    let proposed = sent(&effects).into_iter().any(
        |message| matches!(message, Message::PrePrepare(m) if m.proposal.digest() == Some(value(1).digest())),
    );
    assert!(proposed);
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
    assert!(sent(&effects).iter().any(|message| matches!(message, Message::Commit(_))));
}
