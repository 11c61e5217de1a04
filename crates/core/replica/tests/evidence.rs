//! Contradictions: noticed wherever they come in, spread, proposed, committed once.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod common;

use aequa_chain::Chain;
use aequa_replica::{Config, Input, Notice, Now, Recovery, SigningHistory, Ticket, Timer};
use aequa_testkit::{at, digest, vote};
use aequa_types::statement::{Claim, CommitClaim};
use aequa_types::{
    BuilderPolicy, CheckedBlock, CheckedEvidence, ConsensusParams, DutyId, DutyKind, Evidence, Height,
    InstanceId, Message, OperatorIndex, Record, Round, Seal, Signed, Slot, Value, Verified,
};
use common::{
    CLUSTER, Effect, Operator, Outbound, StoreWrite, Tell, broadcast, certificate, change, commit, config,
    duty_value, fetched, has, pick, quorum, replica, replica_of, round_change, started, timers,
};
use std::sync::Arc;

const TRAITOR: u8 = 3;

fn now() -> Now {
    common::at(0)
}

fn fresh(me: u8) -> Operator {
    started(me, Recovery::default())
}

fn prepare(author: u8, height: u64, round: u64, byte: u8) -> Signed {
    common::prepare(at(height), round, digest(byte)).by(author)
}

/// The block after `parents` that is first proposed in `round`; `later_ms` tells it from another.
fn block_of(
    round: u64,
    parents: &[Arc<CheckedBlock>],
    later_ms: u64,
    evidence: &[CheckedEvidence],
) -> Arc<CheckedBlock> {
    let mut chain = Chain::genesis(CLUSTER, quorum());
    parents.iter().for_each(|parent| drop(chain.apply(parent).unwrap()));
    let height = chain.tip().height.next().0;
    let (proposer, policy) = (OperatorIndex(((height + round) % 4) as u8), BuilderPolicy::default().hash());
    let built = chain.build_block(proposer, 1_000_000 + height + later_ms, policy, Vec::new(), evidence);
    Arc::new(built.unwrap())
}

fn block_on(parents: &[Arc<CheckedBlock>], later_ms: u64, evidence: &[CheckedEvidence]) -> Arc<CheckedBlock> {
    block_of(0, parents, later_ms, evidence)
}

fn proposal(block: &Arc<CheckedBlock>, round: u64, changing: &[u8]) -> Verified {
    let instance = InstanceId::Block(block.header().height);
    let author = (instance.number() + round) % 4;
    common::proposal(author as u8, instance, round, Value::block(block.clone()), changing)
}

fn deliver(replica: &mut Operator, from: u8, message: Verified) -> Vec<Effect> {
    common::deliver(replica, now(), from, message)
}

/// A PREPARE of the traitor, from itself.
fn hear(replica: &mut Operator, height: u64, round: u64, byte: u8) -> Vec<Effect> {
    deliver(replica, TRAITOR, Verified::Prepare(prepare(TRAITOR, height, round, byte)))
}

/// Evidence the effects tell of; what is told is spread too, and given to the host to keep.
fn found(effects: &[Effect]) -> Vec<CheckedEvidence> {
    let told: Vec<CheckedEvidence> =
        pick!(effects, Effect::Tell(Tell::Notice(Notice::Evidence(evidence))) => evidence.clone()).collect();
    let spread: Vec<CheckedEvidence> =
        pick!(effects, Effect::Send(Outbound::GossipEvidence(evidence)) => evidence.clone()).collect();
    assert_eq!(told, spread);
    let kept = has!(effects, Effect::Store(StoreWrite::KeepEvidence(_)));
    assert_eq!(kept, !told.is_empty());
    told
}

fn double_vote(height: u64, round: u64) -> CheckedEvidence {
    aequa_testkit::double_vote(TRAITOR, at(height), round)
}

#[test]
fn b1_honest_messages_in_any_order_and_number_are_no_evidence() {
    let mut replica = fresh(0);
    let block = block_on(&[], 0, &[]);
    let vote = common::prepare(at(1), 0, block.digest());
    let mut effects = Vec::new();
    for _ in 0..100 {
        // Votes before the proposal, PREPARE and COMMIT of one digest, later rounds, all again and again.
        for author in [2, 3] {
            effects.extend(deliver(&mut replica, author, Verified::Prepare(vote.by(author))));
            let commit = commit(at(1), 0, block.digest()).by(author);
            effects.extend(deliver(&mut replica, author, Verified::Commit(commit)));
            effects.extend(deliver(&mut replica, author, Verified::Prepare(prepare(author, 1, 1, 9))));
            effects.extend(deliver(&mut replica, author, round_change(author, at(1), 2)));
        }
        effects.extend(deliver(&mut replica, 1, proposal(&block, 0, &[])));
    }
    assert_eq!(found(&effects), []);
    assert_eq!(replica.held().evidence, 0);
}

#[test]
fn b1_commits_that_differ_in_their_seal_share_alone_are_no_evidence() {
    let mut replica = fresh(0);
    let sealed = |seal| {
        let claim = CommitClaim { digest: digest(1), seal: Some(Seal::repeat_byte(seal)) };
        Verified::Commit(vote(at(1), 0, Claim::Commit(claim)).by(3))
    };
    let effects = [1, 2].map(|seal| deliver(&mut replica, 3, sealed(seal))).concat();
    assert_eq!(found(&effects), []);
}

#[test]
fn b1_a_restarted_operator_that_sends_its_stored_messages_again_is_not_accused() {
    let vote = prepare(0, 1, 0, 1);
    let recovery = Recovery { records: vec![Record::Prepare(vote.clone())], ..Recovery::default() };
    let mut restarted = replica(0, recovery);
    let resent = restarted.start(now());
    assert!(has!(resent, Effect::Send(Outbound::Broadcast(Message::Prepare(sent))) if *sent == vote));
    let mut other = fresh(1);
    for message in [vote.clone(), vote] {
        assert_eq!(found(&deliver(&mut other, 0, Verified::Prepare(message))), []);
    }
}

#[test]
fn b2_two_votes_are_told_spread_and_kept_once_whichever_came_first() {
    for (first, second) in [(1, 2), (2, 1)] {
        let mut replica = fresh(0);
        hear(&mut replica, 1, 0, first);
        let effects = deliver(&mut replica, 2, Verified::Prepare(prepare(TRAITOR, 1, 0, second)));
        assert_eq!(found(&effects), [double_vote(1, 0)]);
        assert_eq!(found(&hear(&mut replica, 1, 0, second)), []);
        assert_eq!(found(&replica.step(now(), Input::Evidence(double_vote(1, 0)))), [], "known here");
        assert!(replica.pending_evidence().eq([&double_vote(1, 0)]));
    }
}

#[test]
fn gossiped_evidence_is_told_and_spread_once() {
    let mut replica = fresh(0);
    assert_eq!(found(&replica.step(now(), Input::Evidence(double_vote(1, 0)))), [double_vote(1, 0)]);
    assert_eq!(found(&replica.step(now(), Input::Evidence(double_vote(1, 0)))), []);
}

#[test]
fn b2_two_proposals_of_a_leader_are_evidence() {
    let mut replica = fresh(0);
    assert_eq!(found(&deliver(&mut replica, 1, proposal(&block_on(&[], 0, &[]), 0, &[]))), []);
    let effects = deliver(&mut replica, 1, proposal(&block_on(&[], 1, &[]), 0, &[]));
    assert_eq!(found(&effects).len(), 1);
    assert_eq!(found(&effects)[0].offence().operator, OperatorIndex(1));
}

#[test]
fn b2_a_second_proposal_that_pulled_the_node_up_or_comes_unjustified_is_compared_too() {
    let mut replica = fresh(0);
    let jump = proposal(&block_of(1, &[], 0, &[]), 1, &[1, 2, 3]);
    assert_eq!(found(&deliver(&mut replica, 2, jump)), []);
    assert_eq!(replica.round_and_leader().0, Round(1));
    let unjustified = proposal(&block_of(1, &[], 1, &[]), 1, &[]);
    assert_eq!(found(&deliver(&mut replica, 2, unjustified)).len(), 1);
}

#[test]
fn votes_of_a_round_that_is_over_are_compared() {
    let mut replica = fresh(0);
    hear(&mut replica, 1, 0, 1);
    deliver(&mut replica, 1, round_change(1, at(1), 5));
    deliver(&mut replica, 2, round_change(2, at(1), 5));
    assert_eq!(replica.round_and_leader().0, Round(5));
    assert_eq!(found(&hear(&mut replica, 1, 0, 2)), [double_vote(1, 0)]);
}

#[test]
fn two_round_changes_of_one_round_are_evidence_also_inside_a_justification() {
    let mut replica = fresh(0);
    deliver(&mut replica, 3, round_change(TRAITOR, at(1), 1));
    let mut message = proposal(&block_on(&[], 0, &[]), 1, &[]);
    if let Verified::PrePrepare { round_changes, .. } = &mut message {
        round_changes.push(change(at(1), 1, Some((0, digest(7)))).by(TRAITOR));
    }
    let effects = deliver(&mut replica, 2, message);
    assert_eq!(found(&effects).len(), 1);
}

#[test]
fn a_prepare_inside_a_justification_is_compared_with_the_one_sent_here() {
    let mut replica = fresh(0);
    hear(&mut replica, 1, 0, 1);
    let Verified::RoundChange(mut message) = round_change(2, at(1), 1) else { unreachable!() };
    message.prepares = vec![prepare(TRAITOR, 1, 0, 2)];
    assert_eq!(found(&deliver(&mut replica, 2, Verified::RoundChange(message))), [double_vote(1, 0)]);
}

#[test]
fn a_commit_inside_a_certificate_is_compared_with_the_one_sent_here() {
    for by_fetch in [false, true] {
        let mut replica = fresh(3);
        let block = block_on(&[], 0, &[]);
        deliver(&mut replica, 2, Verified::Commit(commit(at(1), 0, digest(9)).by(2)));
        let effects = match by_fetch {
            false => deliver(&mut replica, 1, Verified::Decided(certificate(&block))),
            true => replica.step(now(), fetched(&[block])),
        };
        assert_eq!(found(&effects).len(), 1, "fetched: {by_fetch}");
    }
}

#[test]
fn what_comes_after_the_decision_is_still_compared_and_what_is_forgotten_is_not() {
    let mut replica = fresh(0);
    hear(&mut replica, 1, 0, 1);
    let mut blocks = vec![block_on(&[], 0, &[])];
    replica.step(now(), fetched(&blocks));
    assert_eq!(replica.chain().tip().height, Height(1));
    let late = Input::Statement(prepare(TRAITOR, 1, 0, 2));
    assert_eq!(found(&replica.step(now(), late)), [double_vote(1, 0)]);

    for _ in 0..40 {
        let next = block_on(&blocks, 0, &[]);
        replica.step(now(), fetched(std::slice::from_ref(&next)));
        blocks.push(next);
    }
    let before = replica.held().statements;
    for byte in [1, 2] {
        let old = Input::Statement(prepare(TRAITOR, 2, 0, byte));
        assert_eq!(found(&replica.step(now(), old)), []);
    }
    assert_eq!(replica.held().statements, before, "nothing is kept of a height that is forgotten");
}

#[test]
fn votes_of_a_height_that_has_not_begun_are_compared() {
    let mut replica = fresh(0);
    hear(&mut replica, 3, 0, 1);
    assert_eq!(found(&hear(&mut replica, 3, 0, 2)), [double_vote(3, 0)]);
}

#[test]
fn what_the_log_holds_of_others_is_compared_after_a_restart() {
    let mine = |author| prepare(author, 1, 0, 1);
    let prepared = aequa_types::record::PreparedRecord {
        instance: at(1),
        round: Round(0),
        digest: digest(1),
        prepares: vec![mine(0), mine(2), mine(TRAITOR)],
    };
    let recovery = Recovery { records: vec![Record::Prepared(prepared)], ..Recovery::default() };
    let mut replica = started(0, recovery);
    assert_eq!(found(&hear(&mut replica, 1, 0, 2)), [double_vote(1, 0)]);
}

#[test]
fn contradictions_about_duties_count_too() {
    let mut replica = fresh(0);
    let duty = DutyId { kind: DutyKind::Attester, slot: Slot(5) };
    let value = |text: &str| duty_value(duty, text);
    let vote = |text: &str| common::prepare(duty, 0, value(text).digest()).by(TRAITOR);
    replica.step(now(), Input::Duty { duty, value: value("1"), ticket: Ticket(1) });
    assert_eq!(found(&deliver(&mut replica, 3, Verified::Prepare(vote("1")))), []);
    let effects = deliver(&mut replica, 3, Verified::Prepare(vote("2")));
    assert_eq!(found(&effects)[0].offence().key.instance, duty.into());
}

#[test]
fn a_leader_proposes_what_is_pending_and_it_is_dropped_when_committed() {
    // Operator 1 leads height 1.
    let mut leader = fresh(1);
    leader.step(now(), Input::Evidence(double_vote(1, 0)));
    let effects = leader.step(now(), Input::Timer(Timer::Propose(Height(1))));
    let proposed =
        pick!(effects, Effect::Tell(Tell::Notice(Notice::Proposed { block, .. })) => block.clone()).next();
    let block = proposed.unwrap();
    assert_eq!(block.evidence(), [Evidence::clone(&double_vote(1, 0))]);

    let mut other = fresh(0);
    other.step(now(), Input::Evidence(double_vote(1, 0)));
    let effects = other.step(now(), fetched(&[block]));
    assert!(has!(effects, Effect::Store(StoreWrite::KeepEvidence(left)) if left.is_empty()));
    assert_eq!(other.held().evidence, 0);
    let again = other.step(now(), Input::Evidence(double_vote(1, 0)));
    assert_eq!(found(&again), [], "it is in the chain");
}

#[test]
fn a_proposal_with_evidence_that_is_in_the_chain_already_is_not_prepared() {
    let first = block_on(&[], 0, &[double_vote(1, 0)]);
    let honest = block_on(std::slice::from_ref(&first), 0, &[double_vote(1, 1)]);
    let mut inner = honest.block().clone();
    inner.evidence = first.block().evidence.clone();
    inner.header.evidence_root = inner.evidence_root();
    let stale = Arc::new(CheckedBlock::attest(inner, Vec::new()));
    for (block, prepared) in [(stale, false), (honest, true)] {
        let mut replica = fresh(0);
        replica.step(now(), fetched(std::slice::from_ref(&first)));
        let effects = deliver(&mut replica, 2, proposal(&block, 0, &[]));
        let voted = has!(broadcast(&effects), Message::Prepare(_));
        assert_eq!(voted, prepared);
    }
}

#[test]
fn without_empty_blocks_evidence_is_work_for_the_leader_and_grounds_for_the_others() {
    let params = ConsensusParams { empty_blocks: false, ..ConsensusParams::default() };
    let idle = |me| {
        let config = Config { params: params.clone(), ..config(me, 4) };
        let mut replica = replica_of(config, Recovery::default());
        let effects = replica.start(now());
        assert!(!timers(&effects).any(|(timer, _)| matches!(timer, Timer::Propose(_))));
        replica
    };
    let mut leader = idle(1);
    let effects = leader.step(now(), Input::Evidence(double_vote(1, 0)));
    let due = Timer::Propose(Height(1));
    assert!(timers(&effects).any(|(timer, _)| timer == due));
    let effects = leader.step(now(), Input::Timer(due));
    assert!(has!(broadcast(&effects), Message::PrePrepare(_)));

    for (evidence, prepared) in [(vec![double_vote(1, 0)], true), (vec![], false)] {
        let effects = deliver(&mut idle(0), 1, proposal(&block_on(&[], 0, &evidence), 0, &[]));
        let voted = has!(broadcast(&effects), Message::Prepare(_));
        assert_eq!(voted, prepared);
    }
}

#[test]
fn evidence_is_spread_to_who_connects_while_the_members_are_still_asked() {
    let mut replica = started(0, Recovery { history: SigningHistory::Unverified, ..Recovery::default() });
    assert_eq!(found(&replica.step(now(), Input::Evidence(double_vote(1, 0)))).len(), 1);
    let effects = replica.step(now(), Input::PeerConnected(OperatorIndex(2)));
    assert!(replica.is_rejoining());
    assert!(has!(effects, Effect::Send(Outbound::GossipEvidence(_))));
}

#[test]
fn one_traitor_takes_only_its_own_room() {
    let mut replica = fresh(0);
    for round in 0..200 {
        replica.step(now(), Input::Evidence(double_vote(1, round)));
    }
    assert_eq!(replica.held().evidence, aequa_types::limits::EVIDENCE_PER_OPERATOR_MAX);
    let other = aequa_testkit::double_vote(2, at(1), 0);
    assert_eq!(found(&replica.step(now(), Input::Evidence(other.clone()))), [other]);
}

#[test]
fn pending_evidence_of_an_earlier_life_is_spread_and_proposed_again() {
    let recovery = Recovery { evidence: vec![double_vote(1, 0)], ..Recovery::default() };
    let mut replica = replica(1, recovery);
    let effects = replica.start(now());
    assert!(has!(effects, Effect::Send(Outbound::GossipEvidence(_))));
    assert!(replica.pending_evidence().eq([&double_vote(1, 0)]));
    let effects = replica.step(now(), Input::PeerConnected(OperatorIndex(2)));
    assert!(has!(effects, Effect::Send(Outbound::GossipEvidence(_))), "who was away hears of it");
}
