//! Keeps a peer from writing our log (contract: logs, rule 4).

use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Events of one (event, peer) that are written per window.
pub const EVENTS_PER_WINDOW: u32 = 10;
/// Length of a window.
pub const WINDOW: Duration = Duration::from_secs(60);
/// Most (event, peer) pairs tracked: many times what a cluster of honest operators needs. Beyond it,
/// events of new pairs are not written at all until a window ends.
pub const KEYS_MAX: usize = 4096;

/// What to do with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admit {
    /// Write it. `suppressed` events of the same pair were not written in the window before: put the
    /// number into the field `suppressed` when it is not 0.
    Write {
        /// Events not written since the last line.
        suppressed: u64,
    },
    /// Do not write it.
    Suppress,
}

/// A pair whose window ended with events that nobody wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suppressed<P> {
    /// The event.
    pub event: &'static str,
    /// The peer.
    pub peer: P,
    /// How many.
    pub suppressed: u64,
}

/// Limits events per (event, peer). Time is given, not read.
#[derive(Debug)]
pub struct RateLimiter<P> {
    windows: Mutex<HashMap<(&'static str, P), Window>>,
}

#[derive(Debug)]
struct Window {
    start: Instant,
    written: u32,
    suppressed: u64,
}

impl Window {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.start) >= WINDOW
    }
}

impl<P> Default for RateLimiter<P> {
    fn default() -> Self {
        Self { windows: Mutex::new(HashMap::new()) }
    }
}

impl<P: Clone + Eq + Hash> RateLimiter<P> {
    /// A limiter that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks whether `event`, caused by `peer`, is to be written.
    pub fn admit(&self, event: &'static str, peer: &P, now: Instant) -> Admit {
        let mut windows = self.windows.lock();
        let key = (event, peer.clone());
        if windows.len() >= KEYS_MAX && !windows.contains_key(&key) {
            windows.retain(|_, window| !window.is_over(now) || window.suppressed > 0);
            if windows.len() >= KEYS_MAX {
                return Admit::Suppress;
            }
        }
        let window = windows.entry(key).or_insert(Window { start: now, written: 0, suppressed: 0 });
        if window.is_over(now) {
            let suppressed = window.suppressed;
            *window = Window { start: now, written: 1, suppressed: 0 };
            return Admit::Write { suppressed };
        }
        if window.written < EVENTS_PER_WINDOW {
            window.written += 1;
            return Admit::Write { suppressed: 0 };
        }
        window.suppressed += 1;
        Admit::Suppress
    }

    /// Ends the windows that are over and returns what they suppressed, one line each. To be called
    /// now and then: a peer that fell silent leaves nobody else to report it.
    pub fn sweep(&self, now: Instant) -> Vec<Suppressed<P>> {
        let mut ended = Vec::new();
        self.windows.lock().retain(|(event, peer), window| {
            if !window.is_over(now) {
                return true;
            }
            if window.suppressed > 0 {
                ended.push(Suppressed { event, peer: peer.clone(), suppressed: window.suppressed });
            }
            false
        });
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATER: Duration = Duration::from_secs(61);

    #[test]
    fn the_first_ten_in_a_minute_are_written_then_the_next_line_tells_how_many_were_not() {
        let (limiter, now) = (RateLimiter::new(), Instant::now());
        for _ in 0..10 {
            assert_eq!(limiter.admit("qbft_verify", &"peer", now), Admit::Write { suppressed: 0 });
        }
        for _ in 0..7 {
            assert_eq!(limiter.admit("qbft_verify", &"peer", now), Admit::Suppress);
        }
        assert_eq!(limiter.admit("qbft_verify", &"other", now), Admit::Write { suppressed: 0 });
        assert_eq!(limiter.admit("p2p_peer", &"peer", now), Admit::Write { suppressed: 0 });
        assert_eq!(limiter.admit("qbft_verify", &"peer", now + LATER), Admit::Write { suppressed: 7 });
        assert_eq!(limiter.admit("qbft_verify", &"peer", now + LATER), Admit::Write { suppressed: 0 });
    }

    #[test]
    fn a_peer_that_fell_silent_is_reported_once_by_the_sweep() {
        let (limiter, now) = (RateLimiter::new(), Instant::now());
        for _ in 0..12 {
            limiter.admit("qbft_verify", &1, now);
        }
        assert_eq!(limiter.sweep(now), []);
        let expected = Suppressed { event: "qbft_verify", peer: 1, suppressed: 2 };
        assert_eq!(limiter.sweep(now + LATER), [expected]);
        assert_eq!(limiter.sweep(now + LATER), []);
    }

    #[test]
    fn memory_stays_bounded_under_a_flood_of_new_peers() {
        let (limiter, now) = (RateLimiter::new(), Instant::now());
        for peer in 0..KEYS_MAX {
            assert_eq!(limiter.admit("e", &peer, now), Admit::Write { suppressed: 0 });
        }
        assert_eq!(limiter.admit("e", &KEYS_MAX, now), Admit::Suppress);
        assert_eq!(limiter.windows.lock().len(), KEYS_MAX);
        assert_eq!(limiter.admit("e", &KEYS_MAX, now + LATER), Admit::Write { suppressed: 0 });
    }
}
