//! Rounds that are over, and rounds that never come.

use super::{Play, Scene, Sending};
use aequa_types::limits::{HEIGHT_MAX, ROUND_WINDOW};
use aequa_types::{Claim, Message, PrePrepare, Round, ValueBytes};

/// Signs votes, ROUND-CHANGEs and proposals of rounds outside of what the instance is in.
#[derive(Default)]
pub struct WrongRound;

impl Play for WrongRound {
    fn play(&mut self, scene: &mut Scene<'_>) -> Vec<Sending> {
        let (instance, said) = (scene.instance(), scene.said());
        let digest = scene.proposed_or_invented(&said);
        let now = said.round.0;
        let rounds = [
            now.saturating_sub(1),
            now + 1 + scene.dice.below(ROUND_WINDOW),
            now + ROUND_WINDOW + 1,
            now + 1_000 + scene.dice.below(1 << 40),
            HEIGHT_MAX,
            HEIGHT_MAX + 1,
            u64::MAX,
        ];
        let Some(round) = scene.dice.pick(&rounds).copied().map(Round) else { return Vec::new() };
        let led = scene.next_led(instance, round);
        let proposal = PrePrepare {
            proposal: scene.traitor.say(instance, led, Claim::PrePrepare(digest)),
            value: ValueBytes(vec![0].into()),
            round_changes: Vec::new(),
            prepares: Vec::new(),
        };
        vec![
            Sending::all(&Message::Prepare(scene.traitor.say(instance, round, Claim::Prepare(digest)))),
            Sending::all(&Message::Commit(scene.traitor.commit(instance, round, digest))),
            Sending::all(&Message::RoundChange(scene.change(instance, round, None, Vec::new()))),
            Sending::all(&Message::PrePrepare(proposal)),
        ]
    }
}
