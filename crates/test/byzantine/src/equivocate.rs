//! Two statements where there may be one.

use crate::{Dice, Sending, Unguarded};
use aequa_types::{
    Block, Claim, Decision, Digest, InstanceId, Message, PrePrepare, Prepared, Signed, Value, ValueBytes,
};
use ssz::{Decode as _, Encode as _};

/// What it proposes beside `first`, as valid as that: the same block a millisecond later, or another choice for
/// a duty. Blocks get later until their digest `fits`.
pub fn second_proposal(
    keys: &impl Unguarded,
    dice: &mut Dice,
    first: &PrePrepare,
    fits: impl Fn(Digest) -> bool,
) -> Option<PrePrepare> {
    let (instance, round) = (first.proposal.instance, first.proposal.round);
    let (value, digest) = match instance {
        InstanceId::Block(_) => {
            let mut block = Block::from_ssz_bytes(&first.value.0).ok()?;
            block.header.timestamp_ms += 1;
            while !fits(block.header.digest()) {
                block.header.timestamp_ms += 1;
            }
            (ValueBytes(block.as_ssz_bytes().into()), block.header.digest())
        }
        InstanceId::Duty(duty) => {
            let bytes = format!("{{\"slot\":{},\"choice\":{}}}", duty.slot, 2 + dice.below(2));
            let value = Value::duty(duty, ValueBytes(bytes.into_bytes().into()));
            (value.bytes().clone(), value.digest())
        }
    };
    let proposal = keys.say(instance, round, Claim::PrePrepare(digest));
    Some(PrePrepare { proposal, value, ..first.clone() })
}

/// Each receiver gets one of two proposals; now and then all get the first, and some of them both.
pub fn split<To: Copy>(
    dice: &mut Dice,
    to: &[To],
    first: PrePrepare,
    second: PrePrepare,
) -> [Sending<To>; 2] {
    let (mut one, two): (Vec<To>, Vec<To>) = to.iter().partition(|_| dice.chance(500));
    if dice.chance(100) {
        one = to.to_vec();
    }
    [(one, Message::PrePrepare(first)), (two, Message::PrePrepare(second))]
}

/// The half of the cluster that a divider shows this digest to.
pub fn half(digest: Digest) -> usize {
    usize::from(digest[0] % 2)
}

/// Shows each half of the receivers, those with even and those with odd numbers, what belongs to its blocks.
pub fn divide<To>(sendings: &mut [Sending<To>], number: impl Fn(&To) -> usize) {
    for (to, message) in sendings {
        let vote = message.statement().filter(|signed| !matches!(signed.claim, Claim::RoundChange(_)));
        let half = vote.and_then(|signed| signed.digest()).map(half);
        to.retain(|receiver| half.is_none_or(|half| number(receiver) % 2 == half));
    }
}

/// A leader's two proposals, each with the votes of one who believes in it, each to its half; to one receiver
/// both, or there would be nothing to prove.
pub fn lead<To: Copy>(
    keys: &impl Unguarded,
    dice: &mut Dice,
    first: PrePrepare,
    to: &[To],
    number: impl Fn(&To) -> usize,
) -> Option<Vec<Sending<To>>> {
    let half_of_first = half(first.proposal.digest()?);
    let second = second_proposal(keys, dice, &first, |digest| half(digest) != half_of_first)?;
    let mut sendings = Vec::new();
    for proposal in [first, second.clone()] {
        let (instance, round) = (proposal.proposal.instance, proposal.proposal.round);
        let of = Decision { instance, round, digest: proposal.proposal.digest()? };
        let votes = [Message::Prepare(keys.prepare(of)), Message::Commit(keys.commit(of))];
        let messages = [Message::PrePrepare(proposal)].into_iter().chain(votes);
        sendings.extend(messages.map(|message| (to.to_vec(), message)));
    }
    divide(&mut sendings, &number);
    let witness = to.iter().copied().find(|receiver| number(receiver) % 2 == half_of_first);
    sendings.push((witness.into_iter().collect(), Message::PrePrepare(second)));
    Some(sendings)
}

/// A PREPARE or COMMIT like this one for another digest.
pub fn second_vote(keys: &impl Unguarded, vote: &Signed, digest: Digest) -> Signed {
    let of = Decision { instance: vote.instance, round: vote.round, digest };
    match vote.claim {
        Claim::Commit(_) => keys.commit(of),
        Claim::PrePrepare(_) | Claim::Prepare(_) | Claim::RoundChange(_) => keys.prepare(of),
    }
}

/// Votes for two digests, and two ROUND-CHANGEs to the next round: the second claims a quorum that only all others
/// could have made; those that heard one have the `prepares`.
pub fn vote(keys: &impl Unguarded, of: Decision, other: Digest, prepares: Vec<Signed>) -> Vec<Message> {
    let both = [of, Decision { digest: other, ..of }];
    let votes = both.map(|of| [Message::Prepare(keys.prepare(of)), Message::Commit(keys.commit(of))]);
    let prepared = Prepared { round: of.round, digest: of.digest };
    let changes = [(None, Vec::new()), (Some(prepared), prepares)].map(|(prepared, prepares)| {
        Message::RoundChange(keys.change(of.instance, of.round.next(), prepared, prepares))
    });
    votes.into_iter().flatten().chain(changes).collect()
}
