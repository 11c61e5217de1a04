//! Proposals without right or justification.

use crate::{Dice, Said, Unguarded};
use aequa_types::{Claim, PrePrepare, RoundChange};

/// Another value than the one prepared last, under the very ROUND-CHANGEs that name it.
pub fn unprepared(keys: &impl Unguarded, said: &Said, honest: &PrePrepare) -> Option<PrePrepare> {
    let prepared = honest.proposal.digest();
    let other = said.proposals.iter().find(|known| known.proposal.digest() != prepared)?.clone();
    let claim = Claim::PrePrepare(other.proposal.digest()?);
    let proposal = keys.say(honest.proposal.instance, honest.proposal.round, claim);
    Some(PrePrepare { proposal, value: other.value, prepares: Vec::new(), ..honest.clone() })
}

/// A proposal for the round it changes to, whoever leads it, with as much of a justification as it has.
pub fn unled(
    keys: &impl Unguarded,
    dice: &mut Dice,
    said: &Said,
    honest: &RoundChange,
) -> Option<PrePrepare> {
    let known = dice.choose(&said.proposals)?.clone();
    let claim = Claim::PrePrepare(known.proposal.digest()?);
    let proposal = keys.say(honest.change.instance, honest.change.round, claim);
    let round_changes = vec![honest.change.clone()];
    Some(PrePrepare { proposal, value: known.value, round_changes, prepares: honest.prepares.clone() })
}
