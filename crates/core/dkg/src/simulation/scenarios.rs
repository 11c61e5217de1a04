//! Ceremonies by name, and many drawn by a die.

use super::byzantine::Misbehaviour::{self, *};
use super::oracles::{hold, named, no_secret_left};
use super::world::{Faults, World};
use crate::{Fault, verify_blames};
use aequa_testkit::{Dice, runs};

const CALM: Faults = Faults { loss: 0, repeat: 0, crash: 0, delay_ms: 50 };
const ROUGH: Faults = Faults { loss: 15, repeat: 10, crash: 0, delay_ms: 400 };

fn dealers(result: &crate::PublicResult) -> Vec<u8> {
    result.qualified.iter().map(|dealing| dealing.dealer.0).collect()
}

/// Whom a proof names.
fn names(world: &World) -> Vec<u8> {
    named(world).into_iter().map(|operator| operator.0).collect()
}

/// Whom a transcript names without one.
fn silent(world: &World) -> Vec<(u8, Fault)> {
    let transcript = world.nodes[world.honest()[0]].disk.entries.clone();
    let blames = verify_blames(&world.definition, transcript).unwrap();
    let silent = blames.iter().filter(|blame| blame.proof.is_none());
    silent.map(|blame| (blame.operator.0, blame.fault)).collect()
}

#[test]
fn four_operators_make_keys_that_all_of_them_dealt() {
    let world = World::new(4, 2, 1, CALM).run();
    let result = hold(&world);
    assert_eq!((dealers(&result), names(&world)), (vec![0, 1, 2, 3], vec![]));
    no_secret_left(&world);
}

#[test]
fn a_single_operator_makes_keys_alone() {
    let result = hold(&World::new(1, 1, 1, CALM).run());
    assert_eq!(dealers(&result), [0]);
}

#[test]
fn an_absent_operator_delays_it_and_no_more() {
    for absent in 0..4 {
        let world = World::new(4, 1, absent as u64, ROUGH).absent(absent).run();
        let result = hold(&world);
        assert_eq!(dealers(&result).len(), 3);
        assert_eq!(names(&world), Vec::<u8>::new(), "silence is no proof");
        assert_eq!(silent(&world), [(absent as u8, Fault::NoCommit)]);
    }
}

#[test]
fn an_operator_that_comes_after_the_end_finishes_with_the_same_keys() {
    for late in 0..4 {
        let world = World::new(4, 2, late as u64, ROUGH).late(late, 120_000).run();
        assert!(!dealers(&hold(&world)).contains(&(late as u8)));
    }
}

#[test]
fn a_network_in_two_halves_goes_on_when_it_is_whole_again() {
    for (side, start_ms) in [(vec![0, 1], 0), (vec![1, 3], 2_000), (vec![2], 5_000)] {
        let world = World::new(4, 1, start_ms, ROUGH).divided(side, start_ms..start_ms + 60_000).run();
        hold(&world);
    }
}

#[test]
fn a_crash_at_any_write_is_survived_whether_the_write_is_or_not() {
    let writes = World::new(4, 0, 5, CALM).run().nodes[2].writes;
    assert!(writes > 10);
    for write in 1..=writes {
        for survives in [false, true] {
            let world = World::new(4, 0, 5, CALM).crashing_at(2, write, survives).run();
            assert_eq!(world.crashes, 1);
            hold(&world);
        }
    }
}

#[test]
fn bad_shares_to_one_disqualify_their_dealer_with_a_proof() {
    let world = World::new(4, 1, 3, ROUGH).lying(1, BadShares(vec![3])).run();
    let result = hold(&world);
    assert_eq!((dealers(&result), names(&world)), (vec![0, 2, 3], vec![1]));
}

#[test]
fn a_malformed_dealing_disqualifies_its_dealer_with_a_proof() {
    let world = World::new(4, 1, 4, ROUGH).lying(2, Malformed).run();
    assert_eq!((dealers(&hold(&world)), names(&world)), (vec![0, 1, 3], vec![2]));
}

#[test]
fn two_dealings_of_one_dealer_are_never_both_qualified() {
    for seed in 0..runs(6) {
        let world = World::new(4, 1, seed, ROUGH).lying(0, TwoDealings).run();
        assert_eq!((dealers(&hold(&world)), names(&world)), (vec![1, 2, 3], vec![0]));
    }
}

#[test]
fn a_dealer_that_is_silent_after_its_commit_is_left_out() {
    let world = World::new(4, 1, 5, ROUGH).lying(3, SilentAfterCommit).run();
    assert_eq!(dealers(&hold(&world)), [0, 1, 2]);
    assert_eq!((names(&world), silent(&world)), (vec![], vec![(3, Fault::NoDealing)]));
}

#[test]
fn a_dealing_shown_to_one_reaches_all() {
    let world = World::new(4, 1, 6, CALM).lying(3, Selective).run();
    assert_eq!(dealers(&hold(&world)), [0, 1, 2, 3]);
}

#[test]
fn a_complaint_without_reason_proves_the_guilt_of_its_author() {
    for (seed, lie) in [(7, ComplainsWithout(1)), (8, ComplainsNonsense(1))] {
        let world = World::new(4, 1, seed, ROUGH).lying(2, lie).run();
        assert!(dealers(&hold(&world)).contains(&1), "the accused stays");
        assert_eq!(names(&world), [2]);
    }
}

#[test]
fn two_confirmations_are_named() {
    let world = World::new(4, 0, 10, CALM).lying(1, TwoDones).lingering(2_000).run();
    hold(&world);
    assert_eq!(names(&world), [1]);
}

#[test]
fn two_votes_are_named_by_those_who_hear_both_before_the_decision() {
    let mut times_named = 0;
    for seed in 0..6 {
        let world = World::new(4, 0, seed, CALM).lying(0, TwoVotes).run();
        hold(&world);
        times_named += names(&world).len();
    }
    assert!(times_named > 0);
}

#[test]
fn noise_changes_nothing() {
    let world = World::new(4, 0, 11, ROUGH).lying(1, Noise).run();
    assert!(dealers(&hold(&world)).len() >= 3);
}

#[test]
fn bad_shares_to_a_late_operator_are_made_up_for_by_the_others() {
    let world = World::new(7, 1, 12, ROUGH).lying(1, BadShares(vec![6])).late(6, 120_000).run();
    let result = hold(&world);
    assert!(dealers(&result).contains(&1), "nobody knew when it was agreed on");
    assert_eq!(names(&world), [1]);
    no_secret_left(&world);
}

#[test]
fn a_wrong_opening_is_named_and_does_no_harm() {
    let world = World::new(10, 0, 13, CALM)
        .lying(1, BadShares(vec![9]))
        .lying(4, OpensNonsense)
        .late(9, 120_000)
        .run();
    assert!(dealers(&hold(&world)).contains(&1));
    assert_eq!(names(&world), [1, 4]);
}

/// The complaint of the one who was dealt bad shares was lost to all who had finished, and they asked for nothing
/// any more.
#[test]
fn who_has_finished_asks_for_what_it_missed_and_opens_its_shares() {
    hold(&drawn(7, 47).run());
}

/// Some had dealt before they heard of the others, whose dealings then never counted: fewer than q were left.
#[test]
fn operators_that_were_cut_off_while_others_dealt_do_not_stop_it() {
    hold(&drawn(7, 20).run());
}

#[test]
fn the_same_die_gives_the_same_ceremony() {
    let ceremony = || {
        let faults = Faults { crash: 3, ..ROUGH };
        let world = World::new(4, 1, 99, faults).lying(0, BadShares(vec![2])).run();
        let sent: Vec<Vec<u8>> = world.sent.iter().map(|(_, message)| message.encode()).collect();
        (hold(&world), sent, world.crashes)
    };
    assert!(ceremony() == ceremony());
}

/// Every seed draws its own operators, faults and lies: never more than f that are absent, late or lying.
fn drawn(operators: usize, seed: u64) -> World {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9));
    let faults = Faults {
        loss: dice.below(30),
        repeat: dice.below(20),
        crash: [0, 0, 1, 4][dice.below(4)],
        delay_ms: 1 + dice.below(900),
    };
    let mut world = World::new(operators, dice.below(4), seed, faults);
    if dice.chance(30) {
        let side = (0..operators).filter(|_| dice.chance(50)).collect();
        let start_ms = dice.below(20_000) as u64;
        world = world.divided(side, start_ms..start_ms + 1 + dice.below(40_000) as u64);
    }
    let mut others: Vec<usize> = (0..operators).collect();
    for _ in 0..world.definition.quorum().faulty_max() {
        let node = others.remove(dice.below(others.len()));
        let victim = others[dice.below(others.len())] as u8;
        world = match dice.below(16) {
            0 | 1 => world.absent(node),
            2 | 3 => world.late(node, 60_000 + dice.below(60_000) as u64),
            4 => world,
            lie => world.lying(node, lie_of(lie, victim)),
        };
    }
    world
}

fn lie_of(number: usize, victim: u8) -> Misbehaviour {
    match number {
        5 => BadShares(vec![victim]),
        6 => BadShares((0..3).chain([victim]).collect()),
        7 => Malformed,
        8 => TwoDealings,
        9 => SilentAfterCommit,
        10 => Selective,
        11 => ComplainsWithout(victim),
        12 => ComplainsNonsense(victim),
        13 => TwoVotes,
        14 => TwoDones,
        _ => Noise,
    }
}

fn campaign(operators: usize, seeds: u64) {
    let (mut crashes, mut guilty) = (0, 0);
    for seed in 0..seeds {
        let run = std::panic::catch_unwind(|| {
            let world = drawn(operators, seed).run();
            let result = hold(&world);
            for operator in named(&world) {
                // Who was proven to have dealt badly before the agreement, to somebody in time, is not in it.
                let lie = world.nodes[operator.as_usize()].misbehaviour.as_ref();
                if matches!(lie, Some(Malformed)) {
                    assert!(!dealers(&result).contains(&operator.0));
                }
            }
            if seed % 16 == 0 {
                no_secret_left(&world);
            }
            (world.crashes, named(&world).len())
        });
        let Ok((crashed, named)) = run else { panic!("seed {seed} of {operators} operators fails") };
        crashes += crashed;
        guilty += named;
    }
    assert!(crashes > 0 && guilty > 0, "{crashes} crashes, {guilty} guilty: the die is not thrown");
}

#[test]
fn many_ceremonies_of_four_end_with_the_same_keys() {
    campaign(4, runs(180));
}

#[test]
fn many_ceremonies_of_seven_end_with_the_same_keys() {
    campaign(7, runs(25));
}
