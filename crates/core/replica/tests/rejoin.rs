//! An operator that lost its memory of what it signed asks, abstains, and takes part again.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod common;

use aequa_replica::{
    BLOCKS_ABSTAINED, DutyAdmission, Halt, Input, Notice, Now, Recovery, SLOTS_ABSTAINED, SigningHistory,
    Ticket, Timer,
};
use aequa_testkit::{at, digest};
use aequa_types::sync::CheckedTestimony;
use aequa_types::{
    DutyId, DutyKind, Height, InstanceId, Message, OperatorIndex, Record, Round, Signed, Slot, Value,
    Verified,
};
use common::{
    EPOCH_MS, Effect, Operator, Outbound, Tell, blocks, broadcast, duty_value, fetched, has, pick, prepare,
    proposed, records, replica, started,
};

const ME: OperatorIndex = OperatorIndex(0);

fn now(elapsed_ms: u64) -> Now {
    Now { elapsed_ms, wall_ms: EPOCH_MS }
}

/// A directory that looks whole and may be an old copy.
fn unverified() -> Recovery {
    Recovery { history: SigningHistory::Unverified, ..Recovery::default() }
}

fn own_prepare(instance: InstanceId) -> Signed {
    prepare(instance, 0, digest(9)).by(ME.0)
}

fn duty(slot: u64) -> DutyId {
    DutyId { kind: DutyKind::Attester, slot: Slot(slot) }
}

fn slot(slot: u64) -> InstanceId {
    duty(slot).into()
}

fn testimony(from: u8, certified: &[InstanceId], signed: &[InstanceId]) -> Input {
    let signed = signed.iter().copied().map(own_prepare).collect();
    let testimony = CheckedTestimony { certified: certified.to_vec(), signed, bound: Vec::new() };
    Input::Testimony { from: OperatorIndex(from), testimony }
}

/// Testimony of this certified height and nothing else.
fn at_height(from: u8, height: u64) -> Input {
    testimony(from, &[at(height)], &[])
}

fn signs(effects: &[Effect]) -> bool {
    effects.iter().any(|effect| {
        matches!(effect, Effect::Vote(_))
            || matches!(effect, Effect::Persist(record) if record.statement().is_some())
    })
}

fn watermarks(effects: &[Effect]) -> Option<Vec<InstanceId>> {
    pick!(effects, Effect::RaiseWatermarks(watermarks) => watermarks.clone()).next()
}

fn asked(effects: &[Effect]) -> Vec<u8> {
    pick!(effects, Effect::Send(Outbound::Inquire(operator)) => operator.0).collect()
}

/// The watermarks up to a block and up to a slot; duties of all types share their slots.
fn abstaining(block: u64, slot: u64) -> Vec<InstanceId> {
    let duties = DutyKind::ALL.map(|kind| InstanceId::duty(kind, Slot(slot)));
    [vec![at(block)], duties.to_vec()].concat()
}

fn rejoining() -> Operator {
    let mut replica = replica(ME.0, Recovery { history: SigningHistory::Lost, ..Recovery::default() });
    assert_eq!(asked(&replica.start(now(0))), [1, 2, 3]);
    replica
}

#[test]
fn a_duty_posted_again_and_again_while_it_asks_takes_no_place_of_others() {
    let mut replica = started(ME.0, unverified());
    let mut post = |slot: u64, n: u64| {
        let value = duty_value(duty(slot), "{}");
        let effects = replica.step(now(1), Input::Duty { duty: duty(slot), value, ticket: Ticket(n) });
        effects.is_empty()
    };
    let waiting = (0..100).filter(|n| post(3, *n)).count();
    assert_eq!(waiting, 2, "and all others were answered");
    assert!((4..30).all(|slot| post(slot, 100 + slot)), "there are places left");
}

#[test]
fn while_it_asks_it_follows_the_chain_and_signs_nothing() {
    let mut replica = rejoining();
    let blocks = blocks(6);
    let (ticket, value) = (Ticket(1), duty_value(duty(3), "{}"));
    let input = Input::Duty { duty: duty(3), value, ticket };
    let refused = replica.step(now(1), input);
    assert!(
        matches!(refused[..], [Effect::Tell(Tell::DutyAdmission(_, DutyAdmission::Overloaded))]),
        "{refused:?}"
    );
    let round = Timer::Round { instance: at(6), round: Round(0) };
    let inputs = [
        fetched(&blocks[..5]),
        proposed(&blocks[5]),
        Input::Timer(round),
        Input::Timer(Timer::Propose(Height(6))),
        Input::PeerConnected(OperatorIndex(2)),
        at_height(1, 5),
        at_height(2, 5),
    ];
    for input in inputs {
        let effects = replica.step(now(2), input.clone());
        assert!(!signs(&effects), "{input:?}");
        assert!(!has!(effects, Effect::Send(Outbound::Broadcast(_)) | Effect::Send(Outbound::Send(..))));
    }
    assert_eq!(replica.chain().tip().height, Height(5));
    assert!(replica.is_rejoining());
}

#[test]
fn the_answers_of_q_other_members_are_needed_and_each_counts_once() {
    let mut replica = rejoining();
    for from in [1, 1, 1, ME.0, 2, 2] {
        assert_eq!(watermarks(&replica.step(now(1), at_height(from, 5))), None);
    }
    let effects = replica.step(now(5000), Input::Timer(Timer::CatchUp));
    assert_eq!(asked(&effects), [3], "only who has not answered is asked again");
    let waiting = has!(effects, Effect::Tell(Tell::Notice(Notice::Rejoining { answers: 2, needed: 3 })));
    assert!(waiting, "it says what it waits for");
    assert!(watermarks(&replica.step(now(5001), at_height(3, 5))).is_some());
    assert!(!replica.is_rejoining());
}

#[test]
fn it_abstains_up_to_two_above_the_highest_certified_height_and_votes_above() {
    let mut replica = rejoining();
    let blocks = blocks(9);
    for (from, height) in [(1, 3), (2, 5), (3, 4)] {
        let effects = replica.step(now(1), at_height(from, height));
        if from == 3 {
            assert_eq!(watermarks(&effects), Some(abstaining(5 + BLOCKS_ABSTAINED, SLOTS_ABSTAINED)));
        }
    }
    for next in 0..9 {
        if blocks[next].header().proposer == ME {
            replica.step(now(3), fetched(&blocks[next..=next]));
            continue;
        }
        let effects = replica.step(now(2), proposed(&blocks[next]));
        assert_eq!(signs(&effects), next as u64 + 1 > 5 + BLOCKS_ABSTAINED, "block {}", next + 1);
        replica.step(now(3), fetched(&blocks[next..=next]));
    }
}

#[test]
fn it_abstains_in_every_instance_shown_and_in_slots_a_margin_above() {
    let mut replica = rejoining();
    let shown = [at(40), slot(100)];
    replica.step(now(1), testimony(1, &[at(5), slot(120)], &[]));
    replica.step(now(1), testimony(2, &[], &shown));
    let effects = replica.step(now(1), testimony(3, &[], &[]));
    let expected = abstaining(40, 120 + SLOTS_ABSTAINED);
    assert_eq!(watermarks(&effects), Some(expected), "duties of all types share their slots");
    assert_eq!(effects.iter().filter(|effect| matches!(effect, Effect::Halt(_))).count(), 0);
    // What was shown is known now, from whoever.
    let effects = replica.step(now(2), testimony(1, &[], &shown));
    assert!(effects.is_empty(), "{effects:?}");
}

#[test]
fn a_claim_without_a_certificate_keeps_nobody_out() {
    let mut replica = rejoining();
    replica.step(now(1), Input::PeerHeight { from: OperatorIndex(1), height: Height(1 << 60) });
    [1, 2].into_iter().for_each(|from| drop(replica.step(now(1), at_height(from, 1))));
    let effects = replica.step(now(1), at_height(3, 1));
    assert_eq!(watermarks(&effects), Some(abstaining(1 + BLOCKS_ABSTAINED, SLOTS_ABSTAINED)));
}

/// One of f+1 is honest; one alone may say what it likes.
#[test]
fn it_abstains_from_slots_near_those_that_f_plus_1_members_say_they_have_signed_in() {
    let claims = |slots: [u64; 3]| {
        let mut replica = rejoining();
        let answers = [1, 2, 3].into_iter().zip(slots).flat_map(|(from, height)| {
            let bound = vec![InstanceId::Block(Height(1 << 50)), slot(height)];
            let testimony = CheckedTestimony { bound, ..CheckedTestimony::default() };
            replica.step(now(1), Input::Testimony { from: OperatorIndex(from), testimony })
        });
        watermarks(&answers.collect::<Vec<_>>()).unwrap()
    };
    assert_eq!(
        claims([9_000_000, 1 << 60, 8_000_000]),
        abstaining(BLOCKS_ABSTAINED, 9_000_000 + SLOTS_ABSTAINED)
    );
    assert_eq!(claims([0, 1 << 60, 0]), abstaining(BLOCKS_ABSTAINED, SLOTS_ABSTAINED));
}

#[test]
fn its_own_signature_in_a_message_counts_while_it_asks() {
    let of_mine = |from| {
        let message = Verified::Prepare(own_prepare(slot(7_000)));
        Input::Message { from: OperatorIndex(from), message }
    };
    let mut replica = rejoining();
    assert!(replica.step(now(1), of_mine(2)).is_empty());
    let answers = [1, 2, 3].map(|from| replica.step(now(2), testimony(from, &[], &[]))).concat();
    assert_eq!(watermarks(&answers), Some(abstaining(BLOCKS_ABSTAINED, 7_000 + SLOTS_ABSTAINED)));

    let mut replica = unproven(Recovery::default());
    let effects = replica.step(now(1), of_mine(2));
    assert!(matches!(effects[..], [Effect::RaiseWatermarks(_), Effect::Halt(_)]), "{effects:?}");
}

/// Simulator seed 14985: members that restarted showed nothing of a duty that nobody had decided, and it
/// proposed another value for it.
#[test]
fn it_abstains_from_the_first_slots_where_members_show_nothing_of_any_duty() {
    let mut replica = rejoining();
    let effects: Vec<Effect> =
        [1, 2, 3].into_iter().flat_map(|from| replica.step(now(1), testimony(from, &[], &[]))).collect();
    assert_eq!(watermarks(&effects), Some(abstaining(BLOCKS_ABSTAINED, SLOTS_ABSTAINED)));
    let leads = |height: &u64| common::leader(slot(*height), 0) == ME;
    let last = (0..=SLOTS_ABSTAINED).rev().find(leads).unwrap();
    let first = (SLOTS_ABSTAINED + 1..).find(leads).unwrap();
    for (height, signed) in [(last, false), (first, true)] {
        let value = duty_value(duty(height), "{}");
        let input = Input::Duty { duty: duty(height), value, ticket: Ticket(height) };
        assert_eq!(signs(&replica.step(now(2), input)), signed, "slot {height}");
    }
}

#[test]
fn a_member_that_shows_an_unknown_statement_of_ours_stops_a_node_that_believes_it_knows_all() {
    let mut replica = started(ME.0, Recovery::default());
    assert_eq!(asked(&replica.step(now(1), Input::PeerConnected(OperatorIndex(2)))), [2]);
    let known = replica.step(now(1), proposed(&blocks(1)[0]));
    let signed = records(&known).iter().find_map(|record| record.statement().cloned());
    let testimony_of = |signed: Signed| Input::Testimony {
        from: OperatorIndex(2),
        testimony: CheckedTestimony { signed: vec![signed], ..CheckedTestimony::default() },
    };
    assert!(replica.step(now(2), testimony_of(signed.unwrap())).is_empty());
    let effects = replica.step(now(3), testimony(2, &[], &[at(7)]));
    let [
        Effect::RaiseWatermarks(watermarks),
        Effect::Halt(Halt::SignedElsewhere { instance: InstanceId::Block(Height(7)), .. }),
    ] = &effects[..]
    else {
        panic!("{effects:?}")
    };
    assert_eq!(*watermarks, [at(7)], "whoever showed it may not be there the next time");
}

#[test]
fn a_member_shows_the_newest_statement_it_has_seen_of_an_operator() {
    let mut replica = started(1, Recovery::default());
    assert_eq!(replica.newest_statements_of(ME), []);
    for height in [1, 3] {
        let message = Verified::Prepare(own_prepare(at(height)));
        replica.step(now(1), Input::Message { from: ME, message });
    }
    // Slots come in any order: a copy taken after the later one may lack the earlier one.
    for height in [50, 40] {
        let message = Verified::Prepare(own_prepare(slot(height)));
        replica.step(now(1), Input::Message { from: ME, message });
    }
    let newest = [at(3), slot(40), slot(50)].map(own_prepare);
    assert_eq!(replica.newest_statements_of(ME), newest);
    assert_eq!(replica.newest_statements_of(OperatorIndex(2)), []);
}

#[test]
fn whoever_knows_less_than_it_once_did_gives_no_testimony_until_its_chain_is_there_again() {
    let blocks = blocks(7);
    // Lost: not while it asks, and not below the heights it may have signed in.
    let mut lost = rejoining();
    assert!(!lost.may_testify());
    [1, 2, 3].into_iter().for_each(|from| drop(lost.step(now(1), at_height(from, 5))));
    assert!(!lost.is_rejoining() && !lost.may_testify());
    lost.step(now(2), fetched(&blocks[..5]));
    assert!(!lost.may_testify(), "it may have signed in height 7, and then knew block 6");
    lost.step(now(3), fetched(&blocks[5..6]));
    assert!(lost.may_testify());

    // Only the chain was removed: the votes still say how far it was.
    let votes = vec![own_prepare(at(4)).vote_root()];
    let mut behind = started(ME.0, Recovery { votes, ..Recovery::default() });
    behind.step(now(1), fetched(&blocks[..2]));
    assert!(!behind.may_testify());
    behind.step(now(2), fetched(&blocks[2..3]));
    assert!(behind.may_testify());

    let whole = started(ME.0, Recovery::default());
    assert!(whole.may_testify(), "a new operator has nothing to catch up with");
}

/// At a start with a directory that looks whole.
fn unproven(recovery: Recovery) -> Operator {
    let mut replica = replica(ME.0, Recovery { history: SigningHistory::Unverified, ..recovery });
    let effects = replica.start(now(0));
    assert_eq!(asked(&effects), [1, 2, 3]);
    assert!(!signs(&effects));
    replica
}

/// The leader of height 4 is this operator, and it has nothing to send again.
fn leader_with_three_blocks(history: SigningHistory) -> (Operator, Vec<Effect>) {
    let mut replica = replica(ME.0, Recovery { history, ..Recovery::default() });
    let mut effects = replica.start(now(0));
    effects.extend(replica.step(now(1), fetched(&blocks(3))));
    effects.extend(replica.step(now(60_000), Input::Timer(Timer::Propose(Height(4)))));
    (replica, effects)
}

#[test]
fn after_every_start_nothing_is_signed_until_q_minus_1_members_have_answered() {
    assert!(signs(&leader_with_three_blocks(SigningHistory::Trusted).1), "it would propose at once");
    let (mut replica, effects) = leader_with_three_blocks(SigningHistory::Unverified);
    assert!(!signs(&effects));
    assert!(!signs(&replica.step(now(60_001), at_height(1, 3))));
    assert!(!signs(&replica.step(now(60_001), at_height(1, 3))), "each counts once");
    assert!(replica.is_rejoining());
    let mut effects = replica.step(now(60_002), at_height(3, 3));
    assert!(!replica.is_rejoining());
    assert_eq!(watermarks(&effects), None, "nothing is abstained from");
    effects.extend(replica.step(now(120_000), Input::Timer(Timer::Propose(Height(4)))));
    assert!(signs(&effects));
}

#[test]
fn an_old_copy_is_shown_what_it_signed_since_and_stops_before_it_signs() {
    let mut replica = unproven(Recovery::default());
    let shown = testimony(1, &[at(7)], &[at(8)]);
    let effects = replica.step(now(1), shown);
    let elsewhere = pick!(effects, Effect::Halt(Halt::SignedElsewhere { instance, .. }) => *instance).next();
    assert!(elsewhere == Some(at(8)) && !signs(&effects), "{effects:?}");
}

#[test]
fn an_old_copy_is_noticed_by_duties_too() {
    let mut replica = unproven(Recovery::default());
    let effects = replica.step(now(1), testimony(1, &[], &[slot(8)]));
    assert!(has!(effects, Effect::Halt(_)));
}

#[test]
fn members_that_start_together_answer_each_other_and_one_without_memory_answers_nobody() {
    assert!(unproven(Recovery::default()).may_testify());
    assert!(!rejoining().may_testify());
}

#[test]
fn an_own_statement_that_is_unknown_stops_the_node_wherever_it_comes() {
    let unknown = own_prepare(at(1));
    let change = common::change(at(1), 1, None).by(1);
    let message = aequa_types::RoundChange { change, prepares: vec![unknown.clone()] };
    let inside = Input::Message { from: OperatorIndex(1), message: Verified::RoundChange(message) };
    for input in [inside, Input::Statement(unknown)] {
        let mut replica = started(ME.0, Recovery::default());
        let effects = replica.step(now(1), input.clone());
        assert!(has!(effects, Effect::Halt(_)), "{input:?}");
    }
}

#[test]
fn the_newest_statement_of_each_kind_is_shown() {
    let mut replica = started(1, Recovery::default());
    let id = at(1);
    let change = aequa_types::RoundChange { change: common::change(id, 1, None).by(ME.0), prepares: vec![] };
    for message in [Verified::Prepare(prepare(id, 1, digest(1)).by(ME.0)), Verified::RoundChange(change)] {
        replica.step(now(1), Input::Message { from: ME, message });
    }
    let kinds: Vec<_> = replica.newest_statements_of(ME).iter().map(|signed| signed.kind()).collect();
    assert_eq!(kinds.len(), 2, "{kinds:?}");
}

#[test]
fn a_duty_posted_while_members_are_asked_waits_for_their_answers() {
    let mut replica = unproven(Recovery::default());
    let value = duty_value(duty(3), "{}");
    let input = Input::Duty { duty: duty(3), value, ticket: Ticket(1) };
    assert!(replica.step(now(1), input).is_empty());
    replica.step(now(2), at_height(1, 0));
    let effects = replica.step(now(3), at_height(2, 0));
    let accepted = |effect: &Effect| {
        matches!(effect, Effect::Tell(Tell::DutyAdmission(Ticket(1), DutyAdmission::Accepted)))
    };
    assert!(effects.iter().any(accepted), "{effects:?}");
}

#[test]
fn the_share_of_a_block_fetched_while_it_asks_is_given_when_it_ends() {
    let blocks = blocks(4);
    let share_of = |effects: &[Effect]| -> Vec<u64> {
        let shared = broadcast(effects);
        pick!(shared, Message::Commit(vote) if vote.author == ME => vote.instance.number()).collect()
    };
    // Nothing is known to be lost: the share may be the one without which the seal stays incomplete.
    let mut unproven = started(ME.0, unverified());
    assert_eq!(share_of(&unproven.step(now(1), fetched(&blocks))), [] as [u64; 0]);
    unproven.step(now(2), at_height(1, 4));
    let effects = unproven.step(now(2), at_height(2, 4));
    assert_eq!(share_of(&effects), [1, 2, 3, 4]);

    // Where it may have voted already it gives none.
    let mut lost = rejoining();
    lost.step(now(1), fetched(&blocks));
    for from in 1..=3 {
        assert_eq!(share_of(&lost.step(now(2), at_height(from, 4))), [] as [u64; 0]);
    }
    assert!(!lost.is_rejoining());
}

#[test]
fn a_twin_that_signs_while_this_one_abstains_stops_it_and_an_old_statement_does_so_once() {
    let in_change = |height: u64| {
        let id = at(height);
        let change = common::change(id, 1, None).by(1);
        let message = aequa_types::RoundChange { change, prepares: vec![own_prepare(id)] };
        Input::Message { from: OperatorIndex(1), message: Verified::RoundChange(message) }
    };
    let stops = |effects: &[Effect]| has!(effects, Effect::Halt(_));
    // Members have seen it up to block 4, and in slot 4.
    let abstaining_from = |watermarks: Vec<InstanceId>| {
        let recovery = Recovery { history: SigningHistory::Lost, watermarks, ..Recovery::default() };
        let mut replica = started(ME.0, recovery);
        replica.step(now(1), fetched(&blocks(3)));
        for from in 1..=3 {
            let seen = [at(4), slot(4)];
            replica.step(now(1), testimony(from, &[at(3)], &seen));
        }
        assert!(!replica.is_rejoining());
        replica
    };
    let mut replica = abstaining_from(Vec::new());
    assert!(!stops(&replica.step(now(2), in_change(4))), "its own of before");
    assert!(!stops(&replica.step(now(2), testimony(1, &[], &[slot(4)]))));
    for sign_of_life in [in_change(5), testimony(1, &[], &[at(5)]), testimony(1, &[], &[slot(5)])] {
        assert!(stops(&abstaining_from(Vec::new()).step(now(2), sign_of_life.clone())), "{sign_of_life:?}");
    }
    // What it was shown then is a watermark when it starts again: of an old statement there is only one.
    let mut replica = abstaining_from(vec![at(5)]);
    assert!(!stops(&replica.step(now(2), in_change(5))));
}

/// Whether an operator on a copy from before `signed` is stopped by what `member` shows it.
fn stops_a_copy(member: &Operator, signed: &Signed) -> bool {
    assert!(member.may_testify());
    let shown = member.newest_statements_of(ME);
    assert!(shown.contains(signed), "{shown:?}");
    let mut copy = started(ME.0, unverified());
    let testimony = CheckedTestimony { signed: shown, ..CheckedTestimony::default() };
    let effects = copy.step(now(1), Input::Testimony { from: OperatorIndex(2), testimony });
    has!(effects, Effect::Halt(Halt::SignedElsewhere { .. }))
}

fn heard(from: OperatorIndex, signed: &Signed) -> Input {
    Input::Message { from, message: Verified::Prepare(signed.clone()) }
}

/// Rule 1 for an operator whose directory is an old copy, when everybody who could tell it has restarted too.
#[test]
fn members_that_restarted_stop_an_old_copy_from_signing_a_second_statement_in_one_place() {
    let id = at(1);
    let first = blocks(1).swap_remove(0);
    let mut before = started(ME.0, Recovery::default());
    let said = before.step(now(0), proposed(&first));
    let voted = pick!(said, Effect::Persist(Record::Prepare(vote)) => vote.clone()).next().unwrap();
    // A member hears it, and restarts with what its disk holds.
    let mut member = replica(2, Recovery::default());
    let mut kept = records(&member.start(now(0)));
    kept.extend(records(&member.step(now(0), proposed(&first))));
    kept.extend(records(&member.step(now(1), heard(ME, &voted))));
    let values = vec![(id, Value::block(first))];
    let history = SigningHistory::Unverified;
    let member = started(2, Recovery { records: kept, values, history, ..Recovery::default() });
    assert!(stops_a_copy(&member, &voted));
}

/// The same where the vote came last: those that decided did not need it.
#[test]
fn a_vote_heard_after_the_decision_outlives_the_restart_of_who_heard_it() {
    let chain = blocks(2);
    let mut member = started(2, Recovery::default());
    member.step(now(1), fetched(&chain));
    let vote = |height| prepare(at(height), 0, digest(9)).by(ME.0);
    let kept = records(&member.step(now(2), heard(ME, &vote(2))));
    assert_eq!(kept, [Record::Heard(vote(2))]);
    assert!(member.needs(Record::Heard(vote(2)).subject(), Height(2)), "it is not pruned with the block");
    assert_eq!(records(&member.step(now(2), heard(ME, &vote(1)))), [], "there everybody fetches");
    let member = started(2, Recovery { records: kept, ..unverified() });
    assert!(stops_a_copy(&member, &vote(2)));
}

/// The same for a duty that was never posted to those who heard of it, or is over there.
#[test]
fn what_was_heard_of_a_duty_outlives_a_restart_also_where_it_was_not_posted() {
    let vote = own_prepare(slot(7));
    let closed = || Recovery { closed_duties: vec![duty(7)], ..Recovery::default() };
    for before in [Recovery::default(), closed()] {
        let mut member = started(2, before);
        let kept = records(&member.step(now(1), heard(ME, &vote)));
        assert_eq!(kept, [Record::Heard(vote.clone())]);
        let needed = |record: Record| member.needs(record.subject(), Height(0));
        assert!(needed(Record::Heard(vote.clone())) && !needed(Record::Prepare(vote.clone())));
        let history = SigningHistory::Unverified;
        let member = started(2, Recovery { records: kept, history, ..closed() });
        assert!(stops_a_copy(&member, &vote));
    }
}

#[test]
fn what_is_heard_is_written_once() {
    let mut member = started(2, Recovery::default());
    let mut written = |instance, round| {
        let vote = prepare(instance, round, digest(9)).by(ME.0);
        let effects = member.step(now(1), heard(ME, &vote));
        let once = records(&effects).iter().filter(|record| **record == Record::Heard(vote.clone())).count();
        assert_eq!(records(&member.step(now(1), heard(ME, &vote))), []);
        once
    };
    assert_eq!([at(1), at(2), at(3), slot(5)].map(|id| written(id, 0)), [1; 4]);
    assert_eq!(written(at(1), 1), 1);
    assert_eq!(written(at(100), 0), 0, "so early it is not taken");
}

/// A copy so old that members have forgotten what it said then.
#[test]
fn at_heights_the_members_have_left_an_operator_fetches_blocks_and_says_nothing() {
    let blocks = blocks(3);
    let mut copy = started(ME.0, unverified());
    for from in [1, 2] {
        copy.step(now(1), at_height(from, 3));
    }
    assert!(!copy.is_rejoining());
    for block in &blocks[..2] {
        let effects = copy.step(now(2), proposed(block));
        assert!(!signs(&effects), "{effects:?}");
        for author in [1, 2, 3] {
            let vote = common::round_change(author, InstanceId::Block(block.header().height), 5);
            let effects = copy.step(now(2), Input::Message { from: OperatorIndex(author), message: vote });
            assert!(!signs(&effects), "{effects:?}");
        }
        copy.step(now(3), fetched(std::slice::from_ref(block)));
    }
    assert!(signs(&copy.step(now(4), proposed(&blocks[2]))), "the last certified one may need its vote");
}
