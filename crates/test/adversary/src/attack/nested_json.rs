//! Values that are small as bytes and large as a tree.

use super::{Play, Scene, Sending};
use aequa_types::limits::DUTY_VALUE_BYTES_MAX;
use aequa_types::message::ValueReply;
use aequa_types::{DutyKind, InstanceId, Message, Slot, ValueBytes};
use std::time::{Duration, Instant};

/// Values are sent so often: even at ten times their price they are less than what a member may send.
const EVERY: Duration = Duration::from_millis(250);

/// Gives values of nested JSON for duties nobody asked about, and in answer to every question it hears.
#[derive(Default)]
pub struct NestedJson {
    slot: u64,
    at: Option<Instant>,
}

impl Play for NestedJson {
    fn play(&mut self, scene: &mut Scene<'_>) -> Vec<Sending> {
        if self.at.is_some_and(|at| at.elapsed() < EVERY) {
            return Vec::new();
        }
        self.at = Some(Instant::now());
        self.slot += 1;
        let kind = scene.dice.pick(&DutyKind::ALL);
        let unasked = InstanceId::duty(kind, Slot(self.slot));
        let mut sendings = vec![Sending::all(&reply(unasked))];
        let asked = scene.memory().questions.pop_back();
        sendings.extend(asked.map(|(who, question)| Sending::some(&[who], &reply(question.instance))));
        sendings
    }
}

/// An array of as many objects as fit: canonical, and hundreds of times as large once it is parsed.
fn reply(instance: InstanceId) -> Message {
    const ITEM: &[u8] = b"{\"\":0},";
    let mut value = Vec::with_capacity(DUTY_VALUE_BYTES_MAX);
    value.push(b'[');
    while value.len() + ITEM.len() < DUTY_VALUE_BYTES_MAX {
        value.extend_from_slice(ITEM);
    }
    value.pop();
    value.push(b']');
    Message::ValueReply(ValueReply { instance, value: ValueBytes(value.into()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attack::tests::Stage;
    use aequa_types::Digest;
    use aequa_types::message::ValueRequest;

    #[test]
    fn nested_values_are_given_unasked_and_to_whoever_asked_for_another() {
        let (mut stage, mut attack) = (Stage::new(), NestedJson::default());
        let instance = stage.scene().instance();
        let who = stage.scene().others()[0];
        let question = ValueRequest { instance, digest: Digest::ZERO };
        stage.scene().memory().questions.push_back((who, question));
        let sendings = attack.play(&mut stage.scene());
        let values: Vec<_> = sendings.iter().map(|sending| (sending.to.clone(), sending.message())).collect();
        let [(None, unasked), (Some(to), asked)] = &values[..] else { panic!("{}", values.len()) };
        assert_eq!((to, asked.instance()), (&vec![who], instance));
        assert!(unasked.instance().as_duty().is_some());
        let Message::ValueReply(reply) = unasked else { panic!() };
        assert!(reply.value.0.len() <= DUTY_VALUE_BYTES_MAX && reply.value.0.ends_with(b"{\"\":0}]"));
        assert!(attack.play(&mut stage.scene()).is_empty(), "not at once again");
    }
}
