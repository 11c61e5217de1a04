//! Many runs, added up.

use crate::plan::Options;
use crate::report::{Report, run};
use crate::sights::SIGHTS;
use crate::totals::Totals;
use std::collections::BTreeMap;

/// The outcome of many runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Campaign {
    /// Runs finished.
    pub runs: u64,
    /// Those among them that were run twice and compared.
    pub repeated: u64,
    /// Runs by number of operators.
    pub clusters: BTreeMap<usize, u64>,
    /// What happened in all of them.
    pub totals: Totals,
    /// The first run that went wrong; the campaign ends with it.
    pub failure: Option<Report>,
}

impl Campaign {
    /// Situations no run has reached.
    pub fn missing(&self) -> Vec<&'static str> {
        SIGHTS
            .iter()
            .copied()
            .filter(|sight| self.totals.sights.get(sight).is_none_or(|count| *count == 0))
            .collect()
    }

    /// Adds a run; one that went wrong becomes the failure.
    pub(crate) fn add(&mut self, report: Report) {
        self.runs += 1;
        *self.clusters.entry(report.nodes).or_default() += 1;
        self.totals.add(&report.totals);
        if report.violation.is_some() {
            self.failure.get_or_insert(report);
        }
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
        campaign.add(run(seed, options));
        if campaign.failure.is_some() {
            break;
        }
        progress(&campaign);
    }
    campaign
}
