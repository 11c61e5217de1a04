//! Where an epoch ends, and where the next begins.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod common;

use aequa_replica::{Config, Input, Recovery, SigningHistory};
use aequa_types::sync::CheckedTestimony;
use aequa_types::{DutyId, DutyKind, Height, InstanceId, Message, OperatorIndex, Slot, Verified};
use common::{
    Effect, Operator, Outbound, Work, at, blocks, commit, config, deliver, fetched, prepare, proposed,
    replica_of, sent, started,
};

fn heights(effects: &[Effect]) -> Vec<u64> {
    sent(effects)
        .into_iter()
        .filter_map(|message| message.instance().height())
        .map(|height| height.0)
        .collect()
}

fn ended_after(last: u64) -> Operator {
    let mut node = started(0, Recovery::default());
    node.step(at(0), Input::EndEpoch(Height(last)));
    assert_eq!(node.last_height(), Some(Height(last)));
    node
}

#[test]
fn nothing_is_signed_or_begun_above_the_last_height() {
    let chain = blocks(4);
    let mut node = ended_after(2);
    node.step(at(1), fetched(&chain[..2]));
    assert!(node.has_epoch_ended());
    let mut effects = node.step(at(2), proposed(&chain[2]));
    for voter in 1..4 {
        let vote = commit(InstanceId::Block(Height(3)), 0, chain[2].digest()).by(voter);
        effects.extend(deliver(&mut node, at(3), voter, Verified::Commit(vote)));
    }
    assert_eq!(heights(&effects), [0; 0], "not even where a quorum has committed");
    assert_eq!(node.chain().tip().height, Height(2));
    assert_eq!(node.held().early_messages, 0);
}

#[test]
fn blocks_of_the_next_epoch_are_neither_asked_for_nor_executed() {
    let chain = blocks(4);
    let mut node = ended_after(2);
    let mut effects = node.step(at(1), fetched(&chain));
    for peer in 1..4 {
        effects.extend(node.step(at(9), Input::PeerHeight { from: OperatorIndex(peer), height: Height(9) }));
    }
    let asked = effects
        .iter()
        .any(|effect| matches!(effect, Effect::Send(Outbound::Fetch { height, .. }) if height.0 > 2));
    assert!(!asked);
    assert_eq!(node.chain().tip().height, Height(2));
}

#[test]
fn an_end_is_promised_where_nothing_above_it_is_decided_and_none_may_be() {
    let chain = blocks(3);
    let mut node = started(0, Recovery::default());
    node.step(at(1), fetched(&chain[..2]));
    node.step(at(2), Input::EndEpoch(Height(1)));
    assert_eq!(node.last_height(), None, "height 2 is decided");
    // It has prepared height 3, and so may others: without its COMMIT that decides nothing.
    assert_eq!(heights(&node.step(at(2), proposed(&chain[2]))), [3]);
    node.step(at(3), Input::EndEpoch(Height(2)));
    assert_eq!(node.last_height(), Some(Height(2)));
    let mut effects = Vec::new();
    for voter in 1..4 {
        let vote = prepare(InstanceId::Block(Height(3)), 0, chain[2].digest()).by(voter);
        effects.extend(deliver(&mut node, at(4), voter, Verified::Prepare(vote)));
    }
    assert_eq!(heights(&effects), [0; 0], "it does not commit any more");

    let mut node = started(0, Recovery::default());
    node.step(at(1), fetched(&chain[..2]));
    node.step(at(2), proposed(&chain[2]));
    let mut effects = Vec::new();
    for voter in 1..3 {
        let vote = prepare(InstanceId::Block(Height(3)), 0, chain[2].digest()).by(voter);
        effects.extend(deliver(&mut node, at(3), voter, Verified::Prepare(vote)));
    }
    assert!(sent(&effects).iter().any(|message| matches!(message, Message::Commit(_))));
    node.step(at(4), Input::EndEpoch(Height(2)));
    assert_eq!(node.last_height(), None, "two others may have committed too");
    node.step(at(4), Input::EndEpoch(Height(3)));
    assert_eq!(node.last_height(), Some(Height(3)));
}

#[test]
fn whoever_the_members_have_left_behind_signs_nothing_and_goes_no_further() {
    let chain = blocks(3);
    let mut node = started(0, Recovery::default());
    node.step(at(1), fetched(&chain[..1]));
    node.step(at(2), Input::Superseded);
    let mut effects = node.step(at(3), proposed(&chain[1]));
    effects.extend(node.step(at(4), fetched(&chain[1..])));
    assert_eq!(heights(&effects), [0; 0]);
    assert_eq!(node.chain().tip().height, Height(1), "what it would believe is not what they decide by");
    // With their lock at hand it follows to where it begins, and still signs nothing.
    node.step(at(5), Input::EndEpoch(Height(2)));
    let effects = node.step(at(6), fetched(&chain[1..]));
    assert_eq!(node.chain().tip().height, Height(2));
    assert_eq!(heights(&effects), [0; 0]);
}

#[test]
fn a_later_end_lets_an_epoch_go_on_that_had_ended() {
    let chain = blocks(3);
    let mut node = ended_after(2);
    node.step(at(1), fetched(&chain[..2]));
    assert!(node.has_epoch_ended());
    node.step(at(2), Input::EndEpoch(Height(9)));
    assert_eq!(heights(&node.step(at(3), proposed(&chain[2]))), [3], "it prepares the next block");
}

#[test]
fn a_promise_binds_the_next_start() {
    let mut node = replica_of(Config { last_height: Some(Height(1)), ..config(0, 4) }, Recovery::default());
    node.start(at(0));
    let chain = blocks(2);
    node.step(at(1), fetched(&chain[..1]));
    assert_eq!(heights(&node.step(at(2), proposed(&chain[1]))), [0; 0]);
}

fn of_second_epoch(me: u8, history: SigningHistory) -> Operator {
    let config = Config { first_height: Height(3), ..config(me, 4) };
    let mut node = replica_of(config, Recovery { history, ..Recovery::default() });
    node.start(at(0));
    node
}

#[test]
fn what_earlier_operators_decided_is_fetched_and_neither_voted_on_nor_sealed() {
    let chain = blocks(3);
    let mut node = of_second_epoch(0, SigningHistory::Trusted);
    let mut effects = node.step(at(1), proposed(&chain[0]));
    effects.extend(node.step(at(2), fetched(&chain[..2])));
    assert_eq!(heights(&effects), [0; 0]);
    let combines = |effects: &[Effect]| {
        effects.iter().any(|effect| matches!(effect, Effect::Work(Work::Combine { .. })))
    };
    assert!(!combines(&effects), "their shares are worth nothing now");
    let effects = node.step(at(3), proposed(&chain[2]));
    assert!(
        sent(&effects).iter().any(|message| matches!(message, Message::Prepare(_))),
        "height 3 is its own"
    );
}

fn nothing_seen(from: u8, bound: &[InstanceId]) -> Input {
    let testimony = CheckedTestimony { certified: Vec::new(), signed: Vec::new(), bound: bound.to_vec() };
    Input::Testimony { from: OperatorIndex(from), testimony }
}

#[test]
fn a_newcomer_votes_on_blocks_at_once_and_abstains_from_duties_that_may_have_begun() {
    let mut node = of_second_epoch(0, SigningHistory::Newcomer);
    node.step(at(1), fetched(&blocks(2)));
    assert!(node.is_rejoining());
    let reached = InstanceId::Duty(DutyId { kind: DutyKind::Attester, slot: Slot(100) });
    node.step(at(2), nothing_seen(1, &[reached]));
    assert!(node.is_rejoining(), "one answer of two");
    node.step(at(2), nothing_seen(2, &[reached]));
    assert!(!node.is_rejoining());
    let effects = node.step(at(3), proposed(&blocks(3)[2]));
    assert_eq!(heights(&effects), [3], "it prepares the first block of its epoch");
    let watermarks: Vec<InstanceId> = node.signing_watermarks().collect();
    for kind in DutyKind::ALL {
        assert!(watermarks.contains(&InstanceId::duty(kind, Slot(164))), "{kind:?}");
    }
    assert!(!watermarks.contains(&InstanceId::Block(Height(4))), "{watermarks:?}");
}
