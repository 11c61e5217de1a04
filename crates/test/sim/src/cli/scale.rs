//! What a height costs in clusters of growing size, when nothing fails.

use super::arguments::Pins;
use super::{failure, say};
use aequa_sim::{Report, run};
use aequa_types::Quorum;
use std::time::{Duration, Instant};

/// Operators of each run.
const NODES: [usize; 7] = [4, 7, 10, 16, 31, 61, 100];
/// Heights after the first ones, when nothing else is asked for.
const HEIGHTS: u64 = 10;
/// Virtual time before heights are demanded: the nodes start and meet.
const SAFETY_MS: u64 = 1000;
/// The seed of every run.
const SEED: u64 = 1;

/// Counts, and prints a table. Whether all runs held.
pub fn main(pins: &Pins) -> bool {
    say(format!(
        "{:>4}{:>5}{:>9}{:>15}{:>15}{:>14}{:>11}{:>11}",
        "n", "q", "heights", "messages/h", "bytes/h", "messages/h/n²", "bytes/h/n²", "wall time"
    ));
    let mut costs = Vec::new();
    for nodes in NODES {
        let pins = Pins {
            nodes: Some(nodes),
            safety_ms: pins.safety_ms.or(Some(SAFETY_MS)),
            heights: pins.heights.or(Some(HEIGHTS)),
            calm: true,
            ..Pins::default()
        };
        let start = Instant::now();
        let report = run(SEED, &pins.options());
        if let Some(violation) = &report.violation {
            failure::tell(&report, violation, &pins);
            return false;
        }
        let cost = Cost::of(&report);
        say(cost.line(start.elapsed()));
        costs.push(cost);
    }
    if let [first, .., last] = &costs[..] {
        say(growth(first, last));
    }
    true
}

/// What a decided height costs.
#[derive(Debug)]
struct Cost {
    nodes: usize,
    heights: u64,
    messages: f64,
    bytes: f64,
}

impl Cost {
    fn of(report: &Report) -> Self {
        let heights = report.totals.heights.max(1) as f64;
        Self {
            nodes: report.nodes,
            heights: report.totals.heights,
            messages: report.totals.messages as f64 / heights,
            bytes: report.totals.bytes as f64 / heights,
        }
    }

    fn square(&self) -> f64 {
        (self.nodes * self.nodes) as f64
    }

    fn line(&self, took: Duration) -> String {
        let quorum = Quorum::of(self.nodes).map_or(0, |quorum| quorum.quorum());
        format!(
            "{:>4}{quorum:>5}{:>9}{:>15.0}{:>15.0}{:>14.2}{:>11.0}{:>9.1} s",
            self.nodes,
            self.heights,
            self.messages,
            self.bytes,
            self.messages / self.square(),
            self.bytes / self.square(),
            took.as_secs_f64()
        )
    }
}

/// How the last cost relates to the first.
fn growth(first: &Cost, last: &Cost) -> String {
    format!(
        "from n = {} to {}: n² grows {:.0}-fold, messages per height {:.0}-fold, bytes per height {:.0}-fold",
        first.nodes,
        last.nodes,
        last.square() / first.square(),
        last.messages / first.messages,
        last.bytes / first.bytes
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_is_per_height_and_growth_is_a_ratio() {
        let cost = |nodes, messages, bytes| Cost { nodes, heights: 10, messages, bytes };
        let (first, last) = (cost(4, 32.0, 1600.0), cost(100, 20_000.0, 2e6));
        let line = last.line(Duration::from_secs(2));
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words, ["100", "67", "10", "20000", "2000000", "2.00", "200", "2.0", "s"]);
        assert_eq!(
            growth(&first, &last),
            "from n = 4 to 100: n² grows 625-fold, messages per height 625-fold, bytes per height 1250-fold"
        );
    }
}
