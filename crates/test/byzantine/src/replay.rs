//! What others said, again and again.

use crate::Dice;
use aequa_types::Message;

/// Messages of anybody, old and new, to be sent again as they were.
pub struct Archive {
    messages: Vec<Message>,
    places: usize,
    /// How many in a thousand take the place of another once all places are taken.
    renewal: u64,
}

impl Archive {
    /// Room for so many messages; once it is full, `renewal` of a thousand push out another.
    pub fn new(places: usize, renewal: u64) -> Self {
        Self { messages: Vec::new(), places, renewal }
    }

    /// Keeps a message, or not.
    pub fn keep(&mut self, dice: &mut Dice, message: &Message) {
        if self.messages.len() < self.places {
            self.messages.push(message.clone());
        } else if dice.chance(self.renewal) {
            let place = dice.index(self.places);
            self.messages[place] = message.clone();
        }
    }

    /// One of them.
    pub fn draw(&self, dice: &mut Dice) -> Option<&Message> {
        dice.choose(&self.messages)
    }
}
