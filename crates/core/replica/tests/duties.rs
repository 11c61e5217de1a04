//! Which duties begin, end, come back and are told of.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod common;

use aequa_replica::{
    DUTIES_FAR_MAX, DUTY_SLOTS_AHEAD, DUTY_SLOTS_NEAR, DutyAdmission, DutyStatus, Input, Recovery, Ticket,
    Timer,
};
use aequa_types::message::ValueRequest;
use aequa_types::record::{PreparedRecord, ValueRecord};
use aequa_types::{
    Certificate, DutyId, DutyKind, Height, InstanceId, Message, OperatorIndex, Recall, Record, Round, Seal,
    Signed, Slot, Subject, Value, Verified,
};
use common::{
    Effect, Operator, Outbound, StoreWrite, Tell, Work, at, broadcast, change, duty_value, has, leader, pick,
    prepare, preprepare, records, sent, timers,
};

const ME: OperatorIndex = OperatorIndex(0);

fn duty(slot: u64) -> DutyId {
    DutyId { kind: DutyKind::Sync, slot: Slot(slot) }
}

fn value(id: DutyId, text: &str) -> Value {
    duty_value(id, text)
}

/// Operator 0 after its first step, with what that step did.
fn started(recovery: Recovery) -> (Operator, Vec<Effect>) {
    let mut replica = common::replica(ME.0, recovery);
    let effects = replica.start(at(0));
    (replica, effects)
}

fn fresh() -> Operator {
    started(Recovery::default()).0
}

fn commit(author: u8, value: &Value, id: DutyId) -> Signed {
    common::commit(id, 0, value.digest()).by(author)
}

fn certificate(id: DutyId, value: &Value) -> Certificate {
    common::commit(id, 0, value.digest()).certificate(1..4)
}

fn round_change(author: u8, id: DutyId) -> Verified {
    common::round_change(author, id, 1)
}

fn candidate(id: DutyId, text: &str) -> Verified {
    Verified::ValueReply { instance: id.into(), value: value(id, text) }
}

fn deliver(replica: &mut Operator, from: u8, message: Verified) -> Vec<Effect> {
    common::deliver(replica, at(0), from, message)
}

fn post(replica: &mut Operator, id: DutyId, text: &str) -> (DutyAdmission, Vec<Effect>) {
    post_at(replica, 0, id, text)
}

fn post_at(replica: &mut Operator, ms: u64, id: DutyId, text: &str) -> (DutyAdmission, Vec<Effect>) {
    let effects = replica.step(at(ms), Input::Duty { duty: id, value: value(id, text), ticket: Ticket(1) });
    let admission = pick!(effects, Effect::Tell(Tell::DutyAdmission(_, admission)) => *admission).next();
    (admission.unwrap(), effects)
}

/// Lets a duty be decided by a certificate; gives the watermark stored with it.
fn decide_at(replica: &mut Operator, ms: u64, id: DutyId) -> Option<Slot> {
    let decided = Verified::Decided(certificate(id, &value(id, "1")));
    let mut effects = common::deliver(replica, at(ms), 1, decided);
    effects.extend(common::deliver(replica, at(ms), 1, candidate(id, "1")));
    let commits =
        pick!(effects, Effect::Store(StoreWrite::CommitDuty { duty, watermark, .. }) => (*duty, *watermark));
    commits.filter(|(duty, _)| *duty == id).map(|(_, watermark)| watermark).next().unwrap()
}

/// Of each duty that ends with these effects, whether it was decided.
fn ended(effects: &[Effect]) -> Vec<bool> {
    let ends =
        pick!(effects, Effect::Store(StoreWrite::CommitDuty { outcome, .. }) => outcome.decided.is_some());
    ends.collect()
}

fn decide(replica: &mut Operator, id: DutyId) -> Option<Slot> {
    decide_at(replica, 0, id)
}

fn prepares(effects: &[Effect]) -> Vec<aequa_types::Digest> {
    pick!(broadcast(effects), Message::Prepare(vote) => vote.digest()).flatten().collect()
}

fn is_silent(effects: &[Effect]) -> bool {
    sent(effects).is_empty() && !has!(effects, Effect::Vote(_))
}

/// A proposal by whoever leads round 0, of this text.
fn proposal(id: DutyId, text: &str) -> Verified {
    common::proposal(leader(id, 0).0, id, 0, value(id, text), &[])
}

/// The first slot from `from` whose round 0 another operator leads.
fn led_by_another(from: u64) -> DutyId {
    (from..).map(duty).find(|id| leader(*id, 0) != ME).unwrap()
}

fn recalls(effects: &[Effect]) -> Vec<(OperatorIndex, Recall)> {
    pick!(effects, Effect::Work(Work::RecallDuty { to, recall, .. }) => (*to, *recall)).collect()
}

/// The first slot from `from` on whose round 0 this operator leads.
fn led_by_me(from: u64) -> DutyId {
    (from..).map(duty).find(|id| leader(*id, 0) == ME).unwrap()
}

/// What the log holds of a duty this operator has prepared and committed.
fn prepared_records(id: DutyId) -> (Vec<Record>, (InstanceId, Value)) {
    let value = value(id, "1");
    let prepare = prepare(id, 0, value.digest());
    let prepares = prepare.by_each(0..3);
    let prepared = PreparedRecord { instance: id.into(), round: Round(0), digest: value.digest(), prepares };
    let records = vec![
        Record::Value(ValueRecord { instance: id.into(), value: value.bytes().clone() }),
        Record::Prepare(prepare.by(0)),
        Record::Prepared(prepared),
        Record::Commit(commit(0, &value, id)),
    ];
    (records, (id.into(), value))
}

/// Whether the log must keep what was signed for this duty.
fn is_open(replica: &Operator, duty: DutyId) -> bool {
    replica.needs(Subject { instance: duty.into(), heard: false }, Height(0))
}

#[test]
fn recovery_restores_every_open_duty_of_the_log() {
    let mut recovery = Recovery::default();
    let restored = 2 * DUTIES_FAR_MAX as u64;
    for slot in 0..restored {
        let (records, value) = prepared_records(duty(slot));
        recovery.records.extend(records);
        recovery.values.push(value);
    }
    recovery.closed_duties = vec![duty(7)];
    let (mut replica, effects) = started(recovery);
    assert_eq!(replica.held().duty_instances as u64, restored - 1);
    assert!(is_open(&replica, duty(0)) && !is_open(&replica, duty(7)));
    assert_eq!(post(&mut replica, duty(1000), "1").0, DutyAdmission::Accepted, "they take nobody's room");
    let again = |id: DutyId| has!(broadcast(&effects), Message::Commit(vote) if vote.instance == id.into());
    assert!(again(duty(50)) && !again(duty(7)));
    // The prepared certificate of the last one is shown when its round passes.
    let last = duty(restored - 1);
    let timer = Timer::Round { instance: last.into(), round: Round(0) };
    let effects = replica.step(at(5000), Input::Timer(timer));
    assert!(has!(broadcast(&effects), Message::RoundChange(change) if change.prepares.len() == 3));
}

#[test]
fn a_straggler_is_answered_from_the_store_but_not_without_end() {
    let recovery = Recovery { closed_duties: (0..10).map(duty).collect(), ..Recovery::default() };
    let (mut replica, _) = started(recovery);
    let effects = deliver(&mut replica, 2, round_change(2, duty(3)));
    assert_eq!(recalls(&effects), [(OperatorIndex(2), Recall::Certificate)]);
    let digest = value(duty(3), "1").digest();
    let request = || Verified::ValueRequest(ValueRequest { instance: duty(3).into(), digest });
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
        votes: vec![aequa_testkit::commit(id, 0, decided.digest()).statement(0).vote_root()],
        ..Recovery::default()
    };
    let (mut replica, effects) = started(recovery);
    let combined = |effects: &[Effect]| {
        let asked =
            pick!(effects, Effect::Work(Work::Combine { decision, shares }) => (decision, shares)).next();
        asked.map(|(decision, shares)| (decision.instance, shares.len()))
    };
    assert_eq!(combined(&effects), Some((id.into(), 3)));
    // A bad share among them is replaced by one that comes late.
    let decision = certificate(id, &decided).decision();
    let blamed = Input::Combined { decision, result: Err(vec![OperatorIndex(3)]) };
    replica.step(at(0), blamed);
    let effects = deliver(&mut replica, 0, Verified::Commit(commit(0, &decided, id)));
    assert_eq!(combined(&effects), Some((id.into(), 3)));
    let sealed = Input::Combined { decision, result: Ok(Seal::repeat_byte(1)) };
    let effects = replica.step(at(0), sealed);
    assert!(
        matches!(&effects[0], Effect::Store(StoreWrite::Sealed(certificate)) if certificate.group_seal().is_some())
    );
}

#[test]
fn without_a_post_of_the_own_client_nothing_is_signed_proposed_or_begun() {
    let mut replica = fresh();
    for slot in 0..500 {
        for id in [duty(slot), duty((1 << 61) + slot)] {
            let digest = value(id, "1").digest();
            let messages = [
                candidate(id, "1"),
                proposal(id, "1"),
                Verified::Prepare(prepare(id, 0, digest).by(3)),
                Verified::Commit(commit(3, &value(id, "1"), id)),
                round_change(3, id),
                round_change(2, id),
                Verified::ValueRequest(ValueRequest { instance: id.into(), digest }),
            ];
            for message in messages {
                let effects = deliver(&mut replica, 3, message);
                assert!(is_silent(&effects), "{effects:?}");
            }
            let timer = Timer::Round { instance: id.into(), round: Round(0) };
            assert!(is_silent(&replica.step(at(1), Input::Timer(timer))));
        }
    }
    assert_eq!(replica.held().duty_instances, 0);
    assert!(replica.held().early_messages <= 2 * 64, "{:?}", replica.held());
    assert!(replica.bound().iter().all(|bound| bound.height().is_some()));
}

#[test]
fn an_operator_prepares_only_what_its_own_client_posted() {
    let id = led_by_another(1);
    let leader = leader(id, 0).0;
    let mut replica = fresh();
    post(&mut replica, id, "\"ours\"");
    assert!(prepares(&deliver(&mut replica, leader, proposal(id, "\"theirs\""))).is_empty());
    let mut replica = fresh();
    post(&mut replica, id, "\"ours\"");
    let ours = value(id, "\"ours\"").digest();
    assert_eq!(prepares(&deliver(&mut replica, leader, proposal(id, "\"ours\""))), [ours]);
}

#[test]
fn what_a_quorum_has_prepared_needs_the_own_clients_post_all_the_same() {
    let id = (1..).map(duty).find(|id| leader(*id, 1) != ME).unwrap();
    let theirs = value(id, "\"theirs\"");
    let next = leader(id, 1).0;
    let justified = || Verified::PrePrepare {
        proposal: preprepare(id, 1, theirs.digest()).by(next),
        value: theirs.clone(),
        round_changes: change(id, 1, Some((0, theirs.digest()))).by_each(1..4),
        prepares: prepare(id, 0, theirs.digest()).by_each(1..4),
    };
    for (text, expected) in [("\"ours\"", vec![]), ("\"theirs\"", vec![theirs.digest()])] {
        let mut replica = fresh();
        post(&mut replica, id, text);
        assert_eq!(prepares(&deliver(&mut replica, next, justified())), expected, "{text}");
    }
}

#[test]
fn a_proposal_that_came_before_the_own_post_is_prepared_with_it() {
    let id = led_by_another(1);
    let leader = leader(id, 0).0;
    let mut replica = fresh();
    deliver(&mut replica, leader, proposal(id, "1"));
    for author in 1..4 {
        deliver(&mut replica, author, Verified::Commit(commit(author, &value(id, "1"), id)));
    }
    let (admission, effects) = post(&mut replica, id, "1");
    assert_eq!(admission, DutyAdmission::Accepted);
    assert_eq!(prepares(&effects), [value(id, "1").digest()]);
    assert!(ended(&effects).contains(&true));
}

#[test]
fn round_changes_said_again_and_again_do_not_push_out_a_proposal() {
    let mut replica = fresh();
    let id = led_by_another(5);
    let leader = leader(id, 0).0;
    deliver(&mut replica, leader, proposal(id, "1"));
    for round in 1..4 {
        for slot in 100..200 {
            deliver(&mut replica, leader, common::round_change(leader, duty(slot), round));
        }
    }
    assert_eq!(prepares(&post(&mut replica, id, "1").1), [value(id, "1").digest()]);
}

#[test]
fn no_member_takes_the_room_for_early_messages_of_another() {
    let id = led_by_another(1);
    let leader = leader(id, 0).0;
    let liar = if leader == 3 { 2 } else { 3 };
    let mut replica = fresh();
    deliver(&mut replica, leader, proposal(id, "1"));
    for slot in 0..1000 {
        let large = format!("\"{}\"", "a".repeat(60_000));
        let far = duty(1000 + slot);
        deliver(&mut replica, liar, common::proposal(liar, far, 0, value(far, &large), &[]));
    }
    assert!(replica.held().early_messages < 5, "two proposals of 60 kB, and what the honest one said");
    assert_eq!(prepares(&post(&mut replica, id, "1").1).len(), 1);
}

#[test]
fn a_post_is_durable_with_its_answer_and_comes_back_after_a_restart() {
    let mut replica = fresh();
    let id = led_by_another(1);
    let (_, effects) = post(&mut replica, id, "1");
    let records = records(&effects);
    assert!(matches!(&effects[0], Effect::Persist(Record::Value(record)) if record.instance == id.into()));
    let recovery = Recovery { records, values: vec![(id.into(), value(id, "1"))], ..Recovery::default() };
    let (mut replica, _) = started(recovery);
    let effects = deliver(&mut replica, leader(id, 0).0, proposal(id, "1"));
    assert_eq!(prepares(&effects), [value(id, "1").digest()]);
    assert!(prepares(&post(&mut replica, id, "2").1).is_empty(), "and the first post stands");
}

#[test]
fn a_decision_is_learnt_from_its_certificate_where_no_client_posted() {
    let mut replica = fresh();
    let id = led_by_another(1);
    deliver(&mut replica, leader(id, 0).0, proposal(id, "1"));
    let effects = deliver(&mut replica, 1, Verified::Decided(certificate(id, &value(id, "1"))));
    assert!(ended(&effects).contains(&true));
    assert!(!has!(broadcast(&effects), Message::ValueRequest(_)), "the proposal had the value");
    assert!(prepares(&effects).is_empty());
    let state = replica.duty(id).unwrap();
    assert_eq!(state.decided.as_ref().map(|(decided, _)| decided.clone()), Some(value(id, "1")));
    assert_eq!(post(&mut replica, id, "2").0, DutyAdmission::Ended);
}

#[test]
fn the_leader_of_the_deciding_round_tells_everybody() {
    let mut replica = fresh();
    let id = led_by_me(1);
    post(&mut replica, id, "1");
    let mut effects = Vec::new();
    for author in 1..4 {
        deliver(&mut replica, author, Verified::Prepare(prepare(id, 0, value(id, "1").digest()).by(author)));
        effects = deliver(&mut replica, author, Verified::Commit(commit(author, &value(id, "1"), id)));
        if has!(effects, Effect::Store(StoreWrite::CommitDuty { .. })) {
            break;
        }
    }
    assert_eq!(pick!(broadcast(&effects), Message::Decided(_) => ()).count(), 1);
}

#[test]
fn different_payloads_show_as_undecided_with_who_holds_what() {
    let mut replica = fresh();
    let id = duty(4);
    post(&mut replica, id, "0");
    let says =
        |author: u8| Verified::Prepare(prepare(id, 0, value(id, &author.to_string()).digest()).by(author));
    deliver(&mut replica, 1, says(1));
    assert_eq!(replica.duty(id).unwrap().status, DutyStatus::Pending, "two more may hold either");
    deliver(&mut replica, 2, says(2));
    let state = replica.duty(id).unwrap();
    assert_eq!(state.status, DutyStatus::Undecided);
    let held: Vec<_> = state.digests().into_values().collect();
    assert_eq!(held.len(), 3);
    assert!(held.contains(&vec![OperatorIndex(1)]) && held.contains(&vec![ME]));
    // It goes on for its time all the same: what members said may have been a lie.
    let effects = replica.step(at(3_600_000), Input::Timer(Timer::CatchUp));
    assert!(ended(&effects).contains(&false));
    assert_eq!(replica.duty(id).unwrap().status, DutyStatus::Undecided);
}

#[test]
fn a_duty_that_others_do_not_take_up_expires() {
    let mut replica = fresh();
    let id = duty(4);
    post(&mut replica, id, "1");
    replica.step(at(3_600_000), Input::Timer(Timer::CatchUp));
    assert_eq!(replica.duty(id).unwrap().status, DutyStatus::Expired);
    assert_eq!(post(&mut replica, id, "1").0, DutyAdmission::Ended);
}

#[test]
fn near_slots_are_never_taken_by_far_ones_nor_by_other_types() {
    let mut replica = fresh();
    let other = |slot| DutyId { kind: DutyKind::Attester, slot: Slot(slot) };
    for slot in 0..1000 {
        post(&mut replica, other((1 << 61) + slot), "1");
    }
    assert_eq!(replica.held().duty_instances, DUTIES_FAR_MAX);
    assert_eq!(
        post(&mut replica, other(5), "1").0,
        DutyAdmission::Overloaded,
        "nothing says where the cluster is"
    );
    decide(&mut replica, duty(1000));
    for slot in 0..1000 {
        let (admission, _) = post(&mut replica, duty(61_000 + slot), "1");
        let taken = slot < DUTIES_FAR_MAX as u64;
        let expected = if taken { DutyAdmission::Accepted } else { DutyAdmission::Overloaded };
        assert_eq!(admission, expected, "{slot}");
    }
    for slot in 1000 - DUTY_SLOTS_NEAR..=1000 + DUTY_SLOTS_NEAR {
        let expected = if slot == 1000 { DutyAdmission::Ended } else { DutyAdmission::Accepted };
        assert_eq!(post(&mut replica, duty(slot), "1").0, expected, "{slot}");
    }
    let most = 2 * DUTIES_FAR_MAX + 2 * DUTY_SLOTS_NEAR as usize + 1;
    assert_eq!(replica.held().duty_instances, most);
}

/// A stranger keeps the APIs of two operators busy, and the clients of all go on with a slot that is far.
#[test]
fn a_far_slot_that_f_plus_1_members_speak_of_begins_whatever_else_was_posted_here() {
    let mut replica = fresh();
    decide(&mut replica, duty(1000));
    (0..1000).for_each(|slot| drop(post(&mut replica, duty(61_000 + slot), "1")));
    let id = duty(5000);
    deliver(&mut replica, 1, round_change(1, id));
    assert_eq!(post(&mut replica, id, "1").0, DutyAdmission::Overloaded, "one member may say what it likes");
    deliver(&mut replica, 2, round_change(2, id));
    assert_eq!(post(&mut replica, id, "1").0, DutyAdmission::Accepted);
    deliver(&mut replica, 1, round_change(1, duty(5001)));
    deliver(&mut replica, 1, round_change(2, duty(5001)));
    assert_eq!(post(&mut replica, duty(5001), "1").0, DutyAdmission::Overloaded, "handed over by one");
}

#[test]
fn after_a_restart_the_slots_around_the_newest_decided_duty_are_near_and_none_is_too_high_above_it() {
    let recovery = Recovery { newest_duties: vec![duty(1000)], ..Recovery::default() };
    let mut replica = started(recovery).0;
    let unused = |slot| DutyId { kind: DutyKind::Proposer, slot: Slot(slot) };
    let highest = Slot(1000 + DUTY_SLOTS_AHEAD);
    for far in [duty(1 << 62), unused(1 << 62)] {
        assert_eq!(post(&mut replica, far, "1").0, DutyAdmission::TooHigh { highest }, "{far:?}");
    }
    for slot in 0..1000 {
        post(&mut replica, duty(61_000 + slot), "1");
        post(&mut replica, unused(61_000 + slot), "1");
    }
    for near in [duty(1001), unused(1001)] {
        assert_eq!(post(&mut replica, near, "1").0, DutyAdmission::Accepted, "{near:?}");
    }
}

#[test]
fn duties_far_behind_the_last_decision_are_given_up_when_there_are_too_many() {
    let mut replica = fresh();
    for jump in 0..10 {
        let slot = 1000 + jump * 200;
        decide(&mut replica, duty(slot));
        for near in slot - DUTY_SLOTS_NEAR..=slot + DUTY_SLOTS_NEAR {
            post(&mut replica, duty(near), "1");
        }
        replica.step(at(1000 * jump), Input::Timer(Timer::CatchUp));
        let open = (0..4000).filter(|slot| is_open(&replica, duty(*slot))).count();
        assert!(open <= 256, "{open}");
    }
    let near = (2800 - DUTY_SLOTS_NEAR..=2800 + DUTY_SLOTS_NEAR).filter(|slot| *slot != 2800);
    assert!(near.into_iter().all(|slot| is_open(&replica, duty(slot))), "those around it stay");
}

#[test]
fn no_slot_begins_too_far_above_the_last_decision_unless_that_is_long_ago() {
    let mut replica = fresh();
    assert_eq!(post(&mut replica, duty(1 << 61), "1").0, DutyAdmission::Accepted, "nothing is known yet");
    decide(&mut replica, duty(9_000_000));
    let highest = Slot(9_000_000 + DUTY_SLOTS_AHEAD);
    assert_eq!(post(&mut replica, duty(1 << 60), "1").0, DutyAdmission::TooHigh { highest });
    assert_eq!(post(&mut replica, duty(highest.0), "1").0, DutyAdmission::Accepted);
    let id = duty(1 << 40);
    let late = post_at(&mut replica, 3_600_001, id, "1").0;
    assert_eq!(late, DutyAdmission::Accepted, "after a long pause a client may go on anywhere");
}

#[test]
fn far_slots_that_nobody_decides_close_none_of_those_before() {
    let (mut replica, mut now) = (fresh(), 0);
    decide(&mut replica, duty(10));
    for hour in 0..3u64 {
        for slot in 0..DUTIES_FAR_MAX as u64 {
            let id = duty(60_000 + hour * 100 + slot);
            assert!(!post_at(&mut replica, now, id, "1").1.is_empty());
        }
        now += 3_600_000;
        replica.step(at(now), Input::Timer(Timer::CatchUp));
        decide_at(&mut replica, now, duty(11 + hour));
    }
    for slot in [14, 500, 50_000] {
        let id = duty(slot);
        assert_eq!(post_at(&mut replica, now, id, "1").0, DutyAdmission::Accepted, "{slot}");
        assert!(replica.duty(id).is_some(), "{slot}");
    }
}

#[test]
fn the_watermark_follows_what_is_settled_and_stays_below_open_slots() {
    let (mut replica, mut watermark) = (fresh(), None);
    let minute = 60_000;
    for minutes in 0..60u64 {
        let stored = decide_at(&mut replica, minutes * minute, duty(100 + minutes));
        assert!(stored >= watermark && stored < Some(Slot(100 + minutes)));
        watermark = stored;
    }
    assert_eq!(watermark, Some(Slot(100 + 59 - 11)), "ten minutes behind");
    let now = 60 * minute;
    let (admission, effects) = post_at(&mut replica, now, duty(5), "1");
    let forgotten = DutyAdmission::Forgotten { watermark: Slot(148) };
    assert_eq!((admission, effects.len()), (forgotten, 1), "{effects:?}");
    post_at(&mut replica, now, duty(161), "1");
    for minutes in 62..90 {
        watermark = decide_at(&mut replica, minutes * minute, duty(100 + minutes));
    }
    assert_eq!(watermark, Some(Slot(159)), "160 was never opened, 161 is open");
}

#[test]
fn more_decisions_than_can_be_remembered_raise_the_watermark_early_and_never_near_the_last() {
    let (mut replica, mut watermark) = (fresh(), None);
    for slot in 1000..3000 {
        watermark = decide(&mut replica, duty(slot));
        assert!(watermark.is_none_or(|watermark| watermark.0 <= slot - DUTY_SLOTS_NEAR));
    }
    assert!(watermark > Some(Slot(1000)), "{watermark:?}");
}

#[test]
fn a_closed_duty_does_not_open_after_a_restart_and_nothing_is_signed_there() {
    let mut closed_duties: Vec<DutyId> = (100..5000).map(duty).collect();
    closed_duties.push(duty(70_000));
    let duty_watermarks = vec![duty(99)];
    let recovery = Recovery { closed_duties, duty_watermarks, ..Recovery::default() };
    let (mut replica, _) = started(recovery);
    for slot in [0, 50, 99, 100, 3000, 4999, 70_000] {
        let (admission, effects) = post(&mut replica, duty(slot), "2");
        let expected = match slot {
            0..=99 => DutyAdmission::Forgotten { watermark: Slot(99) },
            _ => DutyAdmission::Ended,
        };
        assert_eq!((admission, effects.len()), (expected, 1), "slot {slot}");
        assert!(is_silent(&deliver(&mut replica, 1, round_change(1, duty(slot)))));
    }
    assert_eq!(replica.held().duty_instances, 0);
    let watermarks: Vec<_> = replica.signing_watermarks().collect();
    assert!(watermarks.contains(&duty(99).into()), "also the signer refuses: {watermarks:?}");
    assert!(replica.bound().contains(&duty(70_000).into()));
    post(&mut replica, duty(5000), "2");
    assert_eq!(replica.held().duty_instances, 1);
}

/// A stranger at the own API that opens a lower slot every hour keeps one slot of the log, not all of it.
#[test]
fn what_the_log_has_of_ended_duties_is_not_needed_whatever_lower_slot_is_open() {
    let mut replica = fresh();
    for hour in 0..24u64 {
        let id = duty(1000 - hour);
        let now = hour * 3_600_000;
        replica.step(at(now), Input::Timer(Timer::CatchUp));
        post_at(&mut replica, now, id, "1");
        let open: Vec<u64> = (0..2000).filter(|slot| is_open(&replica, duty(*slot))).collect();
        assert_eq!(open, [1000 - hour], "nothing but what is open");
    }
}

#[test]
fn no_member_makes_an_operator_sign_so_far_ahead_that_a_lost_one_abstains_for_days() {
    let mut honest = common::started(1, Recovery::default());
    let far = duty(100 + 65_536);
    common::deliver(
        &mut honest,
        at(10),
        3,
        Verified::Prepare(prepare(far, 0, value(far, "1").digest()).by(3)),
    );
    let timer = Timer::Round { instance: far.into(), round: Round(0) };
    assert!(is_silent(&honest.step(at(1010), Input::Timer(timer))));
    assert_eq!(honest.bound(), []);
}

#[test]
fn a_peer_that_connects_is_not_sent_more_duties_than_its_queue_takes() {
    let mut replica = fresh();
    let large = format!("\"{}\"", "a".repeat(1 << 20));
    let mut id = led_by_me(1);
    for _ in 0..20 {
        post(&mut replica, id, &large);
        id = led_by_me(id.slot.0 + 1);
    }
    let effects = replica.step(at(0), Input::PeerConnected(OperatorIndex(1)));
    let sent: Vec<_> = pick!(effects, Effect::Send(Outbound::Send(_, message)) => message).collect();
    let bytes: usize = pick!(sent, Message::PrePrepare(proposal) => proposal.value.0.len()).sum();
    assert!((1 << 20..=4 << 20).contains(&bytes), "{bytes} bytes");
    assert_eq!(pick!(sent, Message::Prepare(_) => ()).count(), 20);
}

#[test]
fn a_decided_value_is_asked_for_until_it_comes_and_the_own_clients_may_be_it() {
    let mut replica = fresh();
    let id = duty(5);
    let asks = |effects: &[Effect]| has!(broadcast(effects), Message::ValueRequest(_));
    let effects = deliver(&mut replica, 1, Verified::Decided(certificate(id, &value(id, "1"))));
    assert!(asks(&effects));
    assert!(timers(&effects).any(|(timer, _)| timer == Timer::Resend(id.into())));
    let again = replica.step(at(1000), Input::Timer(Timer::Resend(id.into())));
    assert!(asks(&again), "{again:?}");
    let (_, effects) = post(&mut replica, id, "1");
    assert!(ended(&effects).contains(&true));
    assert!(prepares(&effects).is_empty());
}
