//! A message with one thing changed, signed again where that is possible.

use crate::{Dice, Unguarded};
use aequa_types::{Domain, Message, PrePrepare, Round, RoundChange, Signed};

/// A statement moved to another place, or a justification with one statement less.
pub fn mutant(keys: &impl Unguarded, dice: &mut Dice, message: &Message) -> Option<Message> {
    Some(match message {
        Message::Prepare(vote) => Message::Prepare(moved(keys, dice, vote)),
        Message::Commit(vote) => Message::Commit(moved(keys, dice, vote)),
        Message::RoundChange(message) => Message::RoundChange(RoundChange {
            change: moved(keys, dice, &message.change),
            prepares: shortened(dice, &message.prepares),
        }),
        Message::PrePrepare(message) => Message::PrePrepare(PrePrepare {
            round_changes: shortened(dice, &message.round_changes),
            prepares: shortened(dice, &message.prepares),
            ..message.clone()
        }),
        Message::Decided(_) | Message::ValueRequest(_) | Message::ValueReply(_) => return None,
    })
}

fn moved(keys: &impl Unguarded, dice: &mut Dice, signed: &Signed) -> Signed {
    let mut statement = signed.statement.clone();
    match dice.below(4) {
        0 => statement.round = Round(statement.round.0 + dice.between(1, 3)),
        1 => statement.round = Round(statement.round.0.saturating_sub(1)),
        2 => statement.instance = statement.instance.next(),
        _ => statement.instance = dice.pick(&Domain::ALL).instance(statement.instance.number()),
    }
    keys.sign(statement)
}

/// One less, or twice the same instead.
fn shortened(dice: &mut Dice, list: &[Signed]) -> Vec<Signed> {
    let mut list = list.to_vec();
    if !list.is_empty() {
        let element = list.remove(dice.index(list.len()));
        if dice.chance(500) {
            list.push(list.first().cloned().unwrap_or(element));
        }
    }
    list
}
