//! The abstract model: the rules keep agreement, and it notices when they do not.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

use aequa_model::protocol::{AGREEMENT, Mutation, ONE_STATEMENT, Protocol};
use aequa_model::run::{Outcome, search, search_up_to_names};
use stateright::Model as _;

/// The steps to the first state in which the mutation breaks the property.
fn steps_to(mutation: Mutation, property: &'static str) -> usize {
    let Outcome { mut discoveries, .. } = search(Protocol::mutated(mutation, property).checker());
    discoveries.remove(property).unwrap_or_else(|| panic!("{mutation:?} went unnoticed")).len()
}

/// The number of states is part of the test: a smaller model would prove less.
#[test]
fn agreement_holds_in_every_state_of_two_rounds_and_two_values() {
    let outcome = search(Protocol::of_rounds(2).checker());
    assert!(outcome.failures.is_empty(), "{:?}: {:#?}", outcome.failures, outcome.discoveries);
    assert_eq!((outcome.unique, outcome.depth), (300_308, 20));
}

#[test]
fn a_quorum_of_2f_is_found() {
    assert_eq!(steps_to(Mutation::QuorumOfTwoF, AGREEMENT), 6);
}

#[test]
fn a_double_prepare_is_found() {
    assert_eq!(steps_to(Mutation::DoublePrepare, ONE_STATEMENT), 2);
}

#[test]
fn restart_amnesia_is_found() {
    assert_eq!(steps_to(Mutation::RestartAmnesia, ONE_STATEMENT), 3);
}

/// Depth first and up to names, for any way: the shortest takes long, and `cargo xtask model --deep` gives it.
#[test]
fn agreement_breaks_without_any_of_the_guards() {
    for mutation in Mutation::ALL {
        let outcome = search_up_to_names(Protocol::mutated(mutation, AGREEMENT).checker());
        assert!(outcome.discoveries.contains_key(AGREEMENT), "{mutation:?} went unnoticed");
    }
}

#[test]
fn ignoring_the_highest_prepared_is_found() {
    assert_eq!(steps_to(Mutation::IgnoreHighestPrepared, AGREEMENT), 12);
}

#[test]
fn a_round_change_without_its_quorum_is_found() {
    assert_eq!(steps_to(Mutation::RoundChangeWithoutQuorum, AGREEMENT), 12);
}
