//! Questions without end.

use super::{Play, Scene, Sending};
use aequa_types::limits::SYNC_BLOCKS_MAX;
use aequa_types::message::ValueRequest;
use aequa_types::sync::{BlocksRequest, SyncRequest, TestimonyRequest};
use aequa_types::{Height, Message};

/// Questions of one play.
const AT_ONCE: usize = 16;

/// Asks for the chain from the start, for what was seen of everybody, for values and for the time of day, each
/// as often as it can.
#[derive(Default)]
pub struct Questions {
    asked: usize,
}

impl Play for Questions {
    fn play(&mut self, scene: &mut Scene<'_>) -> Vec<Sending> {
        (0..AT_ONCE).map(|_| self.next(scene)).collect()
    }
}

impl Questions {
    fn next(&mut self, scene: &mut Scene<'_>) -> Sending {
        self.asked += 1;
        let others = scene.others();
        let about = others.get(self.asked % others.len().max(1)).copied().unwrap_or_default();
        match self.asked % 4 {
            0 => {
                let limit = SYNC_BLOCKS_MAX;
                Sending::question(&SyncRequest::Blocks(BlocksRequest { from: Height(1), limit }))
            }
            1 => Sending::question(&SyncRequest::Testimony(TestimonyRequest { about })),
            2 => Sending::question(&SyncRequest::Status(scene.ear.follower.status())),
            _ => {
                let digest = scene.vote().digest;
                let back = scene.dice.below(8) as i64;
                let instance = scene.instance_at(-back);
                Sending::all(&Message::ValueRequest(ValueRequest { instance, digest }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attack::tests::Stage;
    use crate::scene::Way;

    #[test]
    fn every_kind_of_question_is_asked() {
        let sendings = Questions::default().play(&mut Stage::new().scene());
        let kinds: std::collections::BTreeSet<(bool, u8)> =
            sendings.iter().map(|sending| (sending.way == Way::Question, sending.frame.kind)).collect();
        assert_eq!(kinds.into_iter().collect::<Vec<_>>(), [(false, 6), (true, 1), (true, 2), (true, 3)]);
    }
}
