//! Too much of everything.

use super::{Play, Scene, Sending};
use aequa_byzantine::Unguarded as _;
use aequa_p2p::{Message as Frame, OVERHEAD_BYTES_MAX};
use aequa_types::limits::{
    CONSENSUS_FRAME_BYTES_MAX, HEIGHT_MAX, ROUND_WINDOW, TX_FRAME_BYTES_MAX, VALUE_BYTES_MAX,
};
use aequa_types::message::{ValueReply, ValueRequest};
use aequa_types::{Decision, Height, InstanceId, Message, Round, ValueBytes};
use std::time::{Duration, Instant};

/// Messages of one play.
const AT_ONCE: usize = 32;
/// Frames at the limit are sent so often: at ten times their price they are half of what a member may send.
const LARGE_EVERY: Duration = Duration::from_secs(1);
/// Once so many more follow one of them at once: at ten times their price that is more than a member's burst,
/// and its stream is left unread until the debt is paid. Still less than the own queue holds.
const OVERDRAFT: u64 = 5;
/// Silence after it, so that what is unread meanwhile does not overflow the queue.
const REST: Duration = Duration::from_secs(1);

/// Valid and useless messages at a high rate, heights beyond all bounds, frames as large as they may be, and
/// bytes that mean nothing.
#[derive(Default)]
pub struct Flood {
    round: u64,
    larges: u64,
    large_at: Option<Instant>,
    overdrawn_at: Option<Instant>,
}

impl Play for Flood {
    fn play(&mut self, scene: &mut Scene<'_>) -> Vec<Sending> {
        let now = Instant::now();
        if self.overdrawn_at.is_some_and(|at| now.duration_since(at) < REST) {
            return Vec::new();
        }
        let mut sendings: Vec<Sending> = (0..AT_ONCE).map(|turn| self.small(scene, turn)).collect();
        if self.large_at.is_none_or(|at| now.duration_since(at) >= LARGE_EVERY) {
            self.large_at = Some(now);
            sendings.extend(self.large(scene));
            // Not with the first: by the second its repute is bad enough for the higher price.
            if self.larges > 1 && self.overdrawn_at.is_none() {
                self.overdrawn_at = Some(now);
                sendings.extend((0..OVERDRAFT).filter_map(|_| self.large(scene)));
            }
        }
        sendings
    }
}

impl Flood {
    fn small(&mut self, scene: &mut Scene<'_>, turn: usize) -> Sending {
        self.round += 1;
        let (instance, round) = (scene.instance(), Round(self.round % ROUND_WINDOW));
        let digest = scene.invented();
        let heights = [0, HEIGHT_MAX, HEIGHT_MAX + 1, u64::MAX];
        let far = InstanceId::Block(Height(scene.dice.pick(&heights)));
        let offset = scene.dice.below(12) as i64;
        let early = scene.instance_at(1 + offset);
        let late = scene.instance_at(-1);
        let traitor = scene.traitor;
        let prepare =
            |instance, round| Message::Prepare(traitor.prepare(Decision { instance, round, digest }));
        let change =
            |instance, round| Message::RoundChange(traitor.change(instance, round, None, Vec::new()));
        let message = match turn % 8 {
            0 => prepare(instance, round),
            1 => prepare(early, round),
            2 => change(instance, Round(self.round)),
            3 => Message::ValueRequest(ValueRequest { instance, digest }),
            4 => prepare(far, Round(0)),
            5 => change(far, Round(1)),
            6 => prepare(late, round),
            _ => {
                let bytes = scene.dice.below(900) as usize;
                let body = scene.junk(bytes);
                return Sending::frame(Frame::new(scene.dice.below(10) as u8, body));
            }
        };
        Sending::all(&message)
    }

    /// As large as a frame may be, one kind after the other: a value of junk under a good signature, an answer
    /// nobody asked for, a frame of junk, and transactions of junk.
    fn large(&mut self, scene: &mut Scene<'_>) -> Option<Sending> {
        self.larges += 1;
        let instance = scene.instance();
        match self.larges % 4 {
            0 => {
                let led = scene.traitor.next_led(instance, scene.said.round);
                let mut proposal = scene.proposal(led, &scene.block()?);
                proposal.value = ValueBytes(scene.junk(VALUE_BYTES_MAX).into());
                Some(Sending::all(&Message::PrePrepare(proposal)))
            }
            1 => {
                let value = ValueBytes(scene.junk(VALUE_BYTES_MAX).into());
                Some(Sending::all(&Message::ValueReply(ValueReply { instance, value })))
            }
            2 => {
                let body = scene.junk(CONSENSUS_FRAME_BYTES_MAX - OVERHEAD_BYTES_MAX);
                Some(Sending::frame(Frame::new(1, body)))
            }
            _ => {
                let body = scene.junk(TX_FRAME_BYTES_MAX - OVERHEAD_BYTES_MAX);
                Some(Sending::transactions(Frame::new(1, body)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attack::tests::Stage;
    use crate::scene::Way;
    use aequa_p2p::QUEUE_BYTES_MAX;

    /// Twice 64 MiB, at the tenfold price of a member of bad repute.
    const BURST_BYTES: usize = (128 << 20) / 10;

    #[test]
    fn a_flood_overdraws_its_budget_once_and_fits_into_its_own_queue() {
        let (mut stage, mut attack) = (Stage::new(), Flood::default());
        let mut bytes_at_once = Vec::new();
        for _ in 0..3 {
            // As if the pause between large frames were over.
            attack.large_at = None;
            attack.overdrawn_at = attack.overdrawn_at.and_then(|at| at.checked_sub(REST));
            let sendings = attack.play(&mut stage.scene());
            let direct = sendings.iter().filter(|sending| sending.way == Way::Consensus);
            bytes_at_once.push(direct.map(|sending| sending.frame.body.len()).sum::<usize>());
        }
        let [first, overdraft, after] = bytes_at_once[..] else { panic!("{bytes_at_once:?}") };
        assert!(first.max(after) < BURST_BYTES / 2, "{first} {after}");
        assert!((BURST_BYTES + 1..QUEUE_BYTES_MAX).contains(&overdraft), "{overdraft}");
    }
}
