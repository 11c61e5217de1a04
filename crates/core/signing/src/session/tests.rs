use super::*;
use SessionEnd::{Failed, Overdue, Signed};
use SessionEvent::{Ended, Gathered, Opened, Refused, Spoilt};
use aequa_testkit::Dice;

const FIRST: u64 = 1;

/// Of four operators, q are three.
fn sessions(open_max: usize) -> Sessions<u64> {
    Sessions::new(Quorum::of(4).unwrap(), open_max)
}

fn of(operators: &[u8]) -> Shares {
    operators.iter().map(|operator| (OperatorIndex(*operator), Seal::repeat_byte(*operator))).collect()
}

fn add(sessions: &mut Sessions<u64>, root: u64, operator: u8) {
    sessions.add(&root, OperatorIndex(operator), Seal::repeat_byte(operator));
}

fn blame(sessions: &mut Sessions<u64>, root: u64, operators: &[u8]) {
    let operators: Vec<_> = operators.iter().copied().map(OperatorIndex).collect();
    sessions.blame(&root, &operators);
}

#[test]
fn shares_of_another_root_are_never_added_up() {
    let mut sessions = sessions(0);
    sessions.begin(FIRST, of(&[0, 1]));
    add(&mut sessions, 2, 2);
    assert_eq!(sessions.take_handed_out(), []);
    add(&mut sessions, FIRST, 3);
    assert_eq!(sessions.take_handed_out(), [(FIRST, of(&[0, 1, 3]))]);
}

#[test]
fn shares_of_one_signing_root_under_two_keys_are_never_added_up() {
    let mut sessions: Sessions<(&str, u64), [u8; 96]> = Sessions::new(Quorum::of(2).unwrap(), 0);
    let share = |operator: u8| (OperatorIndex(operator), [operator; 96]);
    sessions.begin(("one", FIRST), [share(0)]);
    sessions.begin(("other", FIRST), [share(1)]);
    assert_eq!(sessions.take_handed_out(), []);
    sessions.add(&("one", FIRST), OperatorIndex(2), [2; 96]);
    assert_eq!(sessions.take_handed_out(), [(("one", FIRST), vec![share(0), share(2)])]);
}

#[test]
fn a_blamed_share_is_replaced_by_a_later_one() {
    let mut sessions = sessions(0);
    sessions.begin(FIRST, of(&[0, 1, 2]));
    assert_eq!(sessions.take_handed_out(), [(FIRST, of(&[0, 1, 2]))]);
    blame(&mut sessions, FIRST, &[1]);
    assert_eq!((sessions.take_handed_out(), sessions.pending()), (vec![], 0));
    add(&mut sessions, FIRST, 3);
    assert_eq!(sessions.take_handed_out(), [(FIRST, of(&[0, 2, 3]))]);
    assert_eq!(sessions.pending(), 1);
    sessions.close(&FIRST);
    assert_eq!((sessions.pending(), sessions.is_empty()), (0, true));
    sessions.begin(2, of(&[0, 1, 2, 3]));
    assert_eq!(sessions.take_handed_out(), [(2, of(&[0, 2, 3]))], "taken last from now on");
}

#[test]
fn one_operator_has_one_share_and_while_shares_are_combined_none_are_handed_out() {
    let mut sessions = sessions(0);
    sessions.begin(FIRST, of(&[0, 1]));
    add(&mut sessions, FIRST, 1);
    assert_eq!(sessions.take_handed_out(), []);
    sessions.begin(FIRST, of(&[2]));
    assert_eq!(sessions.take_handed_out(), [(FIRST, of(&[0, 1, 2]))]);
    add(&mut sessions, FIRST, 3);
    assert_eq!(sessions.take_handed_out(), []);
}

#[test]
fn what_is_given_up_is_collected_for_no_more() {
    let mut sessions = sessions(0);
    sessions.begin(FIRST, of(&[0, 1]));
    sessions.begin(2, of(&[0, 1]));
    sessions.retain(|root, _| *root > FIRST);
    add(&mut sessions, FIRST, 2);
    assert_eq!(sessions.take_handed_out(), []);
    add(&mut sessions, 2, 2);
    assert_eq!(sessions.take_handed_out(), [(2, of(&[0, 1, 2]))]);
}

#[test]
fn whoever_gives_sessions_up_knows_which_have_all_their_shares() {
    let mut sessions = sessions(1);
    sessions.begin(FIRST, of(&[0, 1, 2]));
    sessions.begin(2, of(&[0, 1, 2]));
    sessions.begin(3, of(&[0, 1]));
    sessions.retain(|_, has_quorum| has_quorum);
    assert_eq!((sessions.open(), sessions.pending(), sessions.len()), (1, 2, 2));
}

#[test]
fn every_step_of_a_session_is_told_once() {
    let mut sessions = sessions(0);
    sessions.begin(FIRST, of(&[0, 1]));
    assert_eq!(sessions.take_events(), [(FIRST, Opened)]);
    add(&mut sessions, FIRST, 2);
    assert_eq!(sessions.take_events(), [(FIRST, Gathered)]);
    blame(&mut sessions, FIRST, &[0]);
    assert_eq!(sessions.take_events(), [(FIRST, Spoilt)]);
    add(&mut sessions, FIRST, 3);
    sessions.close(&FIRST);
    assert_eq!(sessions.take_events(), [(FIRST, Gathered), (FIRST, Ended(Signed))]);
    sessions.close(&FIRST);
    sessions.begin(2, of(&[0]));
    sessions.retain(|_, _| false);
    assert_eq!(sessions.take_events(), [(2, Opened), (2, Ended(Overdue))]);
}

#[test]
fn a_session_fails_when_the_operators_left_are_fewer_than_a_quorum() {
    let mut sessions = sessions(0);
    sessions.begin(FIRST, of(&[0, 1, 2]));
    blame(&mut sessions, FIRST, &[0]);
    assert_eq!(sessions.len(), 1, "three are left");
    add(&mut sessions, FIRST, 3);
    sessions.take_events();
    blame(&mut sessions, FIRST, &[3]);
    assert_eq!(sessions.take_events(), [(FIRST, Ended(Failed))]);
    assert!(sessions.is_empty());
}

#[test]
fn a_session_beyond_the_limit_waits_and_loses_no_share() {
    let mut sessions = sessions(1);
    sessions.begin(FIRST, of(&[0, 1, 2]));
    sessions.begin(2, of(&[0, 1]));
    sessions.begin(3, of(&[0]));
    assert_eq!((sessions.open(), sessions.len(), sessions.pending()), (1, 3, 1));
    add(&mut sessions, 2, 3);
    assert_eq!((sessions.open(), sessions.pending()), (1, 2));
    assert_eq!(sessions.take_handed_out(), [(FIRST, of(&[0, 1, 2]))]);
    let told = [(FIRST, Opened), (FIRST, Gathered), (2, Refused), (3, Refused)];
    assert_eq!(sessions.take_events(), told);
    sessions.close(&FIRST);
    assert_eq!(sessions.take_handed_out(), [(2, of(&[0, 1, 3]))]);
    assert_eq!(sessions.take_events(), [(FIRST, Ended(Signed)), (2, Opened), (2, Gathered)]);
}

/// Or an operator whose shares do not come would stop all sealing, and with it the proposals that wait for it.
#[test]
fn a_session_that_lacks_shares_gives_its_place_to_one_that_lacks_none() {
    let mut sessions = sessions(1);
    sessions.begin(FIRST, of(&[0, 1]));
    sessions.begin(2, of(&[0, 1, 2]));
    assert_eq!(sessions.take_handed_out(), [(2, of(&[0, 1, 2]))]);
    let told = [(FIRST, Opened), (FIRST, Refused), (2, Opened), (2, Gathered)];
    assert_eq!(sessions.take_events(), told);
    add(&mut sessions, FIRST, 2);
    assert_eq!(sessions.take_handed_out(), [], "shares with the combiner keep their place");
    blame(&mut sessions, 2, &[1]);
    assert_eq!(sessions.take_handed_out(), [(FIRST, of(&[0, 2, 1]))]);
    assert_eq!((sessions.open(), sessions.len()), (1, 2));
}

#[test]
fn those_with_a_quorum_get_free_places_in_the_order_in_which_they_began() {
    let mut sessions = sessions(2);
    sessions.begin(9, of(&[0, 1, 2]));
    sessions.begin(8, of(&[0, 1, 2]));
    sessions.begin(7, of(&[0]));
    sessions.begin(6, of(&[0, 1, 2]));
    sessions.begin(5, of(&[0, 1, 2]));
    sessions.take_handed_out();
    sessions.close(&9);
    sessions.retain(|root, _| *root != 8);
    let next: Vec<u64> = sessions.take_handed_out().into_iter().map(|(root, _)| root).collect();
    assert_eq!(next, [6, 5]);
    sessions.close(&5);
    assert_eq!((sessions.open(), sessions.len()), (2, 2), "the one that lacks shares has a place at last");
}

/// Whatever happens: places are kept to, nothing with q shares waits without need, everything is signed in the end.
#[test]
fn with_any_limit_every_session_that_gets_its_shares_is_signed() {
    for seed in 0..300 {
        let mut dice = Dice(seed);
        let open_max = 1 + dice.below(3);
        let mut sessions = sessions(open_max);
        let (mut combining, mut signed): (Vec<u64>, BTreeSet<u64>) = Default::default();
        let all: Vec<u64> = (0..10).collect();
        for round in 0..400 {
            let root = dice.below(10) as u64;
            match dice.below(3) {
                0 if !signed.contains(&root) => sessions.begin(root, of(&[dice.below(4) as u8])),
                1 => add(&mut sessions, root, dice.below(4) as u8),
                _ if !combining.is_empty() => {
                    let root = combining.remove(dice.below(combining.len()));
                    if dice.below(4) == 0 {
                        blame(&mut sessions, root, &[]);
                    } else {
                        sessions.close(&root);
                        signed.insert(root);
                    }
                }
                _ => {}
            }
            combining.extend(sessions.take_handed_out().into_iter().map(|(root, _)| root));
            assert!(sessions.open() <= open_max && combining.len() <= open_max, "seed {seed} round {round}");
            let wanted = sessions.pending().min(open_max);
            assert_eq!(combining.len(), wanted, "seed {seed} round {round}");
        }
        for root in all.iter().filter(|root| !signed.contains(root)) {
            sessions.begin(*root, of(&[0, 1, 2, 3]));
        }
        combining.extend(sessions.take_handed_out().into_iter().map(|(root, _)| root));
        while let Some(root) = combining.pop() {
            sessions.close(&root);
            combining.extend(sessions.take_handed_out().into_iter().map(|(root, _)| root));
        }
        assert!(sessions.is_empty(), "seed {seed}");
        let told = sessions.take_events();
        let ended = told.iter().filter(|(_, event)| matches!(event, Ended(end) if *end == Signed)).count();
        assert_eq!(ended, all.len(), "seed {seed}: each is signed once");
    }
}
