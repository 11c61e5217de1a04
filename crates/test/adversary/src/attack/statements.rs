//! The misbehaviours of `aequa_byzantine` at the moment of a scene.

use super::{Play, Scene, Sending};
use aequa_byzantine::{bad_signature, bare_commit, equivocate, forge, withhold, wrong_round};
use aequa_types::{Decision, Digest, InstanceId, Message, OperatorIndex, Round, ValueBytes};
use std::collections::BTreeMap;

/// Messages repeated at a time.
const REPLAYED_AT_ONCE: usize = 8;

/// What was named in which round first: a moment lasts for many plays, and once is enough.
#[derive(Default)]
pub(super) struct Places(BTreeMap<(InstanceId, Round), Digest>);

impl Places {
    /// Places remembered: more than honest nodes keep statements of.
    const MAX: usize = 256;

    /// What was named in the place of this one before; names it if nothing was.
    fn named_before(&mut self, of: Decision) -> Option<Decision> {
        let place = (of.instance, of.round);
        if let Some(digest) = self.0.get(&place) {
            return Some(Decision { digest: *digest, ..of });
        }
        self.0.insert(place, of.digest);
        while self.0.len() > Self::MAX {
            self.0.pop_first();
        }
        None
    }
}

/// An attack that remembers where it was played.
pub(super) fn in_places(act: fn(&mut Scene<'_>, &mut Places) -> Vec<Sending>) -> impl Play {
    let mut places = Places::default();
    move |scene: &mut Scene<'_>| act(scene, &mut places)
}

fn to_all(messages: impl IntoIterator<Item = Message>) -> Vec<Sending> {
    messages.into_iter().map(|message| Sending::all(&message)).collect()
}

/// Proposes two blocks, each to one half, whenever it leads, and votes for each to its half.
pub(super) fn equivocating_leader(scene: &mut Scene<'_>, places: &mut Places) -> Vec<Sending> {
    let Some(first) = scene.honest_proposal() else { return Vec::new() };
    let (instance, round) = (first.proposal.instance, first.proposal.round);
    let digest = first.proposal.digest().unwrap_or_default();
    if places.named_before(Decision { instance, round, digest }).is_some() {
        return Vec::new();
    }
    let number = |operator: &OperatorIndex| operator.as_usize();
    let sendings = equivocate::lead(scene.traitor, scene.dice, first, &scene.traitor.others(), number);
    sendings.into_iter().flatten().map(|(to, message)| Sending::some(&to, &message)).collect()
}

/// Prepares and commits two digests in one place, to everybody.
pub(super) fn equivocating_voter(scene: &mut Scene<'_>, places: &mut Places) -> Vec<Sending> {
    let of = scene.vote();
    if !scene.said.digests().contains(&of.digest) || places.named_before(of).is_some() {
        return Vec::new();
    }
    let heard = scene.said.prepares.iter().filter(|vote| vote.digest() == Some(of.digest));
    let heard = heard.cloned().collect();
    to_all(equivocate::vote(scene.traitor, of, scene.invented(), heard))
}

/// Votes for values it keeps to itself; when it leads, gives its block to one operator only. In every round it
/// names one value, and never another: withholding is all it does.
pub(super) fn withheld_value(scene: &mut Scene<'_>, places: &mut Places) -> Vec<Sending> {
    let proposal = scene.honest_proposal().filter(|proposal| proposal.proposal.round == Round(0));
    let own = proposal.as_ref().and_then(|proposal| proposal.proposal.digest());
    let digest = own.unwrap_or_else(|| scene.invented());
    let of = Decision { instance: scene.instance(), round: scene.said.round, digest };
    let before = places.named_before(of);
    let mut sendings = Vec::new();
    if let Some(proposal) = proposal.filter(|_| before.is_none()) {
        let others = scene.others();
        let chosen = scene.dice.choose(&others).into_iter().copied();
        sendings.push(Sending::some(&chosen.collect::<Vec<_>>(), &Message::PrePrepare(proposal)));
    }
    let other = ValueBytes(scene.junk(64).into());
    sendings.extend(to_all(withhold::votes(scene.traitor, before.unwrap_or(of), other)));
    sendings
}

/// Commits at once to what was proposed, to what nobody proposed, and to heights that have not begun.
pub(super) fn bare_commit(scene: &mut Scene<'_>) -> Vec<Sending> {
    let of = scene.vote();
    let offset = scene.dice.below(4) as i64;
    let ahead = scene.instance_at(1 + offset);
    to_all(bare_commit::commits(scene.traitor, of, ahead, scene.invented()))
}

/// Sends messages of anybody again: votes of this height and of heights long decided.
pub(super) fn replay(scene: &mut Scene<'_>) -> Vec<Sending> {
    let memory = scene.ear.memory.lock();
    let drawn = (0..REPLAYED_AT_ONCE).filter_map(|_| memory.archive.draw(scene.dice));
    drawn.map(Sending::all).collect()
}

/// Signs votes, ROUND-CHANGEs and proposals of rounds outside of what the instance is in.
pub(super) fn wrong_round(scene: &mut Scene<'_>) -> Vec<Sending> {
    let (traitor, of) = (scene.traitor, scene.vote());
    let led = |round| traitor.next_led(of.instance, round);
    to_all(wrong_round::all_kinds(traitor, scene.dice, of, led))
}

/// Round changes, proposals and certificates justified by foreign, repeated, missing or stolen statements.
pub(super) fn forged_justification(scene: &mut Scene<'_>) -> Vec<Sending> {
    let (traitor, quorum, of) = (scene.traitor, scene.quorum(), scene.vote());
    let foreign = scene.memory().heard.prepares_before(of.instance).take(quorum.quorum()).cloned().collect();
    let mut messages = forge::round_changes(traitor, of, &scene.said.prepares, foreign, quorum);
    let led = traitor.next_led(of.instance, of.round.next());
    if let Some(bare) = scene.block().map(|block| scene.proposal(led, &block)) {
        messages.extend(forge::proposals(traitor, &bare, scene.instance_at(-1), quorum));
    }
    let undecided = Decision { digest: scene.invented(), ..of };
    messages.push(forge::decided(traitor, undecided, quorum));
    to_all(messages)
}

/// Bends, swaps and leaves out signatures; and signs well a COMMIT whose seal share is none.
pub(super) fn bad_signature(scene: &mut Scene<'_>) -> Vec<Sending> {
    let of = scene.vote();
    let prepares = bad_signature::prepares(scene.traitor, scene.dice, of);
    to_all(prepares.into_iter().chain(bad_signature::commits(scene.traitor, of)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attack::tests::Stage;
    use aequa_types::Signed;
    use std::collections::BTreeSet;

    /// The proposals among these sendings with how many get them, and the digests voted for.
    fn named(sendings: &[Sending]) -> (Vec<(Digest, usize)>, BTreeSet<Digest>) {
        let (mut proposed, mut voted) = (Vec::new(), BTreeSet::new());
        let digest = |signed: &Signed| signed.digest().unwrap();
        for sending in sendings {
            match sending.message() {
                Message::PrePrepare(message) => {
                    assert!(!message.value.0.is_empty(), "a proposal without its value is refused unseen");
                    proposed.push((digest(&message.proposal), sending.to.as_ref().unwrap().len()));
                }
                Message::Prepare(vote) | Message::Commit(vote) => {
                    assert!(sending.to.is_none(), "everybody hears of it");
                    voted.insert(digest(&vote));
                }
                _ => {}
            }
        }
        (proposed, voted)
    }

    #[test]
    fn a_leader_that_equivocates_shows_each_half_one_block_and_one_operator_both() {
        let mut stage = Stage::new();
        stage.at_height(|scene| scene.traitor.leads(scene.instance(), Round(0)));
        let mut attack = in_places(equivocating_leader);
        let sendings = attack.play(&mut stage.scene());
        let mut seen = BTreeMap::<OperatorIndex, BTreeSet<Digest>>::new();
        for sending in &sendings {
            let digest = sending.message().statement().unwrap().digest().unwrap();
            sending.to.iter().flatten().for_each(|to| {
                seen.entry(*to).or_default().insert(digest);
            });
        }
        let mut blocks: Vec<usize> = seen.values().map(BTreeSet::len).collect();
        blocks.sort_unstable();
        assert_eq!((sendings.len(), blocks), (7, vec![1, 1, 1, 2]));
        assert!(attack.play(&mut stage.scene()).is_empty(), "once is enough");
    }

    #[test]
    fn a_leader_that_withholds_names_one_block_and_gives_it_to_one() {
        let mut stage = Stage::new();
        let instance = stage.at_height(|scene| scene.traitor.leads(scene.instance(), Round(0)));
        let mut attack = in_places(withheld_value);
        let mut sendings = Vec::new();
        for _ in 0..20 {
            let mut scene = stage.scene();
            assert_eq!(scene.instance(), instance);
            sendings.extend(attack.play(&mut scene));
        }
        let (proposed, voted) = named(&sendings);
        let [(digest, 1)] = proposed[..] else { panic!("{proposed:?}") };
        assert_eq!(voted, BTreeSet::from([digest]));
    }

    #[test]
    fn a_follower_that_withholds_votes_for_one_value_per_round() {
        let mut stage = Stage::new();
        stage.at_height(|scene| !scene.traitor.leads(scene.instance(), Round(0)));
        let mut attack = in_places(withheld_value);
        let sendings: Vec<Sending> = (0..20).flat_map(|_| attack.play(&mut stage.scene())).collect();
        let (proposed, voted) = named(&sendings);
        assert_eq!((proposed.len(), voted.len()), (0, 1));
    }
}
