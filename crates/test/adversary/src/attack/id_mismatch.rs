//! Statements under names that are not the traitor's.

use super::{Play, Scene, Sending};
use aequa_types::statement::CommitClaim;
use aequa_types::{Claim, Message, OperatorIndex, RoundChange};

/// Signs what others are to have said, strangers among them, and proposes where it does not lead.
#[derive(Default)]
pub struct IdMismatch;

impl Play for IdMismatch {
    fn play(&mut self, scene: &mut Scene<'_>) -> Vec<Sending> {
        let (instance, said) = (scene.instance(), scene.said());
        let digest = scene.proposed_or_invented(&said);
        let others = scene.others();
        let n = u64::try_from(scene.quorum().operators()).unwrap_or_default();
        let stranger = u8::try_from(n + scene.dice.below(256 - n)).unwrap_or(u8::MAX);
        let somebody = scene.dice.pick(&others).copied();
        let authors = [somebody.unwrap_or(OperatorIndex(stranger)), OperatorIndex(stranger)];
        let mut sendings = Vec::new();
        for author in authors {
            let say = |claim| scene.traitor.say_as(author, instance, said.round, claim);
            let change = scene.change(instance, said.round.next(), None, Vec::new());
            let mut stolen = RoundChange { ..change };
            stolen.change.statement.author = author;
            sendings.extend([
                Sending::all(&Message::Prepare(say(Claim::Prepare(digest)))),
                Sending::all(&Message::Commit(say(Claim::Commit(CommitClaim { digest, seal: None })))),
                Sending::all(&Message::RoundChange(stolen)),
            ]);
        }
        if let Some(block) = scene.block(0).filter(|_| !scene.leads(instance, said.round)) {
            let usurped = scene.proposal(said.round, &block, Vec::new());
            sendings.push(Sending::all(&Message::PrePrepare(usurped)));
        }
        sendings
    }
}
