//! Whether a transcript shows what it is said to show, offline.

use crate::blame::Blame;
use crate::board::Board;
use crate::ceremony::replay;
use crate::message::Entry;
use crate::result::PublicResult;
use crate::statement::{Claim, Place};
use crate::{Definition, Error};
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

/// Who is proven guilty by a transcript, of a ceremony that has ended or not, each with a proof that holds.
pub fn verify_blames(definition: &Definition, entries: Vec<Entry>) -> Result<Vec<Blame>, Error> {
    let mut board = Board::new(Arc::new(definition.clone()));
    replay(definition, &mut board, entries)?;
    let blames = board.blames().iter().filter(|blame| blame.verify(definition).is_ok());
    Ok(blames.cloned().collect())
}
