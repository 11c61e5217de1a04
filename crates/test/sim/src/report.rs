//! One run, and what it has to tell.

use crate::oracle::Violation;
use crate::plan::Options;
use crate::recording::Recording;
use crate::totals::Totals;
use crate::world::World;
use std::cell::Cell;

thread_local! {
    static RUNNING: Cell<Option<u64>> = const { Cell::new(None) };
}

/// The outcome of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The seed it came from.
    pub seed: u64,
    /// Number of operators.
    pub nodes: usize,
    /// What went wrong, if anything.
    pub violation: Option<Violation>,
    /// Fingerprint of everything that happened: equal for equal seeds and options.
    pub log_hash: u64,
    /// What happened.
    pub totals: Totals,
    /// Readable lines, when asked for.
    pub trace: Vec<String>,
    /// What every node recorded; nothing unless it was asked for.
    pub recordings: Vec<Recording>,
}

/// Runs one seed.
pub fn run(seed: u64, options: &Options) -> Report {
    RUNNING.set(Some(seed));
    let report = World::new(seed, options.clone()).run();
    RUNNING.set(None);
    report
}

/// Runs one seed twice. That the two runs differ is a violation like any other: what cannot be repeated
/// cannot be explained.
pub fn run_twice(seed: u64, options: &Options) -> Report {
    let first = run(seed, options);
    let second = run(seed, options);
    compared(first, &second)
}

/// The seed this thread is running, for whoever has to say where a panic came from.
pub fn running() -> Option<u64> {
    RUNNING.get()
}

/// The first of two runs, with a violation when the second is not the same.
fn compared(mut first: Report, second: &Report) -> Report {
    if first != *second {
        let detail = format!(
            "log {:016x} of {} events, then {:016x} of {}",
            first.log_hash, first.totals.events, second.log_hash, second.totals.events
        );
        first.violation.get_or_insert(Violation::Unrepeatable { detail });
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_runs_that_differ_are_a_violation_unless_there_is_one_already() {
        let options = Options { nodes: Some(1), safety_ms: 200, ..Options::default() };
        let report = run_twice(1, &options);
        assert_eq!(report.violation, None);
        let mut other = report.clone();
        other.totals.bytes += 1;
        let unlike = compared(report.clone(), &other);
        assert!(matches!(unlike.violation, Some(Violation::Unrepeatable { .. })));
        let endless = Some(Violation::Endless { events: 1 });
        let failing = Report { violation: endless.clone(), ..report };
        assert_eq!(compared(failing, &other).violation, endless);
        assert_eq!(running(), None);
    }
}
