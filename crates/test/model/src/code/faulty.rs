//! What the faulty operator can send: any vote, and any proposal or ROUND-CHANGE that can be put
//! together from what honest operators signed and what it signs itself, justified or not.

use super::{FAULTY, INSTANCE, State, VALUES};
use aequa_types::statement::{Claim, CommitClaim, RoundChangeClaim};
use aequa_types::{Message, Prepared, Round, RoundChange, Signature, Signed, Statement, Value, Verified};

/// The faulty operator's signature of a claim.
pub fn sign(round: Round, claim: Claim) -> Signed {
    let statement = Statement { instance: INSTANCE, round, author: FAULTY, claim };
    Signed { statement, signature: Signature::repeat_byte(FAULTY.0) }
}

/// Its PREPARE.
pub fn prepare(round: Round, value: &Value) -> Signed {
    sign(round, Claim::Prepare(value.digest()))
}

/// Its COMMIT.
pub fn commit(round: Round, value: &Value) -> Signed {
    sign(round, Claim::Commit(CommitClaim { digest: value.digest(), seal: None }))
}

/// Its ROUND-CHANGEs of a round: one that claims nothing, and one for each value of each round before,
/// with all the PREPAREs there are. Where they are no quorum, the claim is a lie.
pub fn round_changes(state: &State, round: Round) -> Vec<RoundChange> {
    let change = |prepared| sign(round, Claim::RoundChange(RoundChangeClaim { prepared }));
    let bare = RoundChange { change: change(None), prepares: Vec::new() };
    let claims = (0..round.0).flat_map(|before| {
        VALUES.iter().map(move |value| {
            let prepared = Prepared { round: Round(before), digest: value.digest() };
            RoundChange { change: change(Some(prepared)), prepares: prepares(state, Round(before), value) }
        })
    });
    std::iter::once(bare).chain(claims).collect()
}

/// Its proposals of a value in a round it leads: in round 0 bare; above with each choice of
/// ROUND-CHANGEs, and with the PREPAREs of each earlier round or none.
pub fn proposals(state: &State, round: Round, value: &Value) -> Vec<Verified> {
    let evidence = (0..round.0).map(|before| prepares(state, Round(before), value));
    let evidence: Vec<Vec<Signed>> = std::iter::once(Vec::new()).chain(evidence).collect();
    let justified = justifications(state, round).into_iter().flat_map(|round_changes| {
        evidence.iter().map(move |prepares| Verified::PrePrepare {
            proposal: sign(round, Claim::PrePrepare(value.digest())),
            value: value.clone(),
            round_changes: round_changes.clone(),
            prepares: prepares.clone(),
        })
    });
    justified.collect()
}

/// All PREPAREs for a value, its own among them.
fn prepares(state: &State, round: Round, value: &Value) -> Vec<Signed> {
    let wanted = Claim::Prepare(value.digest());
    let honest = state.messages().filter_map(|message| match message {
        Message::Prepare(vote) if vote.round == round && vote.claim == wanted => Some(vote.clone()),
        _ => None,
    });
    honest.chain([prepare(round, value)]).collect()
}

/// Each choice of ROUND-CHANGEs: none, two honest ones with each of its own, and all honest ones.
fn justifications(state: &State, round: Round) -> Vec<Vec<Signed>> {
    let honest: Vec<Signed> = state
        .messages()
        .filter_map(|message| match message {
            Message::RoundChange(message) if message.change.round == round => Some(message.change.clone()),
            _ => None,
        })
        .collect();
    let mut choices = vec![Vec::new()];
    if round == Round(0) {
        return choices;
    }
    let pairs = honest.iter().enumerate().flat_map(|(i, one)| {
        honest[i + 1..]
            .iter()
            .filter(|two| two.author != one.author)
            .map(move |two| [one.clone(), two.clone()])
    });
    for pair in pairs {
        for own in round_changes(state, round) {
            choices.push(pair.iter().cloned().chain([own.change]).collect());
        }
    }
    if honest.len() > 2 {
        choices.push(honest);
    }
    choices
}
