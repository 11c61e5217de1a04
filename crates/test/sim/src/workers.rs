//! A campaign on several threads: the only module that knows of threads, a run itself has one.
//!
//! Workers take seeds from a shared counter and build their worlds themselves. Their reports are added
//! in the order of seeds, whatever order they come in, and a campaign ends at a seed and never at a
//! moment. So the outcome depends neither on the number of workers nor on their speed, and every seed
//! below a failing one has been run.

use crate::campaign::Campaign;
use crate::plan::Options;
use crate::report::{Report, run, run_twice};
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver};

/// One in so many seeds of a campaign is run twice: often enough to notice chance from outside, and
/// hardly felt.
pub const REPEAT_EVERY: u64 = 64;

/// Which seeds a campaign runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The first seed.
    pub first: u64,
    /// So many seeds at least.
    pub seeds: u64,
    /// And then further ones until so many instances have been decided.
    pub instances: u64,
}

impl Extent {
    fn is_reached(&self, campaign: &Campaign) -> bool {
        campaign.runs >= self.seeds && campaign.totals.instances >= self.instances
    }

    /// The seed in this place of the campaign, if it may be needed.
    fn seed(&self, place: u64) -> Option<u64> {
        let needed = place < self.seeds || self.instances > 0;
        self.first.checked_add(place).filter(|_| needed)
    }
}

/// Runs the seeds of an extent on so many threads until one goes wrong; `progress` is told after each.
pub fn campaign_on(
    jobs: NonZeroUsize,
    extent: Extent,
    options: &Options,
    progress: impl FnMut(&Campaign),
) -> Campaign {
    let next = AtomicU64::new(0);
    let over = AtomicBool::new(false);
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..jobs.get() {
            let sender = sender.clone();
            scope.spawn(|| {
                let sender = sender;
                while !over.load(Ordering::Relaxed) {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some(seed) = extent.seed(place) else { break };
                    let run = if is_repeated(place) { run_twice } else { run };
                    if sender.send((place, run(seed, options))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let campaign = collect(receiver, extent, progress);
        over.store(true, Ordering::Relaxed);
        campaign
    })
}

/// Adds reports up in the order of their places.
///
/// Those that come early wait. They are few: a run is bounded, and the others get no further meanwhile
/// than their threads do.
fn collect(
    reports: Receiver<(u64, Report)>,
    extent: Extent,
    mut progress: impl FnMut(&Campaign),
) -> Campaign {
    let mut campaign = Campaign::default();
    let mut early = BTreeMap::new();
    while campaign.failure.is_none() && !extent.is_reached(&campaign) {
        let place = campaign.runs;
        let Some(report) = early.remove(&place) else {
            let Ok((place, report)) = reports.recv() else { break };
            early.insert(place, report);
            continue;
        };
        campaign.add(report);
        campaign.repeated += u64::from(is_repeated(place));
        progress(&campaign);
    }
    campaign
}

fn is_repeated(place: u64) -> bool {
    place.is_multiple_of(REPEAT_EVERY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::Violation;

    const ENDLESS: Option<Violation> = Some(Violation::Endless { events: 1 });

    fn report(seed: u64, violation: Option<Violation>) -> Report {
        let options = Options { nodes: Some(1), safety_ms: 100, liveness_heights: 0, ..Options::default() };
        let mut report = run(seed, &options);
        report.totals.instances = 10;
        Report { violation, ..report }
    }

    fn collected(extent: Extent, places: &[(u64, Option<Violation>)]) -> Campaign {
        let (sender, receiver) = mpsc::channel();
        for (place, violation) in places {
            sender.send((*place, report(*place, violation.clone()))).unwrap();
        }
        drop(sender);
        collect(receiver, extent, |_| {})
    }

    #[test]
    fn the_lowest_failing_seed_is_the_failure_and_nothing_after_it_counts() {
        let extent = Extent { first: 0, seeds: 5, instances: 0 };
        let campaign = collected(extent, &[(3, ENDLESS), (1, None), (4, None), (2, ENDLESS), (0, None)]);
        assert_eq!(campaign.failure.unwrap().seed, 2);
        assert_eq!(campaign.runs, 3);
    }

    #[test]
    fn a_campaign_for_instances_goes_on_beyond_its_seeds_and_ends_at_a_seed() {
        let places: Vec<_> = (0..9).rev().map(|place| (place, None)).collect();
        let more = collected(Extent { first: 0, seeds: 2, instances: 41 }, &places);
        assert_eq!((more.runs, more.totals.instances), (5, 50));
        let enough = collected(Extent { first: 0, seeds: 6, instances: 41 }, &places);
        assert_eq!(enough.runs, 6);
    }

    #[test]
    fn seeds_end_where_numbers_do() {
        let extent = Extent { first: u64::MAX, seeds: 2, instances: 0 };
        assert_eq!((extent.seed(0), extent.seed(1), extent.seed(2)), (Some(u64::MAX), None, None));
        assert_eq!(Extent { first: 7, seeds: 1, instances: 1 }.seed(9), Some(16));
    }
}
