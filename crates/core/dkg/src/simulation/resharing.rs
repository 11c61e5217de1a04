//! Keys that exist, dealt anew.

use super::byzantine::Misbehaviour::{AnotherSecret, BadShares};
use super::oracles::{hold, named, no_secret_left};
use super::world::{Faults, World};
use crate::{Ceremony, Definition, Error, OldKeys, PublicResult, Timing};
use aequa_crypto::bls::MinSig;
use aequa_crypto::threshold::combine;
use aequa_testkit::runs;
use aequa_types::{ClusterId, OperatorIndex};

const ROUGH: Faults = Faults { loss: 15, repeat: 10, crash: 1, delay_ms: 400 };

fn old(operators: usize) -> World {
    World::new(operators, 1, 1, Faults { loss: 0, repeat: 0, crash: 0, delay_ms: 50 }).run()
}

fn result(world: &World) -> PublicResult {
    world.ceremony(world.honest()[0]).outcome().unwrap().public.clone()
}

/// The same keys, and shares that are no use beside the old ones.
fn is_dealt_anew(old: &World, new: &World) {
    let (before, after) = (result(old), hold(new));
    assert_eq!(after.chain.group_key, before.chain.group_key);
    assert_eq!(after.validators[0].group_key, before.validators[0].group_key);
    for share in &after.chain.public_shares {
        assert!(!before.chain.public_shares.contains(share), "an old share is a new one");
    }
    let sign = |world: &World, node: usize| {
        let share = &world.ceremony(node).outcome().unwrap().secret.chain;
        (share.operator(), share.sign(b"message"))
    };
    let quorum = new.definition.quorum().quorum();
    let new_signer = *new.honest().last().unwrap();
    let mut mixed: Vec<_> = old.honest().into_iter().map(|node| sign(old, node)).collect();
    mixed.retain(|(operator, _)| operator.as_usize() != new_signer);
    mixed.truncate(quorum - 1);
    mixed.push(sign(new, new_signer));
    if mixed.len() == quorum {
        let signature = combine::<MinSig>(quorum, &mixed).unwrap();
        assert!(after.chain.group_key.verify(b"message", &signature).is_err(), "old and new shares add up");
    }
}

const SAME: [(u8, Option<usize>); 4] = [(0, Some(0)), (1, Some(1)), (2, Some(2)), (3, Some(3))];

#[test]
fn a_refresh_replaces_all_shares_and_keeps_the_keys() {
    let old = old(4);
    let new = World::anew(&old, &SAME, 1, ROUGH).run();
    is_dealt_anew(&old, &new);
    assert_eq!(result(&new).qualified.len(), 4);
    no_secret_left(&new);
}

#[test]
fn a_refresh_needs_a_quorum_of_the_old_operators() {
    let old = old(4);
    for absent in 0..4 {
        let new = World::anew(&old, &SAME, absent as u64, ROUGH).absent(absent).run();
        is_dealt_anew(&old, &new);
        assert_eq!(result(&new).qualified.len(), 3);
    }
}

#[test]
fn an_operator_is_replaced_and_others_keep_their_keys() {
    let old = old(4);
    let replaced = [(0, Some(0)), (1, Some(1)), (2, Some(2)), (40, None)];
    let new = World::anew(&old, &replaced, 1, ROUGH).run();
    is_dealt_anew(&old, &new);
    assert!(result(&new).qualified.iter().all(|dealing| dealing.dealer != OperatorIndex(3)));
}

#[test]
fn an_operator_joins_and_another_leaves_under_other_indices() {
    let four = old(4);
    let five = [(3, Some(3)), (40, None), (0, Some(0)), (1, Some(1)), (2, Some(2))];
    let five = World::anew(&four, &five, 1, ROUGH).run();
    is_dealt_anew(&four, &five);
    let back = [(0, Some(2)), (1, Some(3)), (2, Some(4)), (40, Some(1))];
    let back = World::anew(&five, &back, 2, ROUGH).run();
    is_dealt_anew(&five, &back);
    assert_eq!(result(&back).chain.group_key, result(&four).chain.group_key);
}

#[test]
fn a_dealer_of_another_secret_than_its_old_share_is_named() {
    let old = old(4);
    for seed in 0..runs(3) {
        let new = World::anew(&old, &SAME, seed, ROUGH).lying(2, AnotherSecret).run();
        is_dealt_anew(&old, &new);
        assert_eq!(named(&new).into_iter().collect::<Vec<_>>(), [OperatorIndex(2)]);
    }
}

#[test]
fn bad_shares_of_an_old_share_are_named_like_all_others() {
    let old = old(4);
    let new = World::anew(&old, &SAME, 1, ROUGH).lying(1, BadShares(vec![0])).run();
    is_dealt_anew(&old, &new);
    assert_eq!(named(&new).into_iter().collect::<Vec<_>>(), [OperatorIndex(1)]);
}

#[test]
fn a_holder_without_its_old_shares_or_with_those_of_another_does_not_begin() {
    let old = old(4);
    let new = World::anew(&old, &SAME, 1, ROUGH);
    let other = old.ceremony(1).outcome().unwrap().secret.clone();
    let own = crate::fixture::secrets(0);
    for secrets in [own, crate::fixture::secrets(0).with_old(other)] {
        let me = OperatorIndex(0);
        let refused = Ceremony::new(new.definition.clone(), me, secrets, Timing::default());
        assert_eq!(refused.err(), Some(Error::ForeignSecrets(me)));
    }
}

#[test]
fn definitions_with_too_few_or_strange_holders_are_refused() {
    let old = old(4);
    let public = result(&old);
    let refused = |holders: &[Option<u8>]| {
        let keys = OldKeys {
            threshold: 3,
            holders: holders.iter().map(|holder| holder.map(OperatorIndex)).collect(),
            chain: public.chain.clone(),
            validators: public.validators.clone(),
        };
        Definition::resharing(ClusterId::ZERO, crate::fixture::participants(4), 3, keys).is_err()
    };
    assert!(!refused(&[Some(0), Some(1), Some(2), None]));
    assert!(refused(&[Some(0), Some(1), None, None]), "too few");
    assert!(refused(&[Some(0), Some(1), Some(1), None]), "one twice");
    assert!(refused(&[Some(0), Some(1), Some(4), None]), "no operator");
    assert!(refused(&[Some(0), Some(1), Some(2)]), "not one for each");
}
