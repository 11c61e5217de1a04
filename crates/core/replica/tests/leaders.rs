//! One function says who leads: whoever proposes, checks, or tells the status goes by it.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod common;

use aequa_replica::{Elector, Input, Recovery, RoundRobin, Ticket, Timer};
use aequa_types::{
    Domain, DutyId, DutyKind, Height, InstanceId, Message, OperatorIndex, Quorum, Round, Slot, Value,
    Verified,
};
use common::{
    Dice, Effect, Operator, StoreWrite, at, block, config, deliver, duty_value, has, prepared, proposal,
    replica_of, round_change, sent,
};

const SIZES: [usize; 5] = [1, 4, 7, 10, 13];

/// Written again, as the description has it.
fn expected(operators: usize, instance: InstanceId, round: u64) -> u8 {
    let domain = match instance.domain() {
        Domain::Block => 0,
        Domain::Duty(DutyKind::Attester) => 1,
        Domain::Duty(DutyKind::Proposer) => 2,
        Domain::Duty(DutyKind::Sync) => 3,
    };
    let operators = operators as u64;
    ((instance.number() % operators + domain + round % operators) % operators) as u8
}

#[test]
fn the_leader_is_height_plus_type_plus_round_modulo_n() {
    let mut dice = Dice(1);
    for _ in 0..10_000 {
        let operators = SIZES[dice.below(5)];
        let domain = Domain::ALL[dice.below(4)];
        let number = dice.below(1 << 62) as u64 >> dice.below(62);
        let round = dice.below(1 << 62) as u64 >> dice.below(62);
        let instance = domain.instance(number);
        let one = RoundRobin(Quorum::of(operators).unwrap()).leader(instance, Round(round));
        assert_eq!(one.0, expected(operators, instance, round), "{instance:?} round {round} n = {operators}");
    }
}

/// Operators other than `me`, as many as asked for.
fn others(me: u8, operators: usize, count: usize) -> Vec<u8> {
    (0..operators as u8).filter(|other| *other != me).take(count).collect()
}

/// An operator that was pulled to `round` of block 1, and what it did there.
fn in_round(me: u8, operators: usize, round: u64) -> (Operator, Vec<Effect>, Vec<u8>) {
    let quorum = Quorum::of(operators).unwrap();
    let mut replica = replica_of(config(me, operators), Recovery::default());
    let mut effects = replica.start(at(0));
    let changing = others(me, operators, quorum.quorum());
    if round > 0 {
        for author in &changing {
            let message = round_change(*author, InstanceId::Block(Height(1)), round);
            effects.extend(deliver(&mut replica, at(0), *author, message));
        }
    } else {
        effects.extend(replica.step(at(2000), Input::Timer(Timer::Propose(Height(1)))));
    }
    (replica, effects, changing)
}

#[test]
fn proposer_verifier_and_status_agree_on_the_leader_of_every_round() {
    let first = InstanceId::Block(Height(1));
    let mut dice = Dice(2);
    for case in 0..300 {
        let operators = SIZES[1 + dice.below(4)];
        let me = dice.below(operators) as u8;
        let round = if dice.below(4) == 0 { 0 } else { dice.below(1 << 40) as u64 >> dice.below(40) };
        let (replica, effects, changing) = in_round(me, operators, round);
        let leads = expected(operators, first, round);
        let told = format!("case {case}: operator {me} of {operators} in round {round}");
        assert_eq!(replica.round_and_leader(), (Round(round), OperatorIndex(leads)), "{told}");
        let proposes = sent(&effects).iter().any(
            |message| matches!(message, Message::PrePrepare(message) if message.proposal.round == Round(round)),
        );
        assert_eq!(proposes, leads == me, "{told}");
        // Of one block per operator, each by the rules its own, that of the leader alone gets a PREPARE.
        for author in others(me, operators, operators) {
            let (mut replica, _, _) = in_round(me, operators, round);
            let value = Value::block(block(replica.chain(), OperatorIndex(author), at(0).wall_ms));
            let digest = value.digest();
            let effects =
                deliver(&mut replica, at(0), author, proposal(author, first, round, value, &changing));
            let accepted = prepared(&effects) == Some(digest);
            assert_eq!(accepted, author == leads, "{told}, proposal of {author}");
        }
    }
}

#[test]
fn an_operator_alone_leads_every_round() {
    let (replica, effects, _) = in_round(0, 1, 0);
    assert!(has!(effects, Effect::Store(StoreWrite::Commit { .. })), "and decides by itself");
    assert_eq!(replica.round_and_leader(), (Round(0), OperatorIndex(0)));
}

#[test]
fn of_a_duty_too_the_leader_of_its_type_and_slot_alone_is_followed() {
    let mut dice = Dice(3);
    for _ in 0..300 {
        let operators = SIZES[1 + dice.below(4)];
        let slot = Slot(1000 + dice.below(1000) as u64);
        let duty = DutyId { kind: DutyKind::ALL[dice.below(3)], slot };
        let instance = InstanceId::from(duty);
        let me = dice.below(operators) as u8;
        let leads = expected(operators, instance, 0);
        let value = duty_value(duty, "1");
        let fresh = || {
            let mut replica = replica_of(config(me, operators), Recovery::default());
            replica.start(at(0));
            let input = Input::Duty { duty, value: value.clone(), ticket: Ticket(1) };
            let effects = replica.step(at(0), input);
            (replica, effects)
        };
        let proposes = has!(sent(&fresh().1), Message::PrePrepare(_));
        assert_eq!(proposes, leads == me, "{instance:?}, operator {me} of {operators}");
        for author in others(me, operators, operators) {
            let message: Verified = proposal(author, instance, 0, value.clone(), &[]);
            let effects = deliver(&mut fresh().0, at(0), author, message);
            let accepted = prepared(&effects) == Some(value.digest());
            assert_eq!(accepted, author == leads, "{instance:?}, operator {me} of {operators}");
        }
    }
}
