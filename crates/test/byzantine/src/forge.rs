//! Claims with evidence that does not show them.

use crate::Unguarded;
use aequa_types::statement::{Claim, CommitClaim, RoundChangeClaim};
use aequa_types::{
    Certificate, Decided, Decision, Digest, InstanceId, Message, PrePrepare, Prepared, Quorum, Round,
    RoundChange, Signed,
};

/// Hides what it saw prepared.
pub fn hidden(keys: &impl Unguarded, honest: &RoundChange) -> RoundChange {
    keys.change(honest.change.instance, honest.change.round, None, Vec::new())
}

/// Says that this was prepared in the round before: with its own PREPARE and whatever quorum it has of
/// something else.
pub fn invented(keys: &impl Unguarded, honest: &RoundChange, digest: Digest) -> Option<RoundChange> {
    let (instance, round) = (honest.change.instance, honest.change.round);
    let before = Round(round.0.checked_sub(1)?);
    let mut prepares = honest.prepares.clone();
    prepares.retain(|vote| vote.author != keys.operator());
    prepares.push(keys.prepare(Decision { instance, round: before, digest }));
    Some(keys.change(instance, round, Some(Prepared { round: before, digest }), prepares))
}

/// ROUND-CHANGEs to the next round that say `of` was prepared: with stolen, foreign, repeated, too few or no
/// PREPAREs; with PREPAREs for no claim, and with claims of rounds that have not been.
pub fn round_changes(
    keys: &impl Unguarded,
    of: Decision,
    heard: &[Signed],
    foreign: Vec<Signed>,
    quorum: Quorum,
) -> Vec<Message> {
    let Decision { instance, round, digest } = of;
    let own = keys.prepare(of);
    let stolen = by_everybody(keys, quorum, instance, round, &Claim::Prepare(digest));
    let few: Vec<Signed> = heard.iter().take(quorum.quorum() - 1).cloned().collect();
    let claim = |round| Some(Prepared { round, digest });
    let claims = [
        (claim(round), stolen),
        (claim(round), foreign),
        (claim(round), vec![own.clone(); quorum.quorum()]),
        (claim(round), few.clone()),
        (claim(round), Vec::new()),
        (None, vec![own.clone()]),
        (claim(round.next()), few),
        (claim(Round(u64::MAX)), vec![own]),
    ];
    let change = |(prepared, prepares)| keys.change(instance, round.next(), prepared, prepares);
    claims.into_iter().map(|claim| Message::RoundChange(change(claim))).collect()
}

/// A proposal justified by nothing, by its own ROUND-CHANGE, once or repeated, by ones of another instance, and
/// by stolen ones.
pub fn proposals(
    keys: &impl Unguarded,
    bare: &PrePrepare,
    elsewhere: InstanceId,
    quorum: Quorum,
) -> Vec<Message> {
    let (instance, round) = (bare.proposal.instance, bare.proposal.round);
    let claim = Claim::RoundChange(RoundChangeClaim { prepared: None });
    let own = keys.say(instance, round, claim.clone());
    let justifications = [
        Vec::new(),
        vec![own.clone()],
        vec![own; quorum.quorum()],
        vec![keys.say(elsewhere, round, claim.clone()); quorum.quorum()],
        by_everybody(keys, quorum, instance, round, &claim),
    ];
    let justified = |round_changes| Message::PrePrepare(PrePrepare { round_changes, ..bare.clone() });
    justifications.into_iter().map(justified).collect()
}

/// A decision nobody made.
pub fn decided(keys: &impl Unguarded, of: Decision, quorum: Quorum) -> Message {
    let Decision { instance, round, digest } = of;
    let claim = Claim::Commit(CommitClaim { digest, seal: None });
    let commits = by_everybody(keys, quorum, instance, round, &claim);
    Message::Decided(Decided { certificate: Certificate::from_commits(instance, round, digest, &commits) })
}

/// What a quorum is made to say, under the forger's signature.
fn by_everybody(
    keys: &impl Unguarded,
    quorum: Quorum,
    instance: InstanceId,
    round: Round,
    claim: &Claim,
) -> Vec<Signed> {
    let members = quorum.members().take(quorum.quorum());
    members.map(|member| keys.say_as(member, instance, round, claim.clone())).collect()
}
