//! What a run and a campaign have to tell.

use crate::oracle::Violation;
use crate::plan::Options;
use crate::recording::Recording;
use crate::sights::{Counts, SIGHTS};
use crate::world::World;

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
    /// Events handled.
    pub events: u64,
    /// Virtual time passed, in milliseconds.
    pub virtual_ms: u64,
    /// Blocks decided.
    pub heights: u64,
    /// Instances decided, duties included.
    pub instances: u64,
    /// Consensus messages put on links.
    pub messages: u64,
    /// Their encoded size in bytes.
    pub bytes: u64,
    /// Situations reached, see [`SIGHTS`].
    pub sights: Counts,
    /// Faults injected, by kind.
    pub faults: Counts,
    /// Readable lines, when asked for.
    pub trace: Vec<String>,
    /// What every node recorded, when asked for.
    pub recordings: Vec<Recording>,
}

/// Runs one seed.
pub fn run(seed: u64, options: &Options) -> Report {
    World::new(seed, options.clone()).run()
}

/// The outcome of many runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Campaign {
    /// Runs finished.
    pub runs: u64,
    /// Virtual time passed in all of them, in milliseconds.
    pub virtual_ms: u64,
    /// Events handled.
    pub events: u64,
    /// Blocks decided.
    pub heights: u64,
    /// Instances decided, duties included.
    pub instances: u64,
    /// Situations reached, summed up.
    pub sights: Counts,
    /// Faults injected, summed up.
    pub faults: Counts,
    /// The first run that went wrong; the campaign ends with it.
    pub failure: Option<Report>,
}

impl Campaign {
    /// Situations no run has reached.
    pub fn missing(&self) -> Vec<&'static str> {
        SIGHTS
            .iter()
            .copied()
            .filter(|sight| self.sights.get(sight).is_none_or(|count| *count == 0))
            .collect()
    }

    fn add(&mut self, report: &Report) {
        self.runs += 1;
        self.virtual_ms += report.virtual_ms;
        self.events += report.events;
        self.heights += report.heights;
        self.instances += report.instances;
        add(&mut self.sights, &report.sights);
        add(&mut self.faults, &report.faults);
    }
}

/// Runs seeds one after the other until one goes wrong; `progress` is told after each.
pub fn campaign(
    seeds: impl IntoIterator<Item = u64>,
    options: &Options,
    mut progress: impl FnMut(&Campaign),
) -> Campaign {
    let mut campaign = Campaign::default();
    for seed in seeds {
        let report = run(seed, options);
        campaign.add(&report);
        if report.violation.is_some() {
            campaign.failure = Some(report);
            return campaign;
        }
        progress(&campaign);
    }
    campaign
}

fn add(into: &mut Counts, from: &Counts) {
    for (name, count) in from {
        *into.entry(name).or_default() += count;
    }
}
