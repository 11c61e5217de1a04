//! Signatures that do not hold, in places where one is looked for.

use super::{Play, Scene, Sending};
use aequa_types::{Claim, Message, Seal, Signature};

/// Bends, swaps and leaves out signatures; and signs well a COMMIT whose seal share is none.
#[derive(Default)]
pub struct BadSignature;

impl Play for BadSignature {
    fn play(&mut self, scene: &mut Scene<'_>) -> Vec<Sending> {
        let (instance, said) = (scene.instance(), scene.said());
        let digest = scene.proposed_or_invented(&said);
        let good = scene.traitor.say(instance, said.round, Claim::Prepare(digest));
        let other = scene.traitor.say(instance, said.round.next(), Claim::Prepare(digest));
        let mut bent = good.signature;
        let bit = scene.dice.below(512) as usize;
        bent.0[bit / 8] ^= 1 << (bit % 8);
        let signatures = [
            bent,
            other.signature,
            Signature::ZERO,
            Signature::from(scene.dice.bytes::<64>()),
            Signature::repeat_byte(0xff),
        ];
        let mut sendings: Vec<Sending> = signatures
            .into_iter()
            .map(|signature| {
                let mut vote = good.clone();
                vote.signature = signature;
                Sending::all(&Message::Prepare(vote))
            })
            .collect();
        // No point, and the point of another digest.
        let borrowed = scene.traitor.commit(instance, said.round, scene.traitor.lock.cluster_id());
        let seals = [Some(Seal::repeat_byte(0xba)), seal_of(&borrowed)];
        sendings.extend(seals.into_iter().flatten().map(|seal| {
            Sending::all(&Message::Commit(scene.traitor.commit_sealed(instance, said.round, digest, seal)))
        }));
        sendings
    }
}

fn seal_of(commit: &aequa_types::Signed) -> Option<Seal> {
    match &commit.claim {
        Claim::Commit(claim) => claim.seal,
        _ => None,
    }
}
