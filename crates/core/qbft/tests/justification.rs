//! What makes a PREPREPARE and a ROUND-CHANGE believable, and that everything else changes nothing.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod common;

use aequa_qbft::{Event, Note, Refusal};
use aequa_types::{
    DutyKind, InstanceId, Message, OperatorIndex, Record, Round, RoundChange, Signed, Slot, Verified,
};
use common::*;

/// A ROUND-CHANGE of operator 2 into round 1 that claims `value(1)` prepared in round 0.
fn claim(prepares: Vec<Signed>) -> Verified {
    Verified::RoundChange(RoundChange { change: change(2, 1, Some((0, &value(1)))), prepares })
}

/// Foreign in one respect each: height, domain.
fn foreign(signed: Signed) -> [Signed; 2] {
    let (mut height, mut domain) = (signed.clone(), signed);
    height.statement.instance = height.statement.instance.next();
    domain.statement.instance = InstanceId::duty(DutyKind::Sync, Slot(INSTANCE.number()));
    [height, domain]
}

/// Every one of these messages is refused with a bad justification and leaves the instance as it was.
fn all_are_refused(mut node: Node, from: u8, messages: impl IntoIterator<Item = Verified>) {
    let before = node.instance.clone();
    for message in messages {
        let effects = node.receive(from, message.clone());
        let refused = Note::Refused(OperatorIndex(from), Refusal::BadJustification);
        assert_eq!(notes(&effects), [refused], "{message:?}");
        assert_eq!(node.instance, before, "{message:?}");
    }
}

#[test]
fn a_round_change_without_its_prepare_quorum_is_refused() {
    let prepares = |authors: &[u8]| authors.iter().map(|i| prepare(*i, 0, &value(1))).collect::<Vec<_>>();
    let mixed = |third: Signed| [prepares(&[0, 1]), vec![third]].concat();
    let mut messages = vec![
        claim(Vec::new()),
        claim(prepares(&[0, 1])),
        claim(prepares(&[0, 1, 1])),
        claim(prepares(&[0, 1, 4])),
        claim(mixed(prepare(2, 0, &value(2)))),
        claim(mixed(prepare(2, 1, &value(1)))),
        claim(mixed(commit(2, 0, &value(1)))),
        // Nothing is claimed, so nothing is to be proven.
        Verified::RoundChange(RoundChange { change: change(2, 1, None), prepares: prepares(&[0, 1, 2]) }),
    ];
    messages.extend(foreign(prepare(2, 0, &value(1))).map(|third| claim(mixed(third))));
    all_are_refused(Node::new(1, 4), 2, messages);
    let mut node = Node::new(1, 4);
    assert_eq!(notes(&node.receive(2, claim(prepares(&[0, 1, 3])))), []);
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
    assert!(has!(sent(&effects), Message::Prepare(_)));
    assert_eq!(node.instance.round(), Round(3));
}

#[test]
fn a_justified_value_is_not_validated_again() {
    let stale = value(0); // would fail validation
    let changes = vec![change(0, 1, Some((0, &stale))), change(2, 1, None), change(3, 1, None)];
    let mut node = Node::new(2, 4);
    let message = justified_proposal(1, 1, &stale, changes, quorum_of(|i| prepare(i, 0, &stale)));
    let effects = node.receive(1, message);
    assert_eq!(node.host.validations, 0);
    assert!(has!(sent(&effects), Message::Prepare(_)));
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
fn a_justification_of_another_height_domain_round_or_kind_is_worthless() {
    let fresh = |third| {
        let changes = vec![change(0, 1, None), change(1, 1, None), third];
        justified_proposal(1, 1, &value(1), changes, Vec::new())
    };
    let again = |third| {
        let changes = vec![change(0, 1, Some((0, &value(1)))), change(1, 1, None), change(3, 1, None)];
        let prepares = vec![prepare(0, 0, &value(1)), prepare(1, 0, &value(1)), third];
        justified_proposal(1, 1, &value(1), changes, prepares)
    };
    let mut messages = vec![
        fresh(change(3, 2, None)),
        fresh(prepare(3, 1, &value(1))),
        fresh(change(1, 1, None)),
        fresh(change(4, 1, None)),
        again(prepare(3, 1, &value(1))),
        again(prepare(3, 0, &value(2))),
        again(commit(3, 0, &value(1))),
        again(prepare(1, 0, &value(1))),
        again(prepare(4, 0, &value(1))),
    ];
    messages.extend(foreign(change(3, 1, None)).map(fresh));
    messages.extend(foreign(prepare(3, 0, &value(1))).map(again));
    all_are_refused(Node::new(2, 4), 1, messages);
    for good in [fresh(change(3, 1, None)), again(prepare(3, 0, &value(1)))] {
        let effects = Node::new(2, 4).receive(1, good);
        assert!(has!(sent(&effects), Message::Prepare(_)));
    }
}

#[test]
fn a_proposal_cannot_rest_on_something_prepared_in_its_own_round_or_later() {
    let messages = [1, 2].map(|round| {
        let changes = vec![change(0, 1, Some((round, &value(1)))), change(1, 1, None), change(3, 1, None)];
        justified_proposal(1, 1, &value(1), changes, quorum_of(|i| prepare(i, round, &value(1))))
    });
    all_are_refused(Node::new(2, 4), 1, messages);
}

#[test]
fn of_two_digests_at_the_highest_prepared_round_the_one_with_the_quorum_counts() {
    let (true_one, false_one) = (value(1), value(2));
    // The claim of operator 0 is a lie, which its bare statement does not show.
    for order in [[0, 1, 3], [3, 1, 0]] {
        let changes = order.map(|author| match author {
            0 => change(0, 2, Some((1, &false_one))),
            author => change(author, 2, Some((1, &true_one))),
        });
        let quorum = quorum_of(|i| prepare(i, 1, &true_one));
        let lie = justified_proposal(2, 2, &false_one, changes.to_vec(), quorum.clone());
        all_are_refused(Node::new(3, 4), 2, [lie]);
        let right = justified_proposal(2, 2, &true_one, changes.to_vec(), quorum);
        let effects = Node::new(3, 4).receive(2, right);
        assert!(has!(sent(&effects), Message::Prepare(_)), "{order:?}");
    }
}

#[test]
fn a_proposal_of_round_0_needs_no_justification_and_has_none() {
    let changes = vec![change(0, 0, None), change(1, 0, None), change(3, 0, None)];
    let bare = |changes, prepares| justified_proposal(0, 0, &value(1), changes, prepares);
    let messages = [bare(changes, Vec::new()), bare(Vec::new(), quorum_of(|i| prepare(i, 0, &value(1))))];
    all_are_refused(Node::new(2, 4), 0, messages);
}

#[test]
fn fewer_prepares_than_q_justify_nothing_where_2f_plus_1_are_fewer() {
    for (operators, quorum) in [(5, 4), (6, 4), (8, 6), (9, 6)] {
        let votes = |count| (0..count).map(|i| prepare(i, 0, &value(1))).collect::<Vec<_>>();
        let claim = |count| {
            let change = change(2, 1, Some((0, &value(1))));
            Verified::RoundChange(RoundChange { change, prepares: votes(count) })
        };
        let again = |count| {
            let changes = (1..=quorum).map(|i| change(i, 1, Some((0, &value(1))))).collect();
            justified_proposal(1, 1, &value(1), changes, votes(count))
        };
        all_are_refused(Node::new(0, operators), 2, [claim(quorum - 1)]);
        all_are_refused(Node::new(0, operators), 1, [again(quorum - 1)]);
        assert_eq!(notes(&Node::new(0, operators).receive(2, claim(quorum))), [], "n = {operators}");
        let effects = Node::new(0, operators).receive(1, again(quorum));
        assert!(has!(sent(&effects), Message::Prepare(_)));
    }
}

#[test]
fn a_prepared_value_that_the_host_does_not_repeat_is_neither_prepared_nor_proposed_again() {
    let prepared = value(1);
    let mut node = Node::new(2, 4);
    node.host.repeats = false;
    let changes = [0, 1, 3].map(|i| change(i, 1, Some((0, &prepared)))).to_vec();
    let effects = node
        .receive(1, justified_proposal(1, 1, &prepared, changes, quorum_of(|i| prepare(i, 0, &prepared))));
    assert_eq!(notes(&effects), [Note::Refused(OperatorIndex(1), Refusal::BadValue("first byte".into()))]);
    assert!(sent(&effects).is_empty());

    let mut leader = Node::new(1, 4);
    leader.host.repeats = false;
    leader.input = Some(value(11));
    leader.receive(0, proposal(0, 0, &prepared));
    leader.timeout();
    let effects: Vec<_> = [0, 2, 3]
        .into_iter()
        .flat_map(|from| leader.receive(from, round_change(from, 1, Some((0, &prepared)))))
        .collect();
    assert_eq!(proposed(&effects), None, "neither the prepared value nor another one");
}

#[test]
fn what_comes_in_the_own_name_changes_nothing() {
    let (me, mine) = (OperatorIndex(2), value(1));
    let mut node = Node::new(2, 4);
    let messages = [
        justified_proposal(
            2,
            2,
            &mine,
            vec![change(0, 2, None), change(1, 2, None), change(3, 2, None)],
            vec![],
        ),
        Verified::Prepare(prepare(2, 0, &mine)),
        Verified::Commit(commit(2, 0, &mine)),
        round_change(2, 1, None),
    ];
    let before = node.instance.clone();
    for message in messages {
        let effects = node.receive(1, message.clone());
        assert_eq!(notes(&effects), [Note::Refused(OperatorIndex(1), Refusal::OwnName)], "{message:?}");
        assert_eq!(node.instance, before, "{message:?}");
    }
    assert_eq!(node.host.me, me);
}

#[test]
fn a_proposal_in_the_own_name_while_the_input_is_awaited_leads_to_one_prepare() {
    let mut node = Node::new(2, 4);
    node.receive(0, round_change(0, 2, None));
    node.receive(1, round_change(1, 2, None));
    let changes = vec![change(0, 2, None), change(1, 2, None), change(3, 2, None)];
    node.receive(1, justified_proposal(2, 2, &value(1), changes, Vec::new()));
    node.event(Event::Input { round: Round(2), value: value(3) });
    let records = node.records();
    let prepared: Vec<_> = pick!(records, Record::Prepare(vote) => vote.digest()).flatten().collect();
    assert_eq!(prepared, [value(3).digest()]);
}
