//! What others said, again and again.

use super::{Attack, Provable, Scene, Sending};

/// Frames repeated at a time.
const AT_ONCE: usize = 8;

/// Sends frames of anybody again, byte for byte: votes of this height and of heights long decided.
#[derive(Default)]
pub struct Replay;

impl Attack for Replay {
    fn name(&self) -> &'static str {
        "replay"
    }

    fn about(&self) -> &'static str {
        "votes and proposals of everybody, byte for byte, of this height and of old ones"
    }

    fn refused_as(&self) -> &'static [&'static str] {
        &["replay"]
    }

    fn provable(&self) -> Provable {
        Provable::Never
    }

    fn play(&mut self, scene: &mut Scene<'_>) -> Vec<Sending> {
        let memory = scene.ear.memory.lock();
        let picked = (0..AT_ONCE).filter_map(|_| scene.dice.pick(&memory.archive).cloned());
        picked.map(Sending::frame).collect()
    }
}
