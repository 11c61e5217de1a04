//! What must hold of every ceremony that ended, whatever happened.

use super::world::World;
use crate::dealing::{self, PublicPart};
use crate::{
    Blame, Claim, Message, Notice, Outcome, Place, PublicResult, SharedKey, verify_blames, verify_transcript,
};
use aequa_crypto::bls::Scheme;
use aequa_crypto::threshold::{SecretShare, combine};
use aequa_types::{OperatorIndex, VoteKey};
use std::collections::{BTreeMap, BTreeSet};

/// All of them; what came out.
pub(super) fn hold(world: &World) -> PublicResult {
    let result = one_result(world);
    keys_sign(world, &result);
    guilt_is_proven(world);
    nobody_says_two_things(world);
    only_guilty_dealers_are_opened(world);
    result
}

/// The same keys everywhere, and in every transcript.
fn one_result(world: &World) -> PublicResult {
    let honest = world.honest();
    let results: Vec<&PublicResult> = honest.iter().map(|node| &outcome(world, *node).public).collect();
    assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "two results");
    let first = results[0].clone();
    assert!(first.qualified.len() >= world.definition.dealings_needed());
    assert_eq!(first.validators.len(), world.definition.validators());
    let transcript = world.nodes[honest[0]].disk.entries.clone();
    assert_eq!(verify_transcript(&world.definition, transcript.clone()).as_ref(), Ok(&first));
    let mut blames = world.ceremony(honest[0]).blames();
    blames.retain(|blame| blame.proof.is_some());
    let mut shown = verify_blames(&world.definition, transcript).unwrap();
    shown.retain(|blame| blame.proof.is_some());
    assert_eq!(shown, blames, "a transcript shows who is guilty");
    first
}

fn outcome(world: &World, node: usize) -> &Outcome {
    world.ceremony(node).outcome().unwrap()
}

/// Any q shares sign for the group, and q − 1 do not.
fn keys_sign(world: &World, result: &PublicResult) {
    let receivers = world.receivers();
    let chain = receivers.iter().map(|node| &world.shares(*node).chain).collect::<Vec<_>>();
    signs(world, &result.chain, &chain);
    for (position, key) in result.validators.iter().enumerate() {
        let shares = receivers.iter().map(|node| &world.shares(*node).validators[position]);
        signs(world, key, &shares.collect::<Vec<_>>());
    }
}

fn signs<S: Scheme>(world: &World, key: &SharedKey<S>, shares: &[&SecretShare<S>]) {
    let quorum = world.definition.quorum().quorum();
    let partial = |share: &&SecretShare<S>| (share.operator(), share.sign(b"message"));
    let partials: Vec<_> = shares.iter().map(partial).collect();
    for chosen in [&partials[..quorum], &partials[partials.len() - quorum..]] {
        let signature = combine::<S>(quorum, chosen).unwrap();
        assert_eq!(key.group_key.verify(b"message", &signature), Ok(()));
    }
    if quorum > 1 {
        let few = combine::<S>(quorum - 1, &partials[..quorum - 1]).unwrap();
        assert!(key.group_key.verify(b"message", &few).is_err(), "fewer than q shares sign");
    }
    for share in shares {
        assert_eq!(key.public_shares[share.operator().as_usize()], share.public());
    }
}

/// Who is named with a proof is guilty, and the proof convinces a third party.
fn guilt_is_proven(world: &World) {
    let mut seen: Vec<Blame> = Vec::new();
    for node in world.honest() {
        for blame in world.ceremony(node).blames().into_iter().filter(|blame| blame.proof.is_some()) {
            let lie = world.nodes[blame.operator.as_usize()].misbehaviour.as_ref();
            assert_eq!(lie.expect("an honest operator is blamed").fault(), Some(blame.fault));
            if seen.contains(&blame) {
                continue;
            }
            assert_eq!(blame.verify(&world.definition), Ok(()));
            let honest = OperatorIndex(world.honest()[0] as u8);
            let moved = Blame { operator: honest, ..blame.clone() };
            assert!(moved.verify(&world.definition).is_err(), "a proof names two operators");
            seen.push(blame);
        }
        let told = world.nodes[node].notices.iter().any(|notice| matches!(notice, Notice::Hopeless(_)));
        assert!(!told, "f faulty operators made it hopeless");
    }
}

/// Whom at least one honest operator can prove guilty.
pub(super) fn named(world: &World) -> BTreeSet<OperatorIndex> {
    let blames = world.honest().into_iter().flat_map(|node| world.ceremony(node).blames());
    blames.filter(|blame| blame.proof.is_some()).map(|blame| blame.operator).collect()
}

/// Across all lives of a node.
fn nobody_says_two_things(world: &World) {
    let mut claims: BTreeMap<(OperatorIndex, Place), &Claim> = BTreeMap::new();
    let mut votes: BTreeMap<(OperatorIndex, VoteKey), _> = BTreeMap::new();
    for (from, message) in &world.sent {
        match message {
            Message::Statement(statement) if statement.author == *from => {
                let first = claims.entry((*from, statement.claim.place())).or_insert(&statement.claim);
                assert_eq!(**first, statement.claim, "operator {from} says two things");
            }
            Message::Agreement(message) => {
                if let Some(vote) = message.statement().filter(|vote| vote.author == *from) {
                    let first = votes.entry((*from, vote.vote_key())).or_insert(&vote.claim);
                    assert_eq!(**first, vote.claim, "operator {from} votes twice");
                }
            }
            Message::Statement(_) | Message::Part(_) | Message::Summary(_) => {}
        }
    }
}

/// Honest operators show shares of dealers who are guilty, and of no others.
fn only_guilty_dealers_are_opened(world: &World) {
    for (from, message) in &world.sent {
        let Message::Statement(statement) = message else { continue };
        match &statement.claim {
            Claim::Complaint(_) | Claim::ShareOpen(_) if statement.author == *from => {
                let dealer = statement.claim.dealing().unwrap().dealer;
                let lie = &world.nodes[dealer.as_usize()].misbehaviour;
                assert!(lie.is_some(), "a share of an honest dealer is opened by an honest receiver");
            }
            Claim::Commit(_)
            | Claim::Receipt(_)
            | Claim::Ack(_)
            | Claim::Complaint(_)
            | Claim::ShareOpen(_)
            | Claim::Done(_) => {}
        }
    }
}

/// No share that an honest dealer dealt or an honest operator ended with is in anything that left an honest node.
pub(super) fn no_secret_left(world: &World) {
    let mut known: BTreeSet<[u8; 32]> = BTreeSet::new();
    for node in world.honest() {
        let me = OperatorIndex(node as u8);
        if let Some(secret) = &outcome(world, node).secret {
            known.insert(*secret.chain.to_bytes());
            known.extend(secret.validators.iter().map(|share| *share.to_bytes()));
        }
        if !world.definition.is_dealer(me) {
            continue;
        }
        for part in dealing::deal(&world.definition, me, &world.secrets(node)).unwrap() {
            known.insert(*world.secrets(node).ephemeral(&world.definition, part.index).to_bytes());
            let public = PublicPart::read(&world.definition, &part).unwrap();
            for receiver in world.definition.quorum().members() {
                let shares =
                    public.open(&world.definition, receiver, &world.secrets(receiver.as_usize())).unwrap();
                known.extend(shares.chain.iter().map(|share| *share.to_bytes()));
                known.extend(shares.validators.iter().map(|share| *share.to_bytes()));
            }
        }
    }
    let mut seen: BTreeSet<Vec<u8>> = BTreeSet::new();
    for (_, message) in &world.sent {
        let bytes = message.encode();
        if !seen.insert(bytes.clone()) {
            continue;
        }
        for window in bytes.windows(32) {
            let forwards: [u8; 32] = window.try_into().unwrap();
            let mut backwards = forwards;
            backwards.reverse();
            let is_secret =
                |bytes: &[u8; 32]| known.contains(bytes) && bytes.iter().any(|byte| *byte != bytes[0]);
            assert!(!is_secret(&forwards) && !is_secret(&backwards), "a secret left in a {}", message.name());
        }
    }
    assert!(!seen.is_empty());
}
