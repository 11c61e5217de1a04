//! Latencies in constant memory.

use std::time::Duration;

/// Buckets per doubling: values are off by less than 1/32.
const STEPS: u32 = 32;
/// Enough doublings of a microsecond for an hour.
const BUCKETS: usize = (STEPS * 32) as usize;

/// Counts of durations in logarithmic buckets.
#[derive(Debug, Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0 }
    }
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&mut self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).max(1);
        self.counts[bucket(micros)] += 1;
        self.total += 1;
    }

    /// The duration below which `percent` of all lie; none when there are none.
    pub fn percentile(&self, percent: u64) -> Option<Duration> {
        let rank = (self.total * percent).div_ceil(100).max(1);
        let mut seen = 0;
        let found = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        Some(Duration::from_micros(upper_bound(found)))
    }
}

fn bucket(micros: u64) -> usize {
    let doubling = micros.ilog2();
    let step = ((micros - (1 << doubling)) * u64::from(STEPS)) >> doubling;
    usize::try_from(u64::from(doubling * STEPS) + step).unwrap_or(usize::MAX).min(BUCKETS - 1)
}

fn upper_bound(bucket: usize) -> u64 {
    let (doubling, step) = (bucket as u64 / u64::from(STEPS), bucket as u64 % u64::from(STEPS));
    (1 << doubling) + (((step + 1) << doubling) / u64::from(STEPS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_empty_histogram_has_no_percentiles() {
        assert_eq!(Histogram::default().percentile(50), None);
    }

    #[test]
    fn percentiles_split_the_values() {
        let mut histogram = Histogram::default();
        (1..=100).for_each(|ms| histogram.record(Duration::from_millis(ms)));
        for (percent, ms) in [(1, 1.0), (50, 50.0), (99, 99.0), (100, 100.0)] {
            let found = histogram.percentile(percent).unwrap().as_secs_f64() * 1000.0;
            assert!((found / ms - 1.0).abs() < 0.04, "p{percent} = {found}");
        }
    }

    proptest! {
        #[test]
        fn a_value_lies_in_its_bucket(micros in 1u64..1 << 31) {
            let bound = upper_bound(bucket(micros));
            prop_assert!(bound >= micros && bound - micros <= micros / 16 + 2);
        }
    }
}
