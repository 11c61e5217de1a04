//! What one run of a row gave, medians of several, and ratios.

use std::time::Duration;

/// Time before anything is counted: connections, caches and the first blocks are over by then.
pub const WARM_UP: Duration = Duration::from_secs(2);

/// What one run gave. What could not be measured is not there.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Figures {
    /// Blocks decided per second.
    pub blocks_per_s: f64,
    /// Mean bytes of a block's content; none where blocks are empty.
    pub block_bytes: Option<f64>,
    /// Transactions in blocks per second.
    pub transactions_per_s: Option<f64>,
    /// Median of a decision in milliseconds.
    pub p50_ms: Option<f64>,
    /// 99th percentile of the same.
    pub p99_ms: Option<f64>,
    /// Mean of the same.
    pub mean_ms: Option<f64>,
    /// Processor milliseconds per block and node.
    pub cpu_ms: Option<f64>,
    /// Resident memory of the largest node in MiB.
    pub resident_mib: Option<f64>,
    /// Bytes sent per block and node.
    pub sent_bytes: Option<f64>,
}

impl Figures {
    /// Megabytes of content per second.
    pub fn megabytes_per_s(&self) -> Option<f64> {
        self.block_bytes.map(|bytes| bytes * self.blocks_per_s / 1e6)
    }

    /// Each figure's median over the runs that have it; none without a run.
    pub fn median(runs: &[Self]) -> Option<Self> {
        let of = |figure: fn(&Self) -> Option<f64>| {
            quantile_of(&mut runs.iter().filter_map(figure).collect::<Vec<_>>(), 0.5)
        };
        Some(Self {
            blocks_per_s: of(|run| Some(run.blocks_per_s))?,
            block_bytes: of(|run| run.block_bytes),
            transactions_per_s: of(|run| run.transactions_per_s),
            p50_ms: of(|run| run.p50_ms),
            p99_ms: of(|run| run.p99_ms),
            mean_ms: of(|run| run.mean_ms),
            cpu_ms: of(|run| run.cpu_ms),
            resident_mib: of(|run| run.resident_mib),
            sent_bytes: of(|run| run.sent_bytes),
        })
    }

    /// How much of `other`'s pace this is: of content where both carry some, else of blocks.
    pub fn ratio_to(&self, other: &Self) -> Option<f64> {
        let pace = match (self.megabytes_per_s(), other.megabytes_per_s()) {
            (Some(own), Some(other)) => own / other,
            _ => self.blocks_per_s / other.blocks_per_s,
        };
        pace.is_finite().then_some(pace)
    }
}

/// The value below which this part of the samples lies; none of none.
pub fn quantile_of(samples: &mut [f64], part: f64) -> Option<f64> {
    samples.sort_by(f64::total_cmp);
    let last = samples.len().checked_sub(1)?;
    let at = (last as f64 * part).round() as usize;
    samples.get(at).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples() {
        assert_eq!(quantile_of(&mut [], 0.5), None);
        assert_eq!(quantile_of(&mut [3.0, 1.0, 2.0], 0.5), Some(2.0));
        let mut hundred: Vec<f64> = (0..=100).map(f64::from).collect();
        assert_eq!(quantile_of(&mut hundred, 0.99), Some(99.0));
    }

    #[test]
    fn the_median_of_runs_is_taken_figure_by_figure() {
        let run = |blocks_per_s, p50_ms| Figures { blocks_per_s, p50_ms, ..Figures::default() };
        let median = Figures::median(&[run(10.0, Some(3.0)), run(30.0, None), run(20.0, Some(1.0))]).unwrap();
        assert_eq!(median.blocks_per_s, 20.0);
        assert_eq!(median.p50_ms, Some(3.0), "the upper one of two");
        assert_eq!(median.cpu_ms, None);
        assert_eq!(Figures::median(&[]), None);
    }

    #[test]
    fn content_is_compared_with_content_and_blocks_with_blocks() {
        let of = |blocks_per_s, block_bytes| Figures { blocks_per_s, block_bytes, ..Figures::default() };
        assert_eq!(of(50.0, None).ratio_to(&of(200.0, None)), Some(0.25));
        assert_eq!(of(50.0, Some(500.0)).ratio_to(&of(100.0, Some(1000.0))), Some(0.25));
        assert_eq!(of(50.0, None).ratio_to(&of(100.0, Some(1000.0))), Some(0.5));
        assert_eq!(of(50.0, None).ratio_to(&of(0.0, None)), None);
    }
}
