//! The model of the code: the production core keeps its promises, and the model notices when what
//! is around it does not.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

use aequa_model::code::{AGREEMENT, Code, Crashes, FAULTY, Mutation, ONE_STATEMENT};
use aequa_model::run::{Outcome, search};
use stateright::Model as _;

fn steps_to(mutation: Mutation, property: &'static str) -> usize {
    let Outcome { mut discoveries, .. } = search(Code::mutated(mutation, property).checker());
    discoveries.remove(property).unwrap_or_else(|| panic!("{mutation:?} went unnoticed")).len()
}

/// The number of states is part of the test: a smaller model would prove less.
#[test]
fn the_core_keeps_its_promises_in_one_round_with_crashes_at_any_time() {
    let outcome = search(Code::of(&[FAULTY.0], Crashes::AnyTime).checker());
    assert!(outcome.failures.is_empty(), "{:?}: {:#?}", outcome.failures, outcome.discoveries);
    assert_eq!((outcome.unique, outcome.depth), (15_161, 12));
}

#[test]
fn a_crash_after_every_step_leads_nowhere_else() {
    let [without, with] = [Crashes::Never, Crashes::AfterEveryStep]
        .map(|crashes| search(Code::of(&[FAULTY.0], crashes).checker()).unique);
    assert_eq!((without, with), (583, 583));
}

/// Breadth first, so that every way of so many steps is followed: round changes are among them,
/// decisions in round 1 are not. `cargo xtask model --deep` follows them to the end.
#[test]
fn the_core_keeps_its_promises_for_seven_steps_of_two_rounds() {
    for leaders in [[FAULTY.0, 0], [0, FAULTY.0]] {
        let model = Code::of(&leaders, Crashes::AfterEveryStep);
        let outcome = search(model.checker().target_max_depth(8));
        let broken: Vec<_> =
            aequa_model::code::ALWAYS.iter().filter(|name| outcome.failures.contains(name)).collect();
        assert!(broken.is_empty(), "{broken:?}: {:#?}", outcome.discoveries);
    }
}

#[test]
fn a_quorum_of_2f_is_found() {
    assert_eq!(steps_to(Mutation::QuorumOfTwoF, AGREEMENT), 6);
}

#[test]
fn a_signer_that_forgets_is_found() {
    assert_eq!(steps_to(Mutation::ForgetfulSigner, ONE_STATEMENT), 3);
}

#[test]
fn sending_before_the_records_are_durable_is_found() {
    assert_eq!(steps_to(Mutation::SendBeforeSync, ONE_STATEMENT), 3);
}
