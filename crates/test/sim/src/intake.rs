//! What reaches a node goes through the production intake.

use crate::sights;
use crate::world::{Event, World};
use aequa_host::intake::{Agreeing, WAIT_MS};
use aequa_replica::{Input, Replica};
use aequa_types::{Message, OperatorIndex, Verified};

impl World {
    /// Takes an input that has reached a node: votes as its intake wants them, and all else at once.
    pub(crate) fn take_in(&mut self, id: usize, input: Input) {
        let Input::Message { from, message } = input else { return self.hand_over(id, vec![input]) };
        let now_ms = self.now_ms;
        let Some(agreeing) = self.agreeing(id) else { return };
        let intake = &mut self.nodes[id].intake;
        let passed = match unchecked(&message) {
            None => vec![(from, message)],
            Some(vote) => intake
                .arrived(now_ms, agreeing, from, vote)
                .into_iter()
                .filter_map(|vote| self.verifier.message(vote))
                .flat_map(|vote| intake.passed(now_ms, agreeing, from, vote))
                .collect(),
        };
        if passed.len() > 1 {
            self.sight(sights::TOGETHER);
        }
        self.hand_over(id, passed.into_iter().map(input_of).collect());
        self.wait(id);
    }

    /// Takes what has waited in a node's intake for long enough.
    pub(crate) fn take_in_overdue(&mut self, id: usize) {
        self.nodes[id].waits = false;
        let Some(agreeing) = self.agreeing(id) else { return };
        let overdue = self.nodes[id].intake.overdue(self.now_ms, agreeing);
        for (sight, seen) in [
            (sights::ALONE, !overdue.checked.is_empty()),
            (sights::ASIDE_NEEDED, !overdue.unchecked.is_empty()),
            (sights::ASIDE_UNNEEDED, !overdue.unneeded.is_empty()),
        ] {
            if seen {
                self.sight(sight);
            }
        }
        let mut inputs: Vec<_> = overdue.checked.into_iter().map(input_of).collect();
        for (from, vote) in overdue.unchecked {
            inputs.extend(self.verifier.message(vote).map(|vote| input_of((from, vote))));
        }
        self.hand_over(id, inputs);
        self.wait(id);
    }

    fn hand_over(&mut self, id: usize, inputs: Vec<Input>) {
        if !inputs.is_empty() {
            self.nodes[id].inbox.extend(inputs);
            self.turn(id);
        }
    }

    /// Comes back to a node's intake when something waits in it.
    fn wait(&mut self, id: usize) {
        let node = &mut self.nodes[id];
        if node.is_up() && !node.waits && node.intake.holds_any() {
            node.waits = true;
            let life = node.life;
            self.after(WAIT_MS, Event::Overdue { node: id, life });
        }
    }

    fn agreeing(&self, id: usize) -> Option<Agreeing> {
        let replica: &Replica<_> = self.nodes[id].replica()?;
        let (round, _) = replica.round_and_leader();
        Some(Agreeing { tip: replica.chain().tip().height, round })
    }
}

fn input_of((from, message): (OperatorIndex, Verified)) -> Input {
    Input::Message { from, message }
}

/// A vote as it travels; nothing for any other message.
fn unchecked(message: &Verified) -> Option<Message> {
    match message {
        Verified::Prepare(vote) => Some(Message::Prepare(vote.clone())),
        Verified::Commit(vote) => Some(Message::Commit(vote.clone())),
        Verified::PrePrepare { .. }
        | Verified::RoundChange(_)
        | Verified::Decided(_)
        | Verified::ValueRequest(_)
        | Verified::ValueReply { .. } => None,
    }
}
