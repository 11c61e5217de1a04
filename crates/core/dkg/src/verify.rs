//! Whether a transcript shows what it is said to show, offline.

use crate::blame::{Blame, Fault};
use crate::board::Board;
use crate::ceremony::replay;
use crate::message::Entry;
use crate::result::PublicResult;
use crate::statement::{Claim, Place};
use crate::{Definition, Error};
use aequa_types::OperatorIndex;
use std::sync::Arc;

/// The keys that a ceremony ended with, from any honest operator's transcript of it: everything signed verifies and
/// belongs to this ceremony, q operators committed to the qualified dealers, the keys are the sum of their
/// dealings, and q operators confirmed them.
pub fn verify_transcript(definition: &Definition, entries: Vec<Entry>) -> Result<PublicResult, Error> {
    let mut board = Board::new(Arc::new(definition.clone()));
    replay(definition, &mut board, entries)?;
    let result = PublicResult::of(definition, &board)?;
    let done = Claim::Done(result.hash(definition));
    let quorum = definition.quorum();
    let said = quorum.members().filter_map(|operator| board.said(operator, Place::Done));
    let confirmed = said.filter(|statement| statement.claim == done).count();
    if confirmed < quorum.quorum() {
        return Err(Error::Unconfirmed { confirmed, quorum: quorum.quorum() });
    }
    Ok(result)
}

/// Who is to blame by a transcript, of a ceremony that has ended or not. Each proof holds. Without one are the dealers
/// that the agreement left out and of whom no dealing is here: silent, for the operator whose transcript it is.
pub fn verify_blames(definition: &Definition, entries: Vec<Entry>) -> Result<Vec<Blame>, Error> {
    let mut board = Board::new(Arc::new(definition.clone()));
    replay(definition, &mut board, entries)?;
    let proven = board.blames().iter().filter(|blame| blame.verify(definition).is_ok()).cloned();
    let silent = definition.quorum().members().filter_map(|operator| {
        let fault = silence_of(definition, &board, operator)?;
        Some(Blame::silent(operator, fault))
    });
    Ok(proven.chain(silent).collect())
}

fn silence_of(definition: &Definition, board: &Board, operator: OperatorIndex) -> Option<Fault> {
    let is_left_out = board.qualified()?.iter().all(|dealing| dealing.dealer != operator);
    let is_proven = board.blames().iter().any(|blame| blame.operator == operator);
    if !is_left_out || is_proven || !definition.is_dealer(operator) || board.public(operator).is_some() {
        return None;
    }
    let has_committed = board.committed().any(|dealer| dealer == operator);
    Some(if has_committed { Fault::NoDealing } else { Fault::NoCommit })
}
