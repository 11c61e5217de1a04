//! What a replica makes of what a restart found.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod common;

use aequa_chain::Chain;
use aequa_replica::{Halt, Input, Now, Recovery};
use aequa_testkit::{at, digest};
use aequa_types::{
    Certificate, CheckedBlock, Digest, DutyId, DutyKind, Height, InstanceId, Message, OperatorIndex, Record,
    Round, Seal, Signed, Slot, Statement, Value, Verified,
};
use common::{
    CLUSTER, EPOCH_MS, Effect, StoreWrite, Work, blocks, broadcast, certificate, fetched, has, pick, prepare,
    proposed, quorum, records, replica, started,
};
use std::sync::Arc;

fn now() -> Now {
    common::at(0)
}

fn commit(block: &CheckedBlock, author: u8) -> Signed {
    common::commit(InstanceId::Block(block.header().height), 0, block.digest()).by(author)
}

fn committed(effects: &[Effect]) -> Vec<u64> {
    pick!(effects, Effect::Store(StoreWrite::Commit { block, .. }) => block.header().height.0).collect()
}

#[test]
fn a_decision_of_the_log_is_executed_as_soon_as_its_parent_was_fetched() {
    let blocks = blocks(2);
    let second = at(2);
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
    let mut replica = started(0, Recovery::default());
    let instance = at(2);
    let mut deliver = |from: u8, message: Verified| {
        replica.step(now(), Input::Message { from: OperatorIndex(from), message })
    };
    // What operators 1 and 2 hand over decides, together with the own COMMIT, before 3 is looked at.
    deliver(1, common::proposal(2, instance, 0, Value::block(blocks[1].clone()), &[]));
    for author in [1, 2] {
        deliver(1, Verified::Prepare(prepare(instance, 0, blocks[1].digest()).by(author)));
    }
    for author in [1, 2, 3] {
        deliver(author, Verified::Commit(commit(&blocks[1], author)));
    }
    let first = at(1);
    let effects = deliver(2, Verified::Decided(certificate(&blocks[0])));
    assert!(committed(&effects).is_empty(), "the value is missing");
    let value = Verified::ValueReply { instance: first, value: Value::block(blocks[0].clone()) };
    let effects = deliver(2, value);
    assert_eq!(committed(&effects), [1, 2]);
    let bad =
        Input::Combined { decision: certificate(&blocks[1]).decision(), result: Err(vec![OperatorIndex(1)]) };
    let effects = replica.step(now(), bad);
    let shares = pick!(effects, Effect::Work(Work::Combine { shares, .. }) => shares).next().unwrap();
    assert_eq!(shares.iter().map(|(author, _)| author.0).collect::<Vec<_>>(), [0, 2, 3]);
}

#[test]
fn a_node_that_fetched_a_sealed_block_adds_its_share_too() {
    let blocks = blocks(1);
    let mut replica = started(3, Recovery::default());
    // Who gave it away may have kept the seal from the others.
    let proof = aequa_types::Proof::Group(Seal::repeat_byte(1));
    let sealed = Certificate { proof, ..certificate(&blocks[0]) };
    let effects = replica
        .step(now(), Input::Fetched { from: OperatorIndex(1), blocks: vec![(blocks[0].clone(), sealed)] });
    assert!(has!(broadcast(&effects), Message::Commit(vote) if vote.author == OperatorIndex(3)));
}

#[test]
fn a_node_that_fetched_an_unsealed_block_adds_its_share() {
    let blocks = blocks(1);
    let mut replica = started(3, Recovery::default());
    let effects = replica.step(now(), fetched(&blocks[..1]));
    assert!(broadcast(&effects).contains(&&Message::Commit(commit(&blocks[0], 3))));
    let blamed =
        Input::Combined { decision: certificate(&blocks[0]).decision(), result: Err(vec![OperatorIndex(1)]) };
    let effects = replica.step(now(), blamed);
    assert!(has!(effects, Effect::Work(Work::Combine { shares, .. }) if shares.len() == 3));
}

fn own_prepare(height: u64) -> Verified {
    Verified::Prepare(prepare(at(height), 0, digest(9)).by(0))
}

#[test]
fn a_statement_of_ours_that_we_did_not_make_stops_the_node() {
    let mut replica = started(0, Recovery::default());
    let message = own_prepare(1);
    let effects = replica.step(now(), Input::Message { from: OperatorIndex(1), message });
    assert!(
        matches!(
            &effects[..],
            [
                Effect::RaiseWatermarks(_),
                Effect::Halt(Halt::SignedElsewhere { instance: InstanceId::Block(Height(1)), .. })
            ]
        ),
        "{effects:?}"
    );
}

#[test]
fn what_an_earlier_life_signed_below_the_log_is_neither_an_alarm_nor_signed_again() {
    let watermarks = vec![at(3)];
    let mut replica = started(0, Recovery { watermarks, ..Recovery::default() });
    for height in 1..=3 {
        let message = own_prepare(height);
        let effects = replica.step(now(), Input::Message { from: OperatorIndex(1), message });
        assert!(!has!(effects, Effect::Halt(_)), "height {height}");
        assert!(!has!(effects, Effect::Persist(_)), "height {height}");
    }
}

/// A block of height 1 other than the one of [`blocks`].
fn other_block() -> Arc<CheckedBlock> {
    common::block(&Chain::genesis(CLUSTER, quorum()), OperatorIndex(1), EPOCH_MS + 9)
}

fn own_vote(height: u64, digest: Digest) -> Statement {
    prepare(at(height), 0, digest).statement(0)
}

fn statements(effects: &[Effect]) -> Vec<Statement> {
    records(effects).iter().filter_map(Record::statement).map(|signed| signed.statement.clone()).collect()
}

#[test]
fn where_the_log_lost_a_vote_its_mark_lets_only_the_same_vote_pass() {
    let (lost, other) = (blocks(1).swap_remove(0), other_block());
    let voted = own_vote(1, lost.digest());
    for (block, expected) in [(&lost, vec![voted.clone()]), (&other, vec![])] {
        let mut replica = started(0, Recovery { votes: vec![voted.vote_root()], ..Recovery::default() });
        let effects = replica.step(now(), proposed(block));
        assert_eq!(statements(&effects), expected);
    }
}

#[test]
fn a_commit_that_the_log_lost_is_not_hidden_by_a_later_round_change() {
    let block = blocks(1).swap_remove(0);
    let vote = commit(&block, 0).vote_root();
    let mut replica = started(0, Recovery { votes: vec![vote], ..Recovery::default() });
    let instance = at(1);
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
    let mut replica = started(0, Recovery::default());
    let effects = replica.step(now(), proposed(&block));
    let votes: Vec<_> = pick!(effects, Effect::Vote(vote) => *vote).collect();
    let signed: Vec<_> = statements(&effects).iter().map(Statement::vote_root).collect();
    assert_eq!(votes, signed);
    assert_eq!(votes.len(), 1);
}

#[test]
fn the_log_holds_own_votes_only_and_none_that_the_gate_refused() {
    let block = blocks(1).swap_remove(0);
    let refused = aequa_testkit::commit(at(1), 0, digest(9)).statement(0).vote_root();
    let mut replica = replica(0, Recovery { votes: vec![refused], ..Recovery::default() });
    let mut effects = replica.start(now());
    effects.extend(replica.step(now(), proposed(&block)));
    let instance = at(1);
    for author in 1..4 {
        let message = Verified::Prepare(prepare(instance, 0, block.digest()).by(author));
        effects.extend(replica.step(now(), Input::Message { from: OperatorIndex(author), message }));
    }
    let voted = statements(&effects);
    assert_eq!(voted, [own_vote(1, block.digest())], "the COMMIT was refused");
    let prepared = has!(effects, Effect::Persist(Record::Prepared(_)));
    assert!(prepared, "there was a quorum to commit to");
    assert!(!has!(broadcast(&effects), Message::Commit(_)));
}

#[test]
fn votes_of_a_height_that_sync_brings_are_not_made_again_and_the_next_height_goes_on() {
    let blocks = blocks(2);
    let voted = prepare(at(1), 0, blocks[0].digest()).by(0);
    let recovery = Recovery { records: vec![Record::Prepare(voted)], ..Recovery::default() };
    let mut replica = started(0, recovery);
    // Sealed and long past: no share is asked for.
    replica.step(now(), Input::PeerHeight { from: OperatorIndex(1), height: Height(100) });
    replica.step(now(), Input::PeerHeight { from: OperatorIndex(2), height: Height(100) });
    let effects = replica.step(now(), fetched(&blocks[..1]));
    assert_eq!((committed(&effects), statements(&effects)), (vec![1], vec![]));
    let effects = replica.step(now(), proposed(&blocks[1]));
    assert_eq!(statements(&effects), [own_vote(2, blocks[1].digest())]);
}

#[test]
fn below_the_first_height_of_the_log_nothing_is_signed_after_a_restart() {
    let vote = prepare(at(5), 0, digest(9)).by(0);
    let mut replica = started(0, Recovery { records: vec![Record::Prepare(vote)], ..Recovery::default() });
    assert_eq!(replica.signing_watermarks().collect::<Vec<_>>(), [at(4)]);
    let effects = replica.step(now(), proposed(&blocks(1)[0]));
    let signs = |effect: &Effect| matches!(effect, Effect::Vote(_));
    assert!(!effects.iter().any(signs), "what it signed at height 1 is pruned, and unknown: {effects:?}");
}

#[test]
fn a_duty_watermark_is_a_signing_watermark_after_a_restart() {
    let duty = InstanceId::duty(DutyKind::Sync, Slot(7));
    let vote = prepare(duty, 0, digest(9)).by(0);
    let recovery = Recovery {
        records: vec![Record::Prepare(vote.clone())],
        duty_watermarks: vec![DutyId { kind: DutyKind::Sync, slot: Slot(9) }],
        ..Recovery::default()
    };
    let mut replica = started(0, recovery);
    assert!(
        replica.signing_watermarks().any(|watermark| watermark == InstanceId::duty(DutyKind::Sync, Slot(9)))
    );
    let foreign = prepare(duty, 3, digest(8)).by(0);
    let effects = common::deliver(&mut replica, now(), 1, Verified::Prepare(foreign));
    assert!(effects.is_empty(), "too old to tell whether it made it: {effects:?}");
}

#[test]
fn what_was_heard_of_others_comes_back_and_says_nothing_of_the_own_log() {
    let vote = |height| prepare(at(height), 0, digest(9)).by(2);
    let records = vec![Record::Heard(vote(2)), Record::Heard(vote(1))];
    let mut replica = started(0, Recovery { records, ..Recovery::default() });
    assert_eq!(replica.newest_statements_of(OperatorIndex(2)), [vote(2)]);
    assert!(replica.signing_watermarks().all(|watermark| watermark == at(0)), "height 1 was not begun");
    assert_eq!(replica.held().block_instances, 1);
    let effects = replica.step(now(), proposed(&blocks(1)[0]));
    assert!(has!(effects, Effect::Vote(_)));
}

/// With nobody known to be ahead, every share may be the one that is needed. The guard closes what lies 32 heights below
/// the tip, so shares are given before the next block is executed.
#[test]
fn every_block_of_a_long_answer_gets_its_share() {
    let blocks = blocks(64);
    let mut replica = started(3, Recovery::default());
    let effects = replica.step(now(), fetched(&blocks));
    let shares: Vec<InstanceId> =
        pick!(broadcast(&effects), Message::Commit(vote) => vote.instance).collect();
    assert_eq!(shares, (1..=64).map(at).collect::<Vec<_>>());
}
