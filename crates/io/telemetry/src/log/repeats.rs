//! Keeps any one cause from filling the log, whoever is behind it.
//!
//! The [limiter](super::RateLimiter) of (event, peer) is asked where an event is made, and knows who caused
//! it. This is the net below: lines of one place in the code beyond [`REPEATS_PER_WINDOW`] are counted, and
//! the count is told. A warning or an error is written all the same when it is the first of its cause in the
//! window, so that no flood of one cause hides another. Only at the levels that are on by default: whoever asks
//! for more wants all of it.

use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{Duration, Instant};
use tracing::Level;
use tracing::callsite::Identifier;

/// Lines of one place in the code that are written per window: many times what a node that is well has to
/// say, and 20 kB/s of text at most.
pub const REPEATS_PER_WINDOW: u32 = 100;
/// Length of a window.
pub const REPEATS_WINDOW: Duration = Duration::from_secs(1);
/// Causes of one place in the code that are told apart in a window: more than any cluster has operators.
pub const CAUSES_MAX: usize = 128;
/// Fields that name the cause of a line. Those that differ from line to line do not, and who else is at the other
/// end could make up any number of names.
const CAUSE_FIELDS: [&str; 14] = [
    "code", "domain", "event", "kind", "op", "operator", "phase", "reason", "result", "route", "service",
    "target", "text", "type",
];

/// What tells the causes of lines from one place in the code apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Cause(u64);

impl Cause {
    /// Of a line with such fields.
    pub(super) fn of(fields: &[(String, String)]) -> Self {
        let mut hasher = DefaultHasher::new();
        fields
            .iter()
            .filter(|(key, _)| CAUSE_FIELDS.contains(&key.as_str()))
            .for_each(|f| f.hash(&mut hasher));
        Self(hasher.finish())
    }
}

/// Lines by the place in the code they come from; as many as the program has.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    places: Mutex<Places>,
}

#[derive(Debug, Default)]
struct Places {
    windows: HashMap<Identifier, Window>,
    /// Whether anything was left out that nobody told of.
    untold: bool,
}

#[derive(Debug)]
struct Window {
    start: Instant,
    written: u32,
    left_out: u64,
    event: String,
    level: Level,
    /// Causes of warnings and errors in this window.
    causes: HashSet<Cause>,
}

/// Lines of one event that were left out in a window that is over.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LeftOut {
    pub event: String,
    pub level: Level,
    pub count: u64,
}

impl Repeats {
    /// Whether a line of `event` from `place` is to be written.
    pub(super) fn admit(
        &self,
        place: Identifier,
        event: &str,
        level: Level,
        cause: Cause,
        now: Instant,
    ) -> bool {
        if level > Level::INFO {
            return true;
        }
        let places = &mut *self.places.lock();
        let fresh = || Window {
            start: now,
            written: 0,
            left_out: 0,
            event: event.to_owned(),
            level,
            causes: HashSet::new(),
        };
        let window = places.windows.entry(place).or_insert_with(fresh);
        if window.is_over(now) && window.left_out == 0 {
            window.begin(now);
        }
        let is_new = level <= Level::WARN && window.causes.len() < CAUSES_MAX && window.causes.insert(cause);
        if is_new || window.written < REPEATS_PER_WINDOW {
            window.written += 1;
            return true;
        }
        window.left_out += 1;
        places.untold = true;
        false
    }

    /// What was left out in windows that are over, each once.
    pub(super) fn left_out(&self, now: Instant) -> Vec<LeftOut> {
        let places = &mut *self.places.lock();
        if !places.untold {
            return Vec::new();
        }
        let over = places.windows.values_mut().filter(|window| window.left_out > 0 && window.is_over(now));
        let told = over.map(|window| {
            let count = std::mem::take(&mut window.left_out);
            window.begin(now);
            LeftOut { event: window.event.clone(), level: window.level, count }
        });
        let told: Vec<LeftOut> = told.collect();
        places.untold = places.windows.values().any(|window| window.left_out > 0);
        told
    }
}

impl Window {
    fn begin(&mut self, now: Instant) {
        (self.start, self.written) = (now, 0);
        self.causes.clear();
    }

    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.start) >= REPEATS_WINDOW
    }
}
