//! The predicates of the protocol: what makes a ROUND-CHANGE and a PREPREPARE believable.
//!
//! Signatures and membership were checked before ([`aequa_types::Verified`]); here is what needs
//! the quorum and the rules.

use aequa_types::statement::Claim;
use aequa_types::{Digest, InstanceId, OperatorIndex, Prepared, Quorum, Round, RoundChange, Signed};
use std::collections::BTreeSet;

/// Why a message changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The message belongs to another instance.
    #[error("message of another instance")]
    WrongInstance,
    /// The author does not lead the round.
    #[error("author does not lead the round")]
    NotLeader,
    /// The round is too far above the current one.
    #[error("round above the window")]
    RoundAboveWindow,
    /// The justification does not hold.
    #[error("justification does not hold")]
    BadJustification,
    /// The value may not be prepared, or is not the one proposed.
    #[error("value refused: {0}")]
    BadValue(String),
    /// The message speaks in this operator's own name: what it says it makes itself, and nobody brings it.
    #[error("statement in the own name from outside")]
    OwnName,
}

/// The (round, digest) with the largest round that any of these ROUND-CHANGEs claims prepared.
pub fn highest_prepared<'a>(changes: impl IntoIterator<Item = &'a Signed>) -> Option<Prepared> {
    changes
        .into_iter()
        .filter_map(|change| match &change.claim {
            Claim::RoundChange(claim) => claim.prepared,
            Claim::PrePrepare(_) | Claim::Prepare(_) | Claim::Commit(_) => None,
        })
        .max_by_key(|prepared| prepared.round)
}

/// Whether `prepares` are PREPAREs of q distinct operators for exactly this round and digest.
fn is_prepare_quorum(quorum: Quorum, instance: InstanceId, prepared: Prepared, prepares: &[Signed]) -> bool {
    let wanted = Claim::Prepare(prepared.digest);
    distinct_authors(quorum, prepares)
        && prepares.len() >= quorum.quorum()
        && prepares
            .iter()
            .all(|vote| vote.instance == instance && vote.round == prepared.round && vote.claim == wanted)
}

fn distinct_authors(quorum: Quorum, signed: &[Signed]) -> bool {
    let authors: BTreeSet<OperatorIndex> = signed.iter().map(|signed| signed.author).collect();
    authors.len() == signed.len() && authors.iter().all(|author| quorum.contains(*author))
}

/// A ROUND-CHANGE is valid when it claims nothing, or proves what it claims and claims it of an
/// earlier round.
pub(crate) fn check_round_change(
    quorum: Quorum,
    instance: InstanceId,
    message: &RoundChange,
) -> Result<(), Refusal> {
    let Claim::RoundChange(claim) = &message.change.claim else {
        return Err(Refusal::BadJustification);
    };
    let holds = match claim.prepared {
        None => message.prepares.is_empty(),
        Some(prepared) => {
            prepared.round < message.change.round
                && is_prepare_quorum(quorum, instance, prepared, &message.prepares)
        }
    };
    if holds { Ok(()) } else { Err(Refusal::BadJustification) }
}

/// On what ground a proposal may be accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Justified {
    /// J1: nothing was prepared before.
    Fresh,
    /// J2: a quorum prepared the value in an earlier round, so it was found acceptable then.
    Prepared,
}

/// Whether a PREPREPARE may be accepted, and on what ground.
pub(crate) fn check_proposal(
    quorum: Quorum,
    instance: InstanceId,
    round: Round,
    digest: Digest,
    round_changes: &[Signed],
    prepares: &[Signed],
) -> Result<Justified, Refusal> {
    if round == Round(0) {
        let bare = round_changes.is_empty() && prepares.is_empty();
        return if bare { Ok(Justified::Fresh) } else { Err(Refusal::BadJustification) };
    }
    let quorum_of_changes = distinct_authors(quorum, round_changes)
        && round_changes.len() >= quorum.quorum()
        && round_changes.iter().all(|change| {
            change.instance == instance
                && change.round == round
                && matches!(change.claim, Claim::RoundChange(_))
        });
    if !quorum_of_changes {
        return Err(Refusal::BadJustification);
    }
    match highest_prepared(round_changes) {
        None if prepares.is_empty() => Ok(Justified::Fresh),
        None => Err(Refusal::BadJustification),
        // The claim alone proves nothing: the digest must be the one a quorum of PREPAREs names.
        Some(claimed) => {
            let prepared = Prepared { round: claimed.round, digest };
            let holds = claimed.round < round && is_prepare_quorum(quorum, instance, prepared, prepares);
            if holds { Ok(Justified::Prepared) } else { Err(Refusal::BadJustification) }
        }
    }
}
