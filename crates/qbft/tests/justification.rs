//! What makes a PREPREPARE and a ROUND-CHANGE believable, and that everything else changes nothing.
#![allow(clippy::unwrap_used)]

mod common;

use aequa_qbft::{Note, Refusal};
use aequa_types::{Message, Round, Verified};
use common::*;

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
