//! Values named and never given.

use super::{Play, Scene, Sending};
use crate::scene::junk;
use aequa_types::message::ValueReply;
use aequa_types::{Claim, Digest, InstanceId, Message, Round, ValueBytes};
use std::collections::BTreeMap;

/// Places remembered: more than honest nodes keep statements of.
const PLACES_MAX: usize = 256;

/// Votes for values it keeps to itself; when it leads, gives its block to one operator only. In every round it
/// names one value, and never another: withholding is all it does.
#[derive(Default)]
pub struct Withholding {
    named: BTreeMap<(InstanceId, Round), Digest>,
}

impl Play for Withholding {
    fn play(&mut self, scene: &mut Scene<'_>) -> Vec<Sending> {
        let (instance, round) = (scene.instance(), scene.said().round);
        let mut sendings = Vec::new();
        let digest = match self.named.get(&(instance, round)) {
            Some(digest) => *digest,
            None => {
                let digest = self.name_value(scene, instance, round, &mut sendings);
                self.named.insert((instance, round), digest);
                digest
            }
        };
        while self.named.len() > PLACES_MAX {
            self.named.pop_first();
        }
        let prepare = scene.traitor.say(instance, round, Claim::Prepare(digest));
        sendings.push(Sending::all(&Message::Prepare(prepare)));
        sendings.push(Sending::all(&Message::Commit(scene.traitor.commit(instance, round, digest))));
        // A value nobody asked for, and not the one named.
        let value = ValueBytes(junk(scene.dice, 64).into());
        sendings.push(Sending::all(&Message::ValueReply(ValueReply { instance, value })));
        sendings
    }
}

impl Withholding {
    /// The value of a place: its own block, which one operator gets, where it may propose one; else none there is.
    fn name_value(
        &self,
        scene: &mut Scene<'_>,
        instance: InstanceId,
        round: Round,
        sendings: &mut Vec<Sending>,
    ) -> Digest {
        let proposes = round == Round(0) && scene.leads(instance, round);
        let Some(block) = scene.block(0).filter(|_| proposes) else { return scene.invented() };
        let others = scene.others();
        let chosen: Vec<_> = scene.dice.pick(&others).copied().into_iter().collect();
        let proposal = scene.proposal(round, &block, Vec::new());
        sendings.push(Sending::some(&chosen, &Message::PrePrepare(proposal)));
        block.header.digest()
    }
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
    fn a_leader_that_withholds_names_one_block_and_gives_it_to_one() {
        let mut stage = Stage::new();
        let instance = stage.at_height(|scene| scene.leads(scene.instance(), Round(0)));
        let mut attack = Withholding::default();
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
        stage.at_height(|scene| !scene.leads(scene.instance(), Round(0)));
        let mut attack = Withholding::default();
        let sendings: Vec<Sending> = (0..20).flat_map(|_| attack.play(&mut stage.scene())).collect();
        let (proposed, voted) = named(&sendings);
        assert_eq!((proposed.len(), voted.len()), (0, 1));
    }
}
