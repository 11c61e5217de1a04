//! What others need, kept back.

use crate::{Dice, Sending, Unguarded};
use aequa_types::message::ValueReply;
use aequa_types::{Decision, Message, Round, ValueBytes};

/// Leaves out receivers, `per_mille` of a thousand; how many.
pub fn some<To>(dice: &mut Dice, per_mille: u64, sendings: &mut [Sending<To>]) -> u64 {
    let count = |sendings: &[Sending<To>]| sendings.iter().map(|(to, _)| to.len()).sum::<usize>();
    let before = count(sendings);
    sendings.iter_mut().for_each(|(to, _)| to.retain(|_| !dice.chance(per_mille)));
    (before - count(sendings)) as u64
}

/// Whether a hoarder keeps this to itself. It takes votes and values and gives none: only first proposals and
/// round changes leave it.
pub fn hoards(message: &Message) -> bool {
    match message {
        Message::PrePrepare(message) => message.proposal.round > Round(0),
        Message::RoundChange(_) => false,
        Message::Prepare(_)
        | Message::Commit(_)
        | Message::Decided(_)
        | Message::ValueRequest(_)
        | Message::ValueReply(_) => true,
    }
}

/// Votes for a value it gives to nobody, and another value that nobody asked for.
pub fn votes(keys: &impl Unguarded, of: Decision, other: ValueBytes) -> [Message; 3] {
    [
        Message::Prepare(keys.prepare(of)),
        Message::Commit(keys.commit(of)),
        Message::ValueReply(ValueReply { instance: of.instance, value: other }),
    ]
}
