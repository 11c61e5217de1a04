//! Values named and never given.

use super::{Attack, Scene, Sending};
use crate::scene::junk;
use aequa_types::message::ValueReply;
use aequa_types::{Claim, Message, PrePrepare, ValueBytes};

/// Votes for values it keeps to itself; when it leads, gives its block to one operator only.
#[derive(Default)]
pub struct Withholding;

impl Attack for Withholding {
    fn name(&self) -> &'static str {
        "withheld-value"
    }

    fn about(&self) -> &'static str {
        "votes for digests whose value nobody gets; when it leads, the block to one operator and its digest to all"
    }

    fn play(&mut self, scene: &mut Scene<'_>) -> Vec<Sending> {
        let (instance, said) = (scene.instance(), scene.said());
        let mut sendings = Vec::new();
        let digest = match scene.block(0).filter(|_| scene.leads(instance, said.round) && said.round.0 == 0) {
            Some(block) => {
                let proposal = scene.proposal(said.round, &block, Vec::new());
                let others = scene.others();
                let chosen: Vec<_> = scene.dice.pick(&others).copied().into_iter().collect();
                let rest: Vec<_> = others.into_iter().filter(|other| !chosen.contains(other)).collect();
                let bare = PrePrepare { value: ValueBytes(Vec::new().into()), ..proposal.clone() };
                sendings.push(Sending::some(&chosen, &Message::PrePrepare(proposal)));
                sendings.push(Sending::some(&rest, &Message::PrePrepare(bare)));
                block.header.digest()
            }
            None => scene.invented(),
        };
        let prepare = scene.traitor.say(instance, said.round, Claim::Prepare(digest));
        sendings.push(Sending::all(&Message::Prepare(prepare)));
        sendings.push(Sending::all(&Message::Commit(scene.traitor.commit(instance, said.round, digest))));
        // A value nobody asked for, and not the one named.
        let value = ValueBytes(junk(scene.dice, 64).into());
        sendings.push(Sending::all(&Message::ValueReply(ValueReply { instance, value })));
        sendings
    }
}
