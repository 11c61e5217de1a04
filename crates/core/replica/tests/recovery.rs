//! What a replica makes of what a restart found.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod common;

use aequa_chain::Chain;
use aequa_replica::{Halt, Input, Now, Recovery};
use aequa_types::statement::{Claim, CommitClaim};
use aequa_types::{
    Certificate, CheckedBlock, Digest, DutyId, DutyKind, Height, InstanceId, Message, OperatorIndex, Record,
    Round, Seal, Signature, Signed, Slot, Statement, Value, Verified,
};
use common::{
    CLUSTER, EPOCH_MS, Effect, Outbound, StoreWrite, Work, blocks, certificate, fetched, prepare, proposed,
    quorum, replica,
};
use std::sync::Arc;

fn now() -> Now {
    common::at(0)
}

fn commit(block: &CheckedBlock, author: u8) -> Signed {
    common::commit(author, InstanceId::Block(block.header().height), 0, block.digest())
}

fn committed(effects: &[Effect]) -> Vec<u64> {
    effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Store(StoreWrite::Commit { block, .. }) => Some(block.header().height.0),
            _ => None,
        })
        .collect()
}

#[test]
fn a_decision_of_the_log_is_executed_as_soon_as_its_parent_was_fetched() {
    let blocks = blocks(2);
    let second = InstanceId::Block(Height(2));
    let recovery = Recovery {
        records: vec![Record::Decided(certificate(&blocks[1]))],
        values: vec![(second, Value::block(blocks[1].clone()))],
        ..Recovery::default()
    };
    let mut replica = replica(0, recovery);
    assert_eq!(committed(&replica.start(now())), [] as [u64; 0], "its parent is missing");
    let effects = replica.step(now(), fetched(&blocks[..1]));
    assert_eq!(committed(&effects), [1, 2]);
    assert_eq!(replica.chain().tip().height, Height(2));
}

#[test]
fn shares_that_came_before_the_height_began_count_for_its_seal() {
    let blocks = blocks(2);
    let mut replica = replica(0, Recovery::default());
    replica.start(now());
    let instance = InstanceId::Block(Height(2));
    let mut deliver = |from: u8, message: Verified| {
        replica.step(now(), Input::Message { from: OperatorIndex(from), message })
    };
    // What operators 1 and 2 hand over decides, together with the own COMMIT, before 3 is looked at.
    deliver(1, common::proposal(2, instance, 0, Value::block(blocks[1].clone()), &[]));
    for author in [1, 2] {
        deliver(1, Verified::Prepare(prepare(author, instance, 0, blocks[1].digest())));
    }
    for author in [1, 2, 3] {
        deliver(author, Verified::Commit(commit(&blocks[1], author)));
    }
    let first = InstanceId::Block(Height(1));
    let effects = deliver(2, Verified::Decided(certificate(&blocks[0])));
    assert!(committed(&effects).is_empty(), "the value is missing");
    let value = Verified::ValueReply { instance: first, value: Value::block(blocks[0].clone()) };
    let effects = deliver(2, value);
    assert_eq!(committed(&effects), [1, 2]);
    let bad =
        Input::Combined { decision: certificate(&blocks[1]).decision(), result: Err(vec![OperatorIndex(1)]) };
    let effects = replica.step(now(), bad);
    let combined = effects.iter().find_map(|effect| match effect {
        Effect::Work(Work::Combine { shares, .. }) => {
            Some(shares.iter().map(|(author, _)| author.0).collect())
        }
        _ => None,
    });
    assert_eq!(combined, Some(vec![0, 2, 3]));
}

#[test]
fn a_node_that_fetched_a_sealed_block_adds_its_share_too() {
    let blocks = blocks(1);
    let mut replica = replica(3, Recovery::default());
    replica.start(now());
    // Who gave it away may have kept the seal from the others.
    let proof = aequa_types::Proof::Group(Seal::repeat_byte(1));
    let sealed = Certificate { proof, ..certificate(&blocks[0]) };
    let effects = replica
        .step(now(), Input::Fetched { from: OperatorIndex(1), blocks: vec![(blocks[0].clone(), sealed)] });
    assert!(effects.iter().any(|effect| {
        matches!(effect, Effect::Send(Outbound::Broadcast(Message::Commit(vote))) if vote.author == OperatorIndex(3))
    }));
}

#[test]
fn a_node_that_fetched_an_unsealed_block_adds_its_share() {
    let blocks = blocks(1);
    let mut replica = replica(3, Recovery::default());
    replica.start(now());
    let effects = replica.step(now(), fetched(&blocks[..1]));
    assert!(effects.iter().any(|effect| {
        matches!(effect, Effect::Send(Outbound::Broadcast(Message::Commit(vote)))
            if vote.author == OperatorIndex(3) && vote.digest() == Some(blocks[0].digest()))
    }));
    let blamed =
        Input::Combined { decision: certificate(&blocks[0]).decision(), result: Err(vec![OperatorIndex(1)]) };
    let effects = replica.step(now(), blamed);
    assert!(
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::Work(Work::Combine { shares, .. }) if shares.len() == 3))
    );
}

fn own_prepare(height: u64) -> Verified {
    Verified::Prepare(prepare(0, InstanceId::Block(Height(height)), 0, Digest::repeat_byte(9)))
}

#[test]
fn a_statement_of_ours_that_we_did_not_make_stops_the_node() {
    let mut replica = replica(0, Recovery::default());
    replica.start(now());
    let message = own_prepare(1);
    let effects = replica.step(now(), Input::Message { from: OperatorIndex(1), message });
    assert!(
        matches!(
            &effects[..],
            [
                Effect::RaiseFloors(_),
                Effect::Halt(Halt::SignedElsewhere { instance: InstanceId::Block(Height(1)), .. })
            ]
        ),
        "{effects:?}"
    );
}

#[test]
fn what_an_earlier_life_signed_below_the_log_is_neither_an_alarm_nor_signed_again() {
    let floors = vec![InstanceId::Block(Height(3))];
    let mut replica = replica(0, Recovery { floors, ..Recovery::default() });
    replica.start(now());
    for height in 1..=3 {
        let message = own_prepare(height);
        let effects = replica.step(now(), Input::Message { from: OperatorIndex(1), message });
        assert!(!effects.iter().any(|effect| matches!(effect, Effect::Halt(_))), "height {height}");
        assert!(!effects.iter().any(|effect| matches!(effect, Effect::Persist(_))), "height {height}");
    }
}

/// A block of height 1 other than the one of [`blocks`].
fn other_block() -> Arc<CheckedBlock> {
    common::block(&Chain::genesis(CLUSTER, quorum()), OperatorIndex(1), EPOCH_MS + 9)
}

fn own(height: u64, round: u64, claim: Claim) -> Statement {
    let instance = InstanceId::Block(Height(height));
    Statement { instance, round: Round(round), author: OperatorIndex(0), claim }
}

fn statements(effects: &[Effect]) -> Vec<Statement> {
    let records = effects.iter().filter_map(|effect| match effect {
        Effect::Persist(record) => record.statement(),
        _ => None,
    });
    records.map(|signed| signed.statement.clone()).collect()
}

#[test]
fn where_the_log_lost_a_vote_its_mark_lets_only_the_same_vote_pass() {
    let (lost, other) = (blocks(1).swap_remove(0), other_block());
    let voted = own(1, 0, Claim::Prepare(lost.digest()));
    for (block, expected) in [(&lost, vec![voted.clone()]), (&other, vec![])] {
        let mut replica = replica(0, Recovery { marks: vec![voted.mark()], ..Recovery::default() });
        replica.start(now());
        let effects = replica.step(now(), proposed(block));
        assert_eq!(statements(&effects), expected);
    }
}

#[test]
fn a_commit_that_the_log_lost_is_not_hidden_by_a_later_round_change() {
    let block = blocks(1).swap_remove(0);
    let claim = Claim::Commit(CommitClaim { digest: block.digest(), seal: Some(Seal::repeat_byte(3)) });
    let mark = own(1, 0, claim).mark();
    let mut replica = replica(0, Recovery { marks: vec![mark], ..Recovery::default() });
    replica.start(now());
    let instance = InstanceId::Block(Height(1));
    let timeout = Input::Timer(aequa_replica::Timer::Round { instance, round: Round(0) });
    let effects = replica.step(now(), timeout);
    assert_eq!(statements(&effects), [], "it would say that nothing was prepared");
    let mut deliver = |from: u8, message: Verified| {
        replica.step(now(), Input::Message { from: OperatorIndex(from), message })
    };
    for author in [1, 2, 3] {
        deliver(author, Verified::Commit(commit(&block, author)));
    }
    let effects = deliver(1, Verified::ValueReply { instance, value: Value::block(block.clone()) });
    assert_eq!(committed(&effects), [1], "it still learns of the decision");
}

#[test]
fn every_signature_leaves_its_mark_before_anything_is_sent() {
    let block = blocks(1).swap_remove(0);
    let mut replica = replica(0, Recovery::default());
    replica.start(now());
    let effects = replica.step(now(), proposed(&block));
    let marks: Vec<_> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Mark(mark) => Some(*mark),
            _ => None,
        })
        .collect();
    let signed: Vec<_> = statements(&effects).iter().map(Statement::mark).collect();
    assert_eq!(marks, signed);
    assert_eq!(marks.len(), 1);
}

#[test]
fn the_log_holds_own_votes_only_and_none_that_the_gate_refused() {
    let block = blocks(1).swap_remove(0);
    let refused = own(1, 0, Claim::Commit(CommitClaim { digest: Digest::repeat_byte(9), seal: None })).mark();
    let mut replica = replica(0, Recovery { marks: vec![refused], ..Recovery::default() });
    let mut effects = replica.start(now());
    effects.extend(replica.step(now(), proposed(&block)));
    let instance = InstanceId::Block(Height(1));
    for author in 1..4 {
        let message = Verified::Prepare(prepare(author, instance, 0, block.digest()));
        effects.extend(replica.step(now(), Input::Message { from: OperatorIndex(author), message }));
    }
    let voted = statements(&effects);
    assert_eq!(voted, [own(1, 0, Claim::Prepare(block.digest()))], "the COMMIT was refused");
    let prepared = effects.iter().any(|effect| matches!(effect, Effect::Persist(Record::Prepared(_))));
    assert!(prepared, "there was a quorum to commit to");
    assert!(
        !effects.iter().any(|effect| matches!(effect, Effect::Send(Outbound::Broadcast(Message::Commit(_)))))
    );
}

#[test]
fn votes_of_a_height_that_sync_brings_are_not_made_again_and_the_next_height_goes_on() {
    let blocks = blocks(2);
    let digest = blocks[0].digest();
    let voted = Signed { statement: own(1, 0, Claim::Prepare(digest)), signature: Signature::ZERO };
    let recovery = Recovery { records: vec![Record::Prepare(voted)], ..Recovery::default() };
    let mut replica = replica(0, recovery);
    replica.start(now());
    // Sealed and long past: no share is asked for.
    replica.step(now(), Input::PeerHeight { from: OperatorIndex(1), height: Height(100) });
    replica.step(now(), Input::PeerHeight { from: OperatorIndex(2), height: Height(100) });
    let effects = replica.step(now(), fetched(&blocks[..1]));
    assert_eq!((committed(&effects), statements(&effects)), (vec![1], vec![]));
    let effects = replica.step(now(), proposed(&blocks[1]));
    assert_eq!(statements(&effects), [own(2, 0, Claim::Prepare(blocks[1].digest()))]);
}

#[test]
fn below_the_first_height_of_the_log_nothing_is_signed_after_a_restart() {
    let vote = prepare(0, InstanceId::Block(Height(5)), 0, Digest::repeat_byte(9));
    let mut replica = replica(0, Recovery { records: vec![Record::Prepare(vote)], ..Recovery::default() });
    replica.start(now());
    assert_eq!(replica.signing_floors().collect::<Vec<_>>(), [InstanceId::Block(Height(4))]);
    let effects = replica.step(now(), proposed(&blocks(1)[0]));
    let signs = |effect: &Effect| matches!(effect, Effect::Mark(_));
    assert!(!effects.iter().any(signs), "what it signed at height 1 is pruned, and unknown: {effects:?}");
}

#[test]
fn a_duty_watermark_is_a_signing_floor_after_a_restart() {
    let duty = InstanceId::duty(DutyKind::Sync, Slot(7));
    let vote = prepare(0, duty, 0, Digest::repeat_byte(9));
    let recovery = Recovery {
        records: vec![Record::Prepare(vote.clone())],
        duty_watermarks: vec![DutyId { kind: DutyKind::Sync, slot: Slot(9) }],
        ..Recovery::default()
    };
    let mut replica = replica(0, recovery);
    replica.start(now());
    assert!(replica.signing_floors().any(|floor| floor == InstanceId::duty(DutyKind::Sync, Slot(9))));
    let foreign = prepare(0, duty, 3, Digest::repeat_byte(8));
    let effects = common::deliver(&mut replica, now(), 1, Verified::Prepare(foreign));
    assert!(effects.is_empty(), "too old to tell whether it made it: {effects:?}");
}

#[test]
fn what_was_heard_of_others_comes_back_and_says_nothing_of_the_own_log() {
    let vote = |height| prepare(2, InstanceId::Block(Height(height)), 0, Digest::repeat_byte(9));
    let records = vec![Record::Heard(vote(2)), Record::Heard(vote(1))];
    let mut replica = replica(0, Recovery { records, ..Recovery::default() });
    replica.start(now());
    assert_eq!(replica.newest_statements_of(OperatorIndex(2)), [vote(2)]);
    assert!(
        replica.signing_floors().all(|floor| floor == InstanceId::Block(Height(0))),
        "height 1 was not begun"
    );
    assert_eq!(replica.held().block_instances, 1);
    let effects = replica.step(now(), proposed(&blocks(1)[0]));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Mark(_))));
}

/// With nobody known to be ahead, every share may be the one that is needed. The guard closes what lies 32 heights below
/// the tip, so shares are given before the next block is executed.
#[test]
fn every_block_of_a_long_answer_gets_its_share() {
    let blocks = blocks(64);
    let mut replica = replica(3, Recovery::default());
    replica.start(now());
    let effects = replica.step(now(), fetched(&blocks));
    let shares: Vec<InstanceId> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Send(Outbound::Broadcast(Message::Commit(vote))) => Some(vote.instance),
            _ => None,
        })
        .collect();
    assert_eq!(shares, (1..=64).map(|height| InstanceId::Block(Height(height))).collect::<Vec<_>>());
}
