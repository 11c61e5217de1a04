//! Two statements where there may be one.

use super::{Play, Scene, Sending};
use aequa_types::{Block, Claim, Digest, InstanceId, Message, OperatorIndex, Round, Signed};
use std::collections::BTreeSet;

/// Where an attack was played already: once is enough, the rest would be repetition.
#[derive(Default)]
struct Played(BTreeSet<(InstanceId, Round)>);

impl Played {
    /// Places remembered.
    const MAX: usize = 256;

    fn first(&mut self, instance: InstanceId, round: Round) -> bool {
        let first = self.0.insert((instance, round));
        while self.0.len() > Self::MAX {
            self.0.pop_first();
        }
        first
    }
}

/// Proposes two blocks, each to one half, whenever it leads, and votes for each to its half.
#[derive(Default)]
pub struct Leader(Played);

impl Play for Leader {
    fn play(&mut self, scene: &mut Scene<'_>) -> Vec<Sending> {
        let (instance, said) = (scene.instance(), scene.said());
        if !scene.leads(instance, said.round) {
            return Vec::new();
        }
        let changes = match said.round {
            Round(0) => Some(Vec::new()),
            round => round_change_quorum(scene, &said.changes, round),
        };
        let (Some(changes), Some(first), Some(second)) = (changes, scene.block(0), scene.block(1)) else {
            return Vec::new();
        };
        if !self.0.first(instance, said.round) {
            return Vec::new();
        }
        let others = scene.others();
        let (one, two) = others.split_at(others.len() / 2);
        let mut sendings = Vec::new();
        for (half, block) in [(one, &first), (two, &second)] {
            sendings.extend(propose(scene, half, said.round, block, &changes));
        }
        // Somebody must see both, or there would be nothing to prove.
        let both = scene.proposal(said.round, &second, changes);
        sendings.push(Sending::some(&one[..one.len().min(1)], &Message::PrePrepare(both)));
        sendings
    }
}

/// A block, and the votes a leader that believed in it would cast.
fn propose(
    scene: &Scene<'_>,
    to: &[OperatorIndex],
    round: Round,
    block: &Block,
    changes: &[Signed],
) -> [Sending; 3] {
    let (instance, digest) = (InstanceId::Block(block.header.height), block.header.digest());
    let proposal = scene.proposal(round, block, changes.to_vec());
    let prepare = scene.traitor.say(instance, round, Claim::Prepare(digest));
    let commit = scene.traitor.commit(instance, round, digest);
    [
        Sending::some(to, &Message::PrePrepare(proposal)),
        Sending::some(to, &Message::Prepare(prepare)),
        Sending::some(to, &Message::Commit(commit)),
    ]
}

/// A true justification for a fresh value, when everybody else gave one.
fn round_change_quorum(
    scene: &Scene<'_>,
    heard: &[aequa_types::RoundChange],
    round: Round,
) -> Option<Vec<Signed>> {
    let mut authors = BTreeSet::new();
    let bare = heard.iter().filter(|message| message.prepares.is_empty() && message.change.round == round);
    let changes: Vec<Signed> =
        bare.map(|message| message.change.clone()).filter(|change| authors.insert(change.author)).collect();
    let quorum = scene.quorum().quorum();
    (changes.len() >= quorum).then(|| changes.into_iter().take(quorum).collect())
}

/// Prepares and commits two digests in one place, to everybody.
#[derive(Default)]
pub struct Voter(Played);

impl Play for Voter {
    fn play(&mut self, scene: &mut Scene<'_>) -> Vec<Sending> {
        let (instance, said) = (scene.instance(), scene.said());
        let proposed = said.proposals.get(&said.round).and_then(|digests| digests.first().copied());
        let Some(proposed) = proposed else { return Vec::new() };
        if !self.0.first(instance, said.round) {
            return Vec::new();
        }
        let invented = scene.invented();
        let votes = |digest: Digest| {
            let prepare = scene.traitor.say(instance, said.round, Claim::Prepare(digest));
            let commit = scene.traitor.commit(instance, said.round, digest);
            [Message::Prepare(prepare), Message::Commit(commit)]
        };
        let mut messages: Vec<Message> = [votes(proposed), votes(invented)].concat();
        // The second claims a quorum that only all others could have made; those that heard one can.
        let prepares: Vec<Signed> =
            said.prepares.iter().filter(|vote| vote.digest() == Some(proposed)).cloned().collect();
        let prepared = aequa_types::Prepared { round: said.round, digest: proposed };
        messages.push(Message::RoundChange(scene.change(instance, said.round.next(), None, Vec::new())));
        messages.push(Message::RoundChange(scene.change(
            instance,
            said.round.next(),
            Some(prepared),
            prepares,
        )));
        messages.iter().map(Sending::all).collect()
    }
}
