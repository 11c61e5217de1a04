//! Which duties begin, end, come back and are told of.

#![allow(clippy::unwrap_used)]

mod common;

use aequa_replica::{
    DUTIES_OPEN_MAX, DUTY_SLOTS_AHEAD, DutyAdmission, Effect, Input, Recall, Recovery, Replica, Ticket,
    Timer, leader,
};
use aequa_types::message::{ValueReply, ValueRequest};
use aequa_types::record::{PreparedRecord, ValueRecord};
use aequa_types::{
    Certificate, Domain, Height, InstanceId, Message, OperatorIndex, Record, Round, Seal, Signed, Value,
    ValueBytes, Verified,
};
use common::{PlainKeys, at, prepare, quorum};

const ME: OperatorIndex = OperatorIndex(0);

fn duty(slot: u64) -> InstanceId {
    InstanceId { domain: Domain::Sync, height: Height(slot) }
}

fn value(id: InstanceId, text: &str) -> Value {
    Value::duty(id, ValueBytes(text.as_bytes().into()))
}

/// Operator 0 after its first step, with what that step did.
fn started(recovery: Recovery) -> (Replica<PlainKeys>, Vec<Effect>) {
    let mut replica = common::replica(ME.0, recovery);
    let effects = replica.start(at(0));
    (replica, effects)
}

fn fresh() -> Replica<PlainKeys> {
    started(Recovery::default()).0
}

fn commit(author: u8, value: &Value, id: InstanceId) -> Signed {
    common::commit(author, id, 0, value.digest())
}

fn certificate(id: InstanceId, value: &Value) -> Certificate {
    let commits: Vec<Signed> = (1..4).map(|author| commit(author, value, id)).collect();
    Certificate::from_commits(id, Round(0), value.digest(), &commits)
}

fn round_change(author: u8, id: InstanceId) -> Verified {
    common::round_change(author, id, 1)
}

fn candidate(id: InstanceId, text: &str) -> Verified {
    Verified::ValueReply { instance: id, value: value(id, text) }
}

fn deliver(replica: &mut Replica<PlainKeys>, from: u8, message: Verified) -> Vec<Effect> {
    common::deliver(replica, at(0), from, message)
}

fn post(replica: &mut Replica<PlainKeys>, id: InstanceId, text: &str) -> (DutyAdmission, Vec<Effect>) {
    let effects =
        replica.step(at(0), Input::Duty { instance: id, value: value(id, text), ticket: Ticket(1) });
    let admission = effects.iter().find_map(|effect| match effect {
        Effect::DutyReply(_, admission) => Some(*admission),
        _ => None,
    });
    (admission.unwrap(), effects)
}

/// Lets a duty be decided by a certificate; gives the watermark stored with it.
fn decide(replica: &mut Replica<PlainKeys>, id: InstanceId) -> Option<Height> {
    post(replica, id, "1");
    let decided = Verified::Decided(certificate(id, &value(id, "1")));
    let mut effects = deliver(replica, 1, decided);
    effects.extend(deliver(replica, 1, candidate(id, "1")));
    let stored = effects.into_iter().find_map(|effect| match effect {
        Effect::CommitDuty { instance, watermark, .. } if instance == id => Some(watermark),
        _ => None,
    });
    stored.unwrap()
}

fn proposed(effects: &[Effect]) -> Option<ValueBytes> {
    effects.iter().find_map(|effect| match effect {
        Effect::Broadcast(Message::PrePrepare(proposal)) => Some(proposal.value.clone()),
        _ => None,
    })
}

fn recalls(effects: &[Effect]) -> Vec<(OperatorIndex, Recall)> {
    let recall = |effect: &Effect| match effect {
        Effect::RecallDuty { to, recall, .. } => Some((*to, *recall)),
        _ => None,
    };
    effects.iter().filter_map(recall).collect()
}

/// The first slot from `from` on whose round 0 this operator leads.
fn led_by_me(from: u64) -> InstanceId {
    (from..).map(duty).find(|id| leader(quorum(), *id, Round(0)) == ME).unwrap()
}

#[test]
fn questions_and_late_votes_open_nothing() {
    let mut replica = fresh();
    for slot in 0..500 {
        let id = duty((1 << 61) + slot);
        let near = duty(slot);
        for id in [id, near] {
            let digest = value(id, "1").digest();
            deliver(&mut replica, 3, Verified::ValueRequest(ValueRequest { instance: id, digest }));
            deliver(&mut replica, 3, Verified::Commit(commit(3, &value(id, "1"), id)));
            deliver(&mut replica, 3, Verified::Decided(certificate(id, &value(id, "1"))));
        }
    }
    assert_eq!(replica.held().duty_instances, 0);
}

#[test]
fn one_member_opens_its_share_and_leaves_room_for_the_others() {
    let mut replica = fresh();
    for slot in 0..1000 {
        deliver(&mut replica, 3, candidate(duty(slot), "1"));
        deliver(&mut replica, 3, round_change(3, duty(2000 + slot)));
    }
    assert_eq!(replica.held().duty_instances, DUTIES_OPEN_MAX / 4);
    deliver(&mut replica, 1, candidate(duty(5000), "1"));
    assert!(replica.duty(duty(5000)).is_some());
    for slot in 6000..6000 + DUTIES_OPEN_MAX as u64 {
        assert_eq!(post(&mut replica, duty(slot), "1").0, DutyAdmission::Accepted);
    }
    assert_eq!(post(&mut replica, duty(9000), "1").0, DutyAdmission::Overloaded);
}

#[test]
fn one_member_cannot_move_the_window_and_two_can() {
    let far = duty(9_000_000);
    let mut replica = fresh();
    deliver(&mut replica, 3, candidate(far, "1"));
    for slot in [9_000_000, 1 << 61] {
        deliver(&mut replica, 3, round_change(3, duty(slot)));
    }
    assert_eq!(replica.held().duty_instances, 0, "nothing is known, and one member says so");
    deliver(&mut replica, 2, candidate(far, "1"));
    assert!(replica.duty(far).is_some(), "a fresh node joins what f+1 members posted");

    let mut replica = fresh();
    deliver(&mut replica, 1, round_change(1, far));
    deliver(&mut replica, 2, round_change(2, far));
    assert!(replica.duty(far).is_some(), "or vote for, as long as nothing was posted");
}

#[test]
fn a_post_outside_the_window_is_told_the_limit() {
    let mut replica = fresh();
    assert_eq!(post(&mut replica, duty(9_000_000), "1").0, DutyAdmission::Accepted, "nothing is known yet");
    let highest = Height(9_000_000 + DUTY_SLOTS_AHEAD);
    assert_eq!(post(&mut replica, duty(1 << 61), "1").0, DutyAdmission::TooHigh { highest });
    assert_eq!(post(&mut replica, duty(highest.0), "1").0, DutyAdmission::Accepted);
    let later = at(3_600_001);
    let id = duty(1 << 40);
    let effects = replica.step(later, Input::Duty { instance: id, value: value(id, "1"), ticket: Ticket(2) });
    let taken = matches!(effects.first(), Some(Effect::DutyReply(_, DutyAdmission::Accepted)));
    assert!(taken, "after a long pause a client may go on anywhere");
}

#[test]
fn a_member_that_decides_far_slots_does_not_close_those_before() {
    let mut replica = fresh();
    decide(&mut replica, duty(10));
    for slot in 0..1500 {
        let id = duty(60_000 + slot);
        deliver(&mut replica, 3, candidate(id, "1"));
        deliver(&mut replica, 3, Verified::Decided(certificate(id, &value(id, "1"))));
        deliver(&mut replica, 3, candidate(id, "1"));
    }
    assert_eq!(post(&mut replica, duty(11), "1").0, DutyAdmission::Accepted);
    assert!(replica.duty(duty(11)).is_some(), "open, and not taken for closed");
}

#[test]
fn a_watermark_only_rises_and_is_stored_with_what_raised_it() {
    let mut replica = fresh();
    let mut mark = None;
    for slot in 1000..2100 {
        let stored = decide(&mut replica, duty(slot));
        assert!(stored >= mark);
        mark = stored;
    }
    assert_eq!(mark, Some(Height(1000 + 1100 - 1024 - 1)));
    post(&mut replica, duty(5), "1");
    assert!(replica.duty(duty(5)).is_none(), "a slot below the watermark does not open");
    assert!(decide(&mut replica, duty(2100)) > mark);
}

#[test]
fn an_open_duty_is_not_closed_by_later_ones() {
    let mut replica = fresh();
    post(&mut replica, duty(1), "1");
    for slot in 100..1300 {
        assert_eq!(decide(&mut replica, duty(slot)), None);
    }
    assert!(replica.is_open_duty(duty(1)));
    decide(&mut replica, duty(1));
    assert!(decide(&mut replica, duty(1300)) > Some(Height(1)));
}

#[test]
fn a_closed_duty_does_not_open_after_a_restart() {
    let mut closed_duties: Vec<InstanceId> = (100..5000).map(duty).collect();
    closed_duties.push(duty(70_000));
    let duty_watermarks = vec![(Domain::Sync, Height(99))];
    let recovery = Recovery { closed_duties, duty_watermarks, ..Recovery::default() };
    let (mut replica, _) = started(recovery);
    for slot in [0, 50, 99, 100, 3000, 4999, 70_000] {
        let (admission, effects) = post(&mut replica, duty(slot), "2");
        assert_eq!((admission, effects.len()), (DutyAdmission::Accepted, 1), "slot {slot}");
        deliver(&mut replica, 1, round_change(1, duty(slot)));
        deliver(&mut replica, 1, candidate(duty(slot), "2"));
    }
    assert_eq!(replica.held().duty_instances, 0);
    post(&mut replica, duty(5000), "2");
    assert_eq!(replica.held().duty_instances, 1);
}

/// What the log holds of a duty this operator has prepared and committed.
fn prepared_records(id: InstanceId) -> (Vec<Record>, (InstanceId, Value)) {
    let value = value(id, "1");
    let prepare = |author| prepare(author, id, 0, value.digest());
    let prepares = (0..3).map(prepare).collect();
    let prepared = PreparedRecord { instance: id, round: Round(0), digest: value.digest(), prepares };
    let records = vec![
        Record::Value(ValueRecord { instance: id, value: value.bytes().clone() }),
        Record::Prepare(prepare(0)),
        Record::Prepared(prepared),
        Record::Commit(commit(0, &value, id)),
    ];
    (records, (id, value))
}

#[test]
fn recovery_restores_every_open_duty_of_the_log() {
    let mut recovery = Recovery::default();
    for slot in 0..2 * DUTIES_OPEN_MAX as u64 {
        let (records, value) = prepared_records(duty(slot));
        recovery.records.extend(records);
        recovery.values.push(value);
    }
    recovery.closed_duties = vec![duty(7)];
    let (mut replica, effects) = started(recovery);
    assert_eq!(replica.held().duty_instances, 2 * DUTIES_OPEN_MAX - 1);
    assert!(replica.is_open_duty(duty(0)) && !replica.is_open_duty(duty(7)));
    assert_eq!(post(&mut replica, duty(1000), "1").0, DutyAdmission::Accepted, "they take nobody's room");
    let again = |id: InstanceId| {
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::Broadcast(Message::Commit(vote)) if vote.instance == id))
    };
    assert!(again(duty(500)) && !again(duty(7)));
    // The prepared certificate of the last one is shown when its round passes.
    let last = duty(2 * DUTIES_OPEN_MAX as u64 - 1);
    let timer = Timer::Round { instance: last, round: Round(0) };
    let effects = replica.step(at(5000), Input::Timer(timer));
    let shown = effects.iter().any(|effect| {
        matches!(effect, Effect::Broadcast(Message::RoundChange(change)) if change.prepares.len() == 3)
    });
    assert!(shown);
}

#[test]
fn a_straggler_is_answered_from_the_store_but_not_without_end() {
    let recovery = Recovery { closed_duties: (0..10).map(duty).collect(), ..Recovery::default() };
    let (mut replica, _) = started(recovery);
    let effects = deliver(&mut replica, 2, round_change(2, duty(3)));
    assert_eq!(recalls(&effects), [(OperatorIndex(2), Recall::Certificate)]);
    let digest = value(duty(3), "1").digest();
    let request = || Verified::ValueRequest(ValueRequest { instance: duty(3), digest });
    assert_eq!(recalls(&deliver(&mut replica, 2, request())), [(OperatorIndex(2), Recall::Value(digest))]);
    assert_eq!(recalls(&deliver(&mut replica, 2, request())), []);
    assert_eq!(recalls(&deliver(&mut replica, 1, request())).len(), 1, "each member for itself");
    let later = Input::Message { from: OperatorIndex(2), message: request() };
    assert_eq!(recalls(&replica.step(at(1000), later)).len(), 1);
}

#[test]
fn a_duty_left_unsealed_is_sealed_after_a_restart() {
    let (id, decided) = (duty(3), value(duty(3), "1"));
    let recovery = Recovery {
        closed_duties: vec![id],
        unsealed: vec![certificate(id, &decided)],
        marks: vec![commit(0, &decided, id).mark()],
        ..Recovery::default()
    };
    let (mut replica, effects) = started(recovery);
    let combined = |effects: &[Effect]| {
        effects.iter().find_map(|effect| match effect {
            Effect::Combine { instance, shares, .. } => Some((*instance, shares.len())),
            _ => None,
        })
    };
    assert_eq!(combined(&effects), Some((id, 3)));
    // A bad share among them is replaced by one that comes late.
    let blamed = Input::Combined {
        instance: id,
        round: Round(0),
        digest: decided.digest(),
        result: Err(vec![OperatorIndex(3)]),
    };
    replica.step(at(0), blamed);
    let effects = deliver(&mut replica, 0, Verified::Commit(commit(0, &decided, id)));
    assert_eq!(combined(&effects), Some((id, 3)));
    let (round, digest) = (Round(0), decided.digest());
    let sealed = Input::Combined { instance: id, round, digest, result: Ok(Seal::repeat_byte(1)) };
    let effects = replica.step(at(0), sealed);
    assert!(matches!(&effects[0], Effect::Sealed(certificate) if certificate.group_seal().is_some()));
}

#[test]
fn the_own_clients_candidate_beats_the_one_a_member_shared_first() {
    let mut replica = fresh();
    let id = led_by_me(1);
    let effects = deliver(&mut replica, 3, candidate(id, "\"theirs\""));
    assert_eq!(proposed(&effects), None, "the own client may still come");
    let (_, effects) = post(&mut replica, id, "\"ours\"");
    assert_eq!(proposed(&effects), Some(value(id, "\"ours\"").bytes().clone()));
    let shared = effects.iter().any(|effect| {
        matches!(effect, Effect::Broadcast(Message::ValueReply(ValueReply { instance, .. })) if *instance == id)
    });
    assert!(shared, "and the members learn of it");
}

#[test]
fn a_members_candidate_is_proposed_when_the_own_client_stays_silent() {
    let mut replica = fresh();
    let id = led_by_me(1);
    deliver(&mut replica, 3, candidate(id, "\"theirs\""));
    let effects = replica.step(at(400), Input::Timer(Timer::Resend(id)));
    assert_eq!(proposed(&effects), Some(value(id, "\"theirs\"").bytes().clone()));
}

#[test]
fn a_peer_that_connects_is_not_sent_more_duties_than_its_queue_takes() {
    let mut replica = fresh();
    let large = format!("\"{}\"", "a".repeat(1 << 20));
    let mut id = led_by_me(1);
    for _ in 0..20 {
        post(&mut replica, id, &large);
        id = led_by_me(id.height.0 + 1);
    }
    let effects = replica.step(at(0), Input::PeerConnected(OperatorIndex(1)));
    let sent: usize = effects
        .iter()
        .map(|effect| match effect {
            Effect::Send(_, Message::PrePrepare(proposal)) => proposal.value.0.len(),
            _ => 0,
        })
        .sum();
    assert!((1 << 20..=4 << 20).contains(&sent), "{sent} bytes");
    let votes =
        effects.iter().filter(|effect| matches!(effect, Effect::Send(_, Message::Prepare(_)))).count();
    assert_eq!(votes, 20);
}
