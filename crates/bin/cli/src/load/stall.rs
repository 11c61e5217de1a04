//! When to give up waiting for the last transactions.

use std::time::{Duration, Instant};

/// Longest wait without a block that could bring something.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Blocks in a row that bring nothing and are still worth waiting for: a lost transaction is sent again after
/// some seconds, and is in one of the next blocks.
const USELESS_BLOCKS_MAX: u32 = 100;

/// Watches whether blocks still arrive, and whether they bring what is waited for.
#[derive(Debug)]
pub(super) struct StallDetector {
    progress: Instant,
    useless_blocks: u32,
}

impl StallDetector {
    pub(super) fn new(now: Instant) -> Self {
        Self { progress: now, useless_blocks: 0 }
    }

    /// A block arrived; `brought` says whether any of ours was in it.
    pub(super) fn block(&mut self, brought: bool, now: Instant) {
        self.useless_blocks = if brought { 0 } else { self.useless_blocks.saturating_add(1) };
        if self.useless_blocks <= USELESS_BLOCKS_MAX {
            self.progress = now;
        }
    }

    pub(super) fn has_stalled(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.progress) >= STALL_TIMEOUT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_chain_is_waited_for_as_long_as_it_moves() {
        let start = Instant::now();
        let mut detector = StallDetector::new(start);
        for block in 1..=50 {
            let now = start + block * (STALL_TIMEOUT - Duration::from_secs(1));
            assert!(!detector.has_stalled(now), "before block {block}");
            detector.block(block == 25, now);
        }
        let last = start + 50 * (STALL_TIMEOUT - Duration::from_secs(1));
        assert!(!detector.has_stalled(last + STALL_TIMEOUT - Duration::from_millis(1)));
        assert!(detector.has_stalled(last + STALL_TIMEOUT), "a chain that stands still is not");
    }

    #[test]
    fn blocks_that_bring_nothing_do_not_go_on_for_ever() {
        let start = Instant::now();
        let mut detector = StallDetector::new(start);
        let block = |n: u32| start + n * Duration::from_secs(1);
        (1..=USELESS_BLOCKS_MAX + 30).for_each(|n| detector.block(false, block(n)));
        assert!(detector.has_stalled(block(USELESS_BLOCKS_MAX + 30)));
        detector.block(true, block(USELESS_BLOCKS_MAX + 31));
        assert!(!detector.has_stalled(block(USELESS_BLOCKS_MAX + 60)));
    }
}
