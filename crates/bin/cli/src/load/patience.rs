//! How long the last transactions are waited for.

use std::time::{Duration, Instant};

/// Longest wait without a block that could bring something.
const PATIENCE: Duration = Duration::from_secs(30);
/// Blocks in a row that bring nothing and are still worth waiting for: a lost transaction is sent again after
/// some seconds, and is in one of the next blocks.
const BARREN_BLOCKS_MAX: u32 = 100;

/// Watches whether blocks still arrive, and whether they bring what is waited for.
#[derive(Debug)]
pub(super) struct Patience {
    moved: Instant,
    barren: u32,
}

impl Patience {
    pub(super) fn new(now: Instant) -> Self {
        Self { moved: now, barren: 0 }
    }

    /// A block arrived; `brought` says whether any of ours was in it.
    pub(super) fn block(&mut self, brought: bool, now: Instant) {
        self.barren = if brought { 0 } else { self.barren.saturating_add(1) };
        if self.barren <= BARREN_BLOCKS_MAX {
            self.moved = now;
        }
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.moved) >= PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_chain_is_waited_for_as_long_as_it_moves() {
        let start = Instant::now();
        let mut patience = Patience::new(start);
        for block in 1..=50 {
            let now = start + block * (PATIENCE - Duration::from_secs(1));
            assert!(!patience.is_over(now), "before block {block}");
            patience.block(block == 25, now);
        }
        let last = start + 50 * (PATIENCE - Duration::from_secs(1));
        assert!(!patience.is_over(last + PATIENCE - Duration::from_millis(1)));
        assert!(patience.is_over(last + PATIENCE), "a chain that stands still is not");
    }

    #[test]
    fn blocks_that_bring_nothing_do_not_go_on_for_ever() {
        let start = Instant::now();
        let mut patience = Patience::new(start);
        let block = |n: u32| start + n * Duration::from_secs(1);
        (1..=BARREN_BLOCKS_MAX + 30).for_each(|n| patience.block(false, block(n)));
        assert!(patience.is_over(block(BARREN_BLOCKS_MAX + 30)));
        patience.block(true, block(BARREN_BLOCKS_MAX + 31));
        assert!(!patience.is_over(block(BARREN_BLOCKS_MAX + 60)));
    }
}
