//! What others said, again and again.

use super::{Play, Scene, Sending};

/// Frames repeated at a time.
const AT_ONCE: usize = 8;

/// Sends frames of anybody again, byte for byte: votes of this height and of heights long decided.
#[derive(Default)]
pub struct Replay;

impl Play for Replay {
    fn play(&mut self, scene: &mut Scene<'_>) -> Vec<Sending> {
        let memory = scene.ear.memory.lock();
        let picked = (0..AT_ONCE).filter_map(|_| scene.dice.pick(&memory.archive).cloned());
        picked.map(Sending::frame).collect()
    }
}
