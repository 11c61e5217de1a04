//! Statements under names that are not the traitor's.

use super::{Scene, Sending};
use aequa_byzantine::Unguarded as _;
use aequa_types::statement::CommitClaim;
use aequa_types::{Claim, Message, OperatorIndex};

/// Signs what others are to have said, strangers among them, and proposes where it does not lead.
pub(super) fn play(scene: &mut Scene<'_>) -> Vec<Sending> {
    let (traitor, of) = (scene.traitor, scene.vote());
    let others = scene.others();
    let n = u64::try_from(scene.quorum().operators()).unwrap_or_default();
    let stranger = u8::try_from(n + scene.dice.below(256 - n)).unwrap_or(u8::MAX);
    let somebody = scene.dice.choose(&others).copied();
    let authors = [somebody.unwrap_or(OperatorIndex(stranger)), OperatorIndex(stranger)];
    let mut sendings = Vec::new();
    for author in authors {
        let say = |claim| traitor.say_as(author, of.instance, of.round, claim);
        let commit = CommitClaim { digest: of.digest, seal: None };
        let mut stolen = traitor.change(of.instance, of.round.next(), None, Vec::new());
        stolen.change.statement.author = author;
        sendings.extend([
            Sending::all(&Message::Prepare(say(Claim::Prepare(of.digest)))),
            Sending::all(&Message::Commit(say(Claim::Commit(commit)))),
            Sending::all(&Message::RoundChange(stolen)),
        ]);
    }
    if let Some(block) = scene.block().filter(|_| !traitor.leads(of.instance, of.round)) {
        let usurped = scene.proposal(of.round, &block);
        sendings.push(Sending::all(&Message::PrePrepare(usurped)));
    }
    sendings
}
