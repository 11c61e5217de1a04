use super::*;
use aequa_testkit::{Dice, at, commit, digest, prepare, runs};

const TIP: Height = Height(6);
const AGREED_ON: u64 = 7;
const AGREEING: Agreeing = Agreeing { tip: TIP, round: Round(2) };
const DECIDED: Agreeing = Agreeing { tip: Height(AGREED_ON), round: Round(0) };

fn four(seals: bool) -> Intake {
    Intake::new(Quorum::of(4).unwrap(), seals)
}

fn vote(author: u8, value: u8) -> Signed {
    prepare(at(AGREED_ON), 2, digest(value)).by(author)
}

fn prepared(author: u8, value: u8) -> Message {
    Message::Prepare(vote(author, value))
}

fn committed(author: u8, value: u8) -> Message {
    Message::Commit(commit(at(AGREED_ON), 2, digest(value)).by(author))
}

/// Takes a message in as a node does whose members sign well: who is for the replica now, and what is to be checked.
fn takes(intake: &mut Intake, now_ms: u64, from: u8, message: Message) -> (Vec<u8>, usize) {
    let from = OperatorIndex(from);
    let to_check = intake.arrived(now_ms, AGREEING, from, message);
    let checked = to_check.len();
    let passed: Vec<_> = to_check
        .into_iter()
        .flat_map(|message| intake.passed(now_ms, AGREEING, from, verified(message)))
        .collect();
    (authors(&passed), checked)
}

fn verified(message: Message) -> Verified {
    match message {
        Message::Prepare(vote) => Verified::Prepare(vote),
        Message::Commit(vote) => Verified::Commit(vote),
        other => panic!("{other:?} is no vote"),
    }
}

fn authors(passed: &[(OperatorIndex, Verified)]) -> Vec<u8> {
    passed.iter().map(|(from, _)| from.0).collect()
}

#[test]
fn votes_come_together_when_they_make_a_quorum_with_the_own_one() {
    let mut intake = four(true);
    assert_eq!(takes(&mut intake, 0, 1, prepared(1, 9)), (vec![], 1), "checked at once");
    assert_eq!(takes(&mut intake, 0, 2, prepared(2, 8)), (vec![], 1), "for another value");
    assert_eq!(takes(&mut intake, 0, 3, prepared(3, 9)), (vec![1, 2, 3], 1));

    let mut seven = Intake::new(Quorum::of(7).unwrap(), true);
    for author in 1..4 {
        assert_eq!(takes(&mut seven, 0, author, prepared(author, 9)), (vec![], 1));
    }
    assert_eq!(takes(&mut seven, 0, 4, prepared(4, 9)), (vec![1, 2, 3, 4], 1));
}

#[test]
fn a_vote_that_finds_no_others_comes_when_it_is_overdue() {
    let mut intake = four(true);
    takes(&mut intake, 5, 1, prepared(1, 9));
    assert_eq!(intake.overdue(4 + WAIT_MS, AGREEING), Overdue::default());
    assert!(intake.holds_any());
    let overdue = intake.overdue(5 + WAIT_MS, AGREEING);
    assert_eq!((authors(&overdue.checked), overdue.unchecked.len()), (vec![1], 0));
    assert!(!intake.holds_any());
    // Two of the others are two still, whenever the second comes.
    assert_eq!(takes(&mut intake, 99, 2, prepared(2, 9)), (vec![2], 1));
}

#[test]
fn what_no_quorum_needs_is_checked_only_where_the_height_stays_undecided() {
    for agreeing in [AGREEING, DECIDED] {
        let mut intake = four(true);
        (1..3).for_each(|author| drop(takes(&mut intake, 0, author, prepared(author, 9))));
        assert_eq!(takes(&mut intake, 1, 3, prepared(3, 9)), (vec![], 0), "set aside");
        let overdue = intake.overdue(1 + WAIT_MS, agreeing);
        assert!(overdue.checked.is_empty());
        let expected = if agreeing == AGREEING { (1, 0) } else { (0, 1) };
        assert_eq!((overdue.unchecked.len(), overdue.unneeded.len()), expected);
    }
}

#[test]
fn a_second_vote_brings_back_the_first_that_was_set_aside() {
    for (value, what) in [(8, "a contradiction"), (9, "a repetition")] {
        let mut intake = four(true);
        (1..3).for_each(|author| drop(takes(&mut intake, 0, author, prepared(author, 9))));
        takes(&mut intake, 0, 3, prepared(3, 9));
        intake.overdue(WAIT_MS, DECIDED);
        let back = intake.arrived(50, DECIDED, OperatorIndex(3), prepared(3, value));
        assert_eq!(back, [prepared(3, 9), prepared(3, value)], "{what}");
    }
}

#[test]
fn a_second_vote_takes_the_first_that_waits_with_it() {
    for value in [8, 9] {
        let mut intake = four(true);
        takes(&mut intake, 0, 1, prepared(1, 9));
        assert_eq!(takes(&mut intake, 0, 1, prepared(1, value)), (vec![1, 1], 1));
    }
}

#[test]
fn commits_are_set_aside_only_where_no_share_may_be_needed() {
    for (seals, checked) in [(true, 1), (false, 0)] {
        let mut intake = four(seals);
        (1..3).for_each(|author| drop(takes(&mut intake, 0, author, committed(author, 9))));
        assert_eq!(takes(&mut intake, 0, 3, committed(3, 9)), (vec![], checked));
    }
}

#[test]
fn what_is_not_agreed_on_now_or_is_carried_by_another_goes_straight_through() {
    let mut intake = four(true);
    let cases = [
        (1, Message::Prepare(prepare(at(AGREED_ON), 1, digest(9)).by(1)), "an older round"),
        (1, Message::Prepare(prepare(at(AGREED_ON), 3, digest(9)).by(1)), "a later round"),
        (1, Message::Prepare(prepare(at(AGREED_ON + 1), 2, digest(9)).by(1)), "a later height"),
        (1, Message::Commit(commit(at(TIP.0), 2, digest(9)).by(1)), "a decided height"),
        (2, prepared(1, 9), "another's vote"),
    ];
    for (from, message, what) in cases {
        assert_eq!(takes(&mut intake, 0, from, message), (vec![from], 1), "{what}");
    }
    assert!(!intake.holds_any());
}

#[test]
fn no_more_steps_than_a_limit_are_remembered() {
    let mut intake = four(true);
    for round in 0..STEPS_MAX as u64 + 10 {
        let agreeing = Agreeing { tip: TIP, round: Round(round) };
        let vote = Verified::Prepare(prepare(at(AGREED_ON), round, digest(9)).by(1));
        let passed = intake.passed(0, agreeing, OperatorIndex(1), vote);
        assert_eq!(passed.is_empty(), round < STEPS_MAX as u64, "round {round}");
    }
    let later = Agreeing { tip: Height(AGREED_ON + HEIGHTS_BEHIND + 1), round: Round(0) };
    intake.arrived(0, later, OperatorIndex(1), prepared(1, 9));
    assert!(intake.steps.is_empty());
}

/// Whatever arrives in whatever order: what a quorum could need reaches the replica soon, and once.
#[test]
fn nothing_that_counts_is_lost_or_late() {
    for seed in 0..runs(2_000) {
        let mut dice = Dice(seed);
        let seals = dice.chance(50);
        let mut intake = four(seals);
        let mut agreeing = AGREEING;
        let (mut arrived, mut handed, mut unneeded) = (0, Vec::new(), 0);
        for now_ms in 0..80 {
            if dice.chance(5) {
                agreeing = DECIDED;
            }
            let (author, value) = (1 + dice.below(3) as u8, 8 + dice.below(2) as u8);
            let message = if dice.chance(50) { prepared(author, value) } else { committed(author, value) };
            let from = OperatorIndex(author);
            if now_ms < 50 {
                arrived += 1;
                for message in intake.arrived(now_ms, agreeing, from, message) {
                    handed.extend(intake.passed(now_ms, agreeing, from, verified(message)));
                }
            }
            let overdue = intake.overdue(now_ms, agreeing);
            handed.extend(overdue.checked);
            handed.extend(overdue.unchecked.into_iter().map(|(from, message)| (from, verified(message))));
            unneeded += overdue.unneeded.len();
        }
        assert!(!intake.holds_any(), "seed {seed}");
        assert!(unneeded == 0 || agreeing == DECIDED, "seed {seed}");
        let still_aside: usize = intake.steps.values().map(|step| step.aside.len()).sum();
        assert_eq!(arrived, handed.len() + still_aside, "seed {seed}: each once");
        for ((_, _, kind), step) in &intake.steps {
            for message in step.aside.values() {
                let value = message.statement().and_then(|signed| signed.digest()).unwrap();
                assert!(agreeing == DECIDED && step.count(value) >= 2, "seed {seed}");
                assert!(*kind == Kind::Prepare || !seals, "seed {seed}: a share may be needed");
            }
        }
    }
}
