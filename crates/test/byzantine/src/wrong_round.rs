//! Rounds that are over, and rounds that never come.

use crate::{Dice, Unguarded};
use aequa_types::limits::{HEIGHT_MAX, ROUND_WINDOW};
use aequa_types::{Decision, Message, Round, RoundChange, ValueBytes};

/// How many rounds in advance it changes.
const ROUNDS_AHEAD: u64 = 2;

/// The same claim of what was prepared, for the coming rounds: ahead of all honest ones.
pub fn ahead(keys: &impl Unguarded, honest: &RoundChange) -> impl Iterator<Item = RoundChange> {
    let round = honest.change.round.0;
    (round + 1..=round + ROUNDS_AHEAD).map(|round| {
        let change = keys.say(honest.change.instance, Round(round), honest.change.claim.clone());
        RoundChange { change, prepares: honest.prepares.clone() }
    })
}

/// Votes, a ROUND-CHANGE and a proposal of one past, far or impossible round. `led` is the next round that it
/// leads.
pub fn all_kinds(
    keys: &impl Unguarded,
    dice: &mut Dice,
    of: Decision,
    led: impl Fn(Round) -> Round,
) -> [Message; 4] {
    let now = of.round.0;
    let rounds = [
        now.saturating_sub(1),
        now + 1 + dice.below(ROUND_WINDOW),
        now + ROUND_WINDOW + 1,
        now + 1_000 + dice.below(1 << 40),
        HEIGHT_MAX,
        HEIGHT_MAX + 1,
        u64::MAX,
    ];
    let round = Round(dice.pick(&rounds));
    let wrong = Decision { round, ..of };
    [
        Message::Prepare(keys.prepare(wrong)),
        Message::Commit(keys.commit(wrong)),
        Message::RoundChange(keys.change(of.instance, round, None, Vec::new())),
        Message::PrePrepare(keys.propose(Decision { round: led(round), ..of }, ValueBytes(vec![0].into()))),
    ]
}
