//! COMMITs that no quorum of PREPAREs stands behind.

use super::{Play, Scene, Sending};
use aequa_types::{Message, Round};

/// Commits at once to what was proposed, to what nobody proposed, and to heights that have not begun.
#[derive(Default)]
pub struct BareCommit;

impl Play for BareCommit {
    fn play(&mut self, scene: &mut Scene<'_>) -> Vec<Sending> {
        let (instance, said) = (scene.instance(), scene.said());
        let proposed = scene.proposed_or_invented(&said);
        let offset = scene.dice.below(4) as i64;
        let ahead = scene.instance_at(1 + offset);
        let invented = scene.invented();
        let commits = [
            scene.traitor.commit(instance, said.round, proposed),
            scene.traitor.commit(instance, said.round.next(), proposed),
            scene.traitor.commit(ahead, Round(0), invented),
        ];
        commits.into_iter().map(|commit| Sending::all(&Message::Commit(commit))).collect()
    }
}
