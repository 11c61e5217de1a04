//! Keys that exist, dealt anew.

use super::byzantine::Misbehaviour::{AnotherSecret, BadShares, Noise, Selective, SilentAfterCommit};
use super::oracles::{hold, named, no_secret_left};
use super::world::{Faults, TIMING, World};
use crate::fixture::{identity, participant};
use crate::{
    Ceremony, Claim, CommitClaim, ComplaintClaim, DealingId, Definition, Error, Message, OldKeys,
    PublicResult, Refusal, ShareOpenClaim, Statement, Timing, agreement,
};
use aequa_crypto::bls::MinSig;
use aequa_crypto::threshold::combine;
use aequa_testkit::runs;
use aequa_types::{ClusterId, Digest, OperatorIndex, Round};
use alloy_primitives::FixedBytes;

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
        let share = &world.shares(node).chain;
        (share.operator(), share.sign(b"message"))
    };
    let quorum = new.definition.quorum().quorum();
    let new_signer = *new.receivers().last().unwrap();
    let mut mixed: Vec<_> = old.receivers().into_iter().map(|node| sign(old, node)).collect();
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
    let new = World::anew(&old, &REPLACED, 1, ROUGH).run();
    is_dealt_anew(&old, &new);
    assert!(result(&new).qualified.iter().all(|dealing| dealing.dealer != OperatorIndex(3)));
}

const REPLACED: [(u8, Option<usize>); 4] = [(0, Some(0)), (1, Some(1)), (2, Some(2)), (40, None)];
const LEAVER: [(u8, Option<usize>); 1] = [(3, Some(3))];

fn dealers(world: &World) -> Vec<u8> {
    result(world).qualified.iter().map(|dealing| dealing.dealer.0).collect()
}

#[test]
fn one_that_leaves_deals_in_the_place_of_one_that_is_away() {
    let old = old(4);
    for seed in 0..runs(4) {
        for absent in 0..3 {
            let new = World::anew_with(&old, &REPLACED, &LEAVER, seed, ROUGH).absent(absent).run();
            is_dealt_anew(&old, &new);
            let expected: Vec<u8> =
                [0, 1, 2, 4].into_iter().filter(|dealer| *dealer != absent as u8).collect();
            assert_eq!(dealers(&new), expected);
            assert!(new.ceremony(4).outcome().unwrap().secret.is_none(), "who leaves gets no share");
            no_secret_left(&new);
        }
    }
}

#[test]
fn nobody_waits_for_one_that_leaves_where_all_that_stay_are_there() {
    let old = old(4);
    let calm = Faults { loss: 0, repeat: 0, crash: 0, delay_ms: 50 };
    let new = World::anew_with(&old, &REPLACED, &LEAVER, 1, calm).absent(4).run();
    is_dealt_anew(&old, &new);
    assert_eq!(dealers(&new), [0, 1, 2]);
    assert!(new.now_ms() < TIMING.commits_ms, "no timer was needed");
}

#[test]
fn one_that_leaves_and_lies_is_named_and_stops_nobody() {
    let old = old(5);
    let staying = [(0, Some(0)), (1, Some(1)), (2, Some(2)), (3, Some(3))];
    let lies = [
        (AnotherSecret, true),
        (BadShares(vec![0]), true),
        (SilentAfterCommit, false),
        (Selective, false),
        (Noise, false),
    ];
    for (seed, (lie, is_named)) in lies.into_iter().enumerate() {
        let new = World::anew_with(&old, &staying, &[(4, Some(4))], seed as u64, ROUGH);
        let new = new.lying(4, lie.clone()).run();
        is_dealt_anew(&old, &new);
        let named = named(&new).into_iter().collect::<Vec<_>>();
        // It may come too late to be looked at.
        let expected = [OperatorIndex(4)];
        assert!(named.is_empty() || (is_named && named == expected), "{lie:?}: {named:?}");
    }
}

#[test]
fn what_one_that_leaves_says_beside_its_commit_is_refused() {
    let world = World::anew_with(&old(4), &REPLACED, &LEAVER, 1, ROUGH);
    let (definition, me) = (&world.definition, OperatorIndex(4));
    let dealing = DealingId { dealer: OperatorIndex(0), hash: Digest::ZERO };
    let parts = vec![Digest::ZERO; usize::from(definition.parts())];
    let sign = |claim| Statement::sign(&definition.ceremony(), me, claim, &identity(3));
    assert_eq!(sign(Claim::Commit(CommitClaim { parts })).check(definition), Ok(()));
    let disclosure = FixedBytes::ZERO;
    for claim in [
        Claim::Receipt(dealing),
        Claim::Ack(dealing),
        Claim::Complaint(ComplaintClaim { dealing, part: 0, disclosure }),
        Claim::ShareOpen(ShareOpenClaim { dealing, disclosures: vec![disclosure] }),
        Claim::Done(Digest::ZERO),
    ] {
        assert!(matches!(sign(claim).check(definition), Err(Refusal::Nonsense(_))));
    }
    let statement = aequa_types::Statement {
        instance: agreement::INSTANCE,
        round: Round(0),
        author: me,
        claim: aequa_types::Claim::Prepare(Digest::ZERO),
    };
    let vote = identity(3).sign_statement(&definition.agreement(), statement);
    let message = Message::Agreement(aequa_types::Message::Prepare(vote));
    assert_eq!(definition.check(&message.encode()), Err(Refusal::NotMember(me)));
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
    let other = old.shares(1).clone();
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
    let refused_with = |holders: &[Option<u8>], leavers: &[u8]| {
        let keys = OldKeys {
            threshold: 3,
            holders: holders.iter().map(|holder| holder.map(OperatorIndex)).collect(),
            leavers: leavers.iter().map(|number| participant(*number)).collect(),
            chain: public.chain.clone(),
            validators: public.validators.clone(),
        };
        Definition::resharing(ClusterId::ZERO, crate::fixture::participants(4), 3, keys).is_err()
    };
    let refused = |holders: &[Option<u8>]| refused_with(holders, &[]);
    assert!(!refused(&[Some(0), Some(1), Some(2), None]));
    assert!(refused(&[Some(0), Some(1), None, None]), "too few");
    assert!(refused(&[Some(0), Some(1), Some(1), None]), "one twice");
    assert!(refused(&[Some(0), Some(1), Some(4), None]), "no operator");
    assert!(refused(&[Some(0), Some(1), Some(2)]), "not one for each");
    let three_and = |leaver: Option<u8>| [Some(0), Some(1), None, None, leaver];
    assert!(!refused_with(&three_and(Some(3)), &[40]), "one that leaves will do");
    assert!(refused_with(&three_and(Some(1)), &[40]), "who leaves has a share of its own");
    assert!(refused_with(&three_and(None), &[40]), "and something to deal");
    assert!(refused_with(&three_and(Some(3)), &[2]), "who leaves is no participant");
    assert!(refused_with(&three_and(Some(3)), &[]), "not one for each");
}
