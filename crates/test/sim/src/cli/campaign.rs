//! Many seeds: what is run, what is said of it.

use super::arguments::Pins;
use super::progress::Progress;
use super::{failure, say, say_counts};
use aequa_sim::{Campaign, Extent, SIGHTS, campaign_on};
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

/// A campaign of so many seeds with nothing pinned must have reached every situation. Shorter ones may
/// miss the rare ones, and pinned ones those they exclude.
pub const SEEDS_FOR_ALL_SITUATIONS: u64 = 1000;

/// Runs a campaign and says what came of it. Whether all of it held.
pub fn main(extent: Extent, jobs: NonZeroUsize, pins: &Pins) -> bool {
    let start = Instant::now();
    let mut progress = Progress::new(extent);
    let campaign = campaign_on(jobs, extent, &pins.options(), |so_far| progress.show(so_far));
    progress.end();
    say(summary(&campaign, jobs, start.elapsed()));
    let reached = SIGHTS.len() - campaign.missing().len();
    say_counts(&format!("reached, {reached} of {} situations", SIGHTS.len()), &campaign.totals.sights);
    say_counts("faults injected", &campaign.totals.faults);
    let missed = missed(&campaign, pins);
    missed.lines.iter().for_each(say);
    if let Some((report, violation)) =
        campaign.failure.as_ref().and_then(|report| Some((report, report.violation.as_ref()?)))
    {
        failure::tell(report, violation, pins);
        return false;
    }
    say(if missed.fails { "no violation, but not everything was reached" } else { "no violation" });
    !missed.fails
}

fn summary(campaign: &Campaign, jobs: NonZeroUsize, elapsed: Duration) -> String {
    let clusters: Vec<String> =
        campaign.clusters.iter().map(|(nodes, runs)| format!("n = {nodes}: {runs}")).collect();
    let seconds = elapsed.as_secs_f64();
    let lines = [
        ("seeds", format!("{}, of them run twice and equal: {}", campaign.runs, equal(campaign))),
        ("clusters", clusters.join(", ")),
        ("virtual time", format!("{:.2} hours", campaign.totals.virtual_ms as f64 / 3_600_000.0)),
        (
            "decided",
            format!(
                "{} blocks, {} instances with duties",
                campaign.totals.heights, campaign.totals.instances
            ),
        ),
        ("events", campaign.totals.events.to_string()),
        ("messages", format!("{}, {} bytes", campaign.totals.messages, campaign.totals.bytes)),
        ("wall time", format!("{seconds:.1} s, {:.1} seeds/s", campaign.runs as f64 / seconds.max(0.001))),
        ("threads", jobs.to_string()),
    ];
    lines.map(|(name, text)| format!("{name:<13} {text}")).join("\n")
}

/// Seeds whose second run was the same.
fn equal(campaign: &Campaign) -> u64 {
    let violation = campaign.failure.as_ref().and_then(|report| report.violation.as_ref());
    let unlike = matches!(violation, Some(aequa_sim::Violation::Unrepeatable { .. }));
    campaign.repeated - u64::from(unlike)
}

/// Situations that a campaign never reached.
struct Missed {
    lines: Vec<String>,
    fails: bool,
}

fn missed(campaign: &Campaign, pins: &Pins) -> Missed {
    let missing = campaign.missing();
    let demanded = campaign.runs >= SEEDS_FOR_ALL_SITUATIONS && *pins == Pins::default();
    let mut lines: Vec<String> = missing.iter().map(|sight| format!("never reached: {sight}")).collect();
    if !missing.is_empty() && !demanded {
        lines.push(format!(
            "that is no failure: it takes {SEEDS_FOR_ALL_SITUATIONS} seeds with nothing pinned to reach everything"
        ));
    }
    Missed { fails: demanded && !missing.is_empty(), lines }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_sim::Totals;

    fn reaching(sights: &[&'static str], runs: u64) -> Campaign {
        let sights = sights.iter().map(|sight| (*sight, 1)).collect();
        Campaign { runs, totals: Totals { sights, ..Totals::default() }, ..Campaign::default() }
    }

    #[test]
    fn a_campaign_that_misses_a_situation_says_so_and_fails() {
        let (last, others) = SIGHTS.split_last().unwrap();
        let found = missed(&reaching(others, SEEDS_FOR_ALL_SITUATIONS), &Pins::default());
        assert_eq!(found.lines, [format!("never reached: {last}")]);
        assert!(found.fails);
        let found = missed(&reaching(SIGHTS, SEEDS_FOR_ALL_SITUATIONS), &Pins::default());
        assert!(found.lines.is_empty() && !found.fails);
    }

    #[test]
    fn a_short_or_pinned_campaign_only_tells_what_it_missed() {
        let pinned = Pins { nodes: Some(1), ..Pins::default() };
        for (runs, pins) in
            [(SEEDS_FOR_ALL_SITUATIONS - 1, Pins::default()), (SEEDS_FOR_ALL_SITUATIONS, pinned)]
        {
            let found = missed(&reaching(&[], runs), &pins);
            assert_eq!(found.lines.len(), SIGHTS.len() + 1);
            assert!(!found.fails);
        }
    }
}
