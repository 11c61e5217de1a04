//! Latencies in constant memory.

use hdrhistogram::Histogram;
use std::time::Duration;

/// Latencies above count as this one.
const LONGEST: Duration = Duration::from_secs(3600);
/// Digits that are kept: values are off by less than a hundredth.
const DIGITS: u8 = 2;

/// Counts of durations in microseconds.
#[derive(Debug, Clone)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        // Refused are more than five digits and bounds that are too close.
        Self(Histogram::new_with_max(micros(LONGEST), DIGITS).expect("constants it takes"))
    }
}

impl Latencies {
    /// Counts one duration.
    pub fn record(&mut self, duration: Duration) {
        self.0.saturating_record(micros(duration));
    }

    /// The duration below which `percent` of all lie; none when there are none.
    pub fn percentile(&self, percent: f64) -> Option<Duration> {
        (!self.0.is_empty()).then(|| Duration::from_micros(self.0.value_at_percentile(percent)))
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_histogram_has_no_percentiles() {
        assert_eq!(Latencies::default().percentile(50.0), None);
    }

    #[test]
    fn percentiles_split_the_values() {
        let mut latencies = Latencies::default();
        (1..=100).for_each(|ms| latencies.record(Duration::from_millis(ms)));
        for (percent, ms) in [(1.0, 1.0), (50.0, 50.0), (99.0, 99.0), (100.0, 100.0)] {
            let found = latencies.percentile(percent).unwrap().as_secs_f64() * 1000.0;
            assert!((found / ms - 1.0).abs() < 0.04, "p{percent} = {found}");
        }
    }
}
