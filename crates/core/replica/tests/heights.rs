//! One operator at one height: what it takes from its peers, what it keeps, and when its timers fire.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod common;

use aequa_replica::{Held, Input, Recovery, Timer};
use aequa_types::{
    ConsensusParams, Decision, Digest, Height, InstanceId, Message, OperatorIndex, Round, Seal, Value,
    Verified,
};
use common::{
    Effect, Operator, Outbound, StoreWrite, Tell, Work, at, block, blocks, change, commit, config, deliver,
    fetched, prepare, prepared, preprepare, proposal, replica, replica_of, round_change, sent, started,
    timers, transaction,
};

const FIRST: InstanceId = InstanceId::Block(Height(1));
/// Leader of round 0 of block 1, and of its round 1.
const LEADER: u8 = 1;
const NEXT_LEADER: u8 = 2;

#[test]
fn a_message_of_an_absurd_height_changes_no_state_and_no_timer() {
    let mut node = started(0, Recovery::default());
    let before = (node.held(), node.round_and_leader(), node.best_peer_height(), *node.chain().tip());
    let digest = Digest::repeat_byte(1);
    for height in [u64::MAX, 1 << 62, 1_000_000] {
        let far = InstanceId::Block(Height(height));
        let messages = [
            Verified::Prepare(prepare(far, 0, digest).by(3)),
            Verified::Commit(commit(far, u64::MAX, digest).by(3)),
            round_change(3, far, u64::MAX),
        ];
        for message in messages {
            for effect in deliver(&mut node, at(0), 3, message) {
                // It may ask the one who says so for proof; it believes nothing.
                assert!(matches!(
                    effect,
                    Effect::Send(Outbound::Fetch { from: OperatorIndex(3), .. })
                        | Effect::Tell(Tell::Notice(_))
                ));
            }
        }
    }
    let after = (node.held(), node.round_and_leader(), node.best_peer_height(), *node.chain().tip());
    assert_eq!(before, after);
}

#[test]
fn replicas_with_different_pools_vote_for_the_same_proposal() {
    let votes = [0, 3].map(|me| {
        let mut node =
            replica_of(aequa_replica::Config { builder: true, ..config(me, 4) }, Recovery::default());
        node.start(at(0));
        let held = (0..u64::from(me)).map(|nonce| (transaction(me, nonce), None)).collect();
        node.step(at(0), Input::Transactions(held));
        let value = Value::block(block(node.chain(), OperatorIndex(LEADER), at(0).wall_ms));
        prepared(&deliver(&mut node, at(0), LEADER, proposal(LEADER, FIRST, 0, value, &[])))
    });
    assert!(votes[0].is_some() && votes[0] == votes[1], "{votes:?}");
}

#[test]
fn a_block_prepared_before_is_judged_neither_by_the_clock_nor_as_the_new_leaders() {
    let mut node = started(0, Recovery::default());
    let value = Value::block(block(node.chain(), OperatorIndex(LEADER), at(0).wall_ms));
    let digest = value.digest();
    let hour_later = at(3_600_000);
    let fresh = proposal(LEADER, FIRST, 0, value.clone(), &[]);
    assert_eq!(prepared(&deliver(&mut node, hour_later, LEADER, fresh)), None, "too old for a fresh one");
    let again = Verified::PrePrepare {
        proposal: preprepare(FIRST, 1, digest).by(NEXT_LEADER),
        value,
        round_changes: [
            change(FIRST, 1, Some((0, digest))).by_each([1]),
            change(FIRST, 1, None).by_each(2..4),
        ]
        .concat(),
        prepares: prepare(FIRST, 0, digest).by_each(1..4),
    };
    assert_eq!(prepared(&deliver(&mut node, hour_later, NEXT_LEADER, again)), Some(digest));
}

#[test]
fn a_fresh_block_may_have_been_under_way_for_as_long_as_its_round() {
    let params = ConsensusParams::default();
    let round = 4;
    let within = params.round_timeout_ms << round;
    assert!(within > aequa_chain::FRESH_WITHIN_MS && within <= params.round_timeout_cap_ms);
    let leader = OperatorIndex((LEADER + round) % 4);
    let vote = |late_ms| {
        let mut node = started((leader.0 + 1) % 4, Recovery::default());
        let value = Value::block(block(node.chain(), leader, at(0).wall_ms));
        let message = proposal(leader.0, FIRST, u64::from(round), value, &[1, 2, 3]);
        prepared(&deliver(&mut node, at(late_ms), leader.0, message))
    };
    assert!(vote(within).is_some(), "as slow as the round is long");
    assert_eq!(vote(within + 1), None);
}

#[test]
fn round_timeouts_double_up_to_their_cap() {
    let params = ConsensusParams::default();
    let (base, cap) = (params.round_timeout_ms, params.round_timeout_cap_ms);
    let mut node = replica(0, Recovery::default());
    let started = |effects: &[Effect]| {
        let started = |timer: &Timer| match timer {
            Timer::Round { instance: FIRST, round } => Some(round.0),
            _ => None,
        };
        timers(effects).find_map(|(timer, at_ms)| Some((started(&timer)?, at_ms)))
    };
    let interval = params.block_interval_ms;
    assert_eq!(
        started(&node.start(at(0))),
        Some((0, base + interval)),
        "the leader first waits its interval"
    );
    for round in (1..20).chain([63, 64, 65, 1 << 40, u64::MAX - 1]) {
        let mut effects = Vec::new();
        for author in 1..4 {
            effects.extend(deliver(&mut node, at(5), author, round_change(author, FIRST, round)));
        }
        let expected = if round < 6 { base << round } else { cap };
        assert_eq!(started(&effects), Some((round, 5 + expected)), "round {round}");
    }
}

#[test]
fn the_newest_messages_are_sent_again_three_times_per_timeout_and_to_a_peer_that_connects() {
    let mut node = replica(0, Recovery::default());
    let resend = |effects: &[Effect]| {
        timers(effects).find_map(|(timer, at_ms)| (timer == Timer::Resend(FIRST)).then_some(at_ms))
    };
    let params = ConsensusParams::default();
    let third = (params.round_timeout_ms + params.block_interval_ms) / 3;
    assert_eq!(resend(&node.start(at(0))), Some(third));
    let value = Value::block(block(node.chain(), OperatorIndex(LEADER), at(0).wall_ms));
    let voted = third / 2;
    let effects = deliver(&mut node, at(voted), LEADER, proposal(LEADER, FIRST, 0, value, &[]));
    let vote: Vec<Message> = sent(&effects).into_iter().cloned().collect();
    assert!(matches!(vote[..], [Message::Prepare(_)]));
    assert_eq!(
        resend(&effects),
        Some(voted + third),
        "not before a third has passed since it was first sent"
    );
    let again = node.step(at(voted + third), Input::Timer(Timer::Resend(FIRST)));
    assert_eq!(sent(&again), vote.iter().collect::<Vec<_>>(), "as it was signed");
    assert_eq!(resend(&again), Some(voted + 2 * third));
    let connected = node.step(at(voted + third), Input::PeerConnected(OperatorIndex(2)));
    assert!(
        matches!(&connected[0], Effect::Send(Outbound::Send(OperatorIndex(2), message)) if *message == vote[0])
    );
    assert_eq!(sent(&connected).len(), 1);
}

#[test]
fn a_flood_of_messages_of_later_heights_is_kept_up_to_a_bound() {
    let mut node = started(0, Recovery::default());
    let mut number = 0u64;
    let mut flood = |node: &mut Operator, count: u64| -> Held {
        for _ in 0..count {
            number += 1;
            let mut digest = Digest::ZERO;
            digest[..8].copy_from_slice(&number.to_be_bytes());
            let id = InstanceId::Block(Height(1 + number % 50));
            let message = match number % 3 {
                0 => Verified::Prepare(prepare(id, number, digest).by(3)),
                1 => Verified::Commit(commit(id, number, digest).by(3)),
                _ => round_change(3, id, number),
            };
            deliver(node, at(0), 3, message);
        }
        node.held()
    };
    let full = flood(&mut node, 5_000);
    assert!(full.early_messages > 0);
    assert_eq!(flood(&mut node, 45_000), full);
    assert_eq!(full.early_messages, 4 * 16, "four heights of sixteen, for one operator");
}

#[test]
fn instances_of_past_heights_are_forgotten() {
    let mut node = started(0, Recovery::default());
    let mut most = 0;
    for block in blocks(120) {
        node.step(at(0), fetched(&[block]));
        most = most.max(node.held().block_instances);
    }
    assert_eq!(node.chain().tip().height, Height(120));
    assert!(most <= 34, "{most} instances of blocks");
}

#[test]
fn late_commits_decide_nothing_again() {
    let mut node = started(0, Recovery::default());
    let block = block(node.chain(), OperatorIndex(LEADER), at(0).wall_ms);
    let digest = block.digest();
    let mut effects = deliver(&mut node, at(0), LEADER, proposal(LEADER, FIRST, 0, Value::block(block), &[]));
    for author in 1..4 {
        effects.extend(deliver(
            &mut node,
            at(0),
            author,
            Verified::Prepare(prepare(FIRST, 0, digest).by(author)),
        ));
    }
    for author in [1, 2, 3, 1, 2, 3] {
        effects.extend(deliver(
            &mut node,
            at(0),
            author,
            Verified::Commit(commit(FIRST, 0, digest).by(author)),
        ));
    }
    let sealed = Input::Combined {
        decision: Decision { instance: FIRST, round: Round(0), digest },
        result: Ok(Seal::repeat_byte(1)),
    };
    effects.extend(node.step(at(0), sealed));
    let count = |wanted: fn(&Effect) -> bool| effects.iter().filter(|effect| wanted(effect)).count();
    assert_eq!(count(|effect| matches!(effect, Effect::Store(StoreWrite::Commit { .. }))), 1);
    assert_eq!(count(|effect| matches!(effect, Effect::Work(Work::Combine { .. }))), 1);
    assert_eq!(count(|effect| matches!(effect, Effect::Store(StoreWrite::Sealed(_)))), 1);
}
