//! How heights and memory went, looked at in regular intervals.

use super::process::Memory;
use std::time::Duration;

/// Part of the samples at the beginning that is warm-up: caches and tables fill.
const WARM_UP: f64 = 0.2;
/// How much the mean memory of the last third may be above or below that of the first.
const FLAT_WITHIN: f64 = 0.10;
/// Memory is judged from this many samples on; fewer say nothing.
const JUDGED_FROM: usize = 12;

/// All nodes at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sample {
    pub at: Duration,
    /// Last decided height per node; none when it did not answer.
    pub heights: Vec<Option<u64>>,
    /// Memory per node.
    pub memory: Vec<Option<Memory>>,
}

impl Sample {
    /// As a line of text.
    pub fn line(&self) -> String {
        let height = |height: &Option<u64>| height.map_or("-".into(), |height| height.to_string());
        let mib = |kib: u64| kib as f64 / 1024.0;
        let memory = |memory: &Option<Memory>| {
            let text =
                |memory: Memory| format!("{:.0}({:.0})", mib(memory.resident_kib), mib(memory.anonymous_kib));
            memory.map_or("-".into(), text)
        };
        let join = |texts: Vec<String>| texts.join(" ");
        format!(
            "{:>5.0} s  heights {}  resident(anonymous) MiB {}",
            self.at.as_secs_f64(),
            join(self.heights.iter().map(height).collect()),
            join(self.memory.iter().map(memory).collect()),
        )
    }
}

/// Mean memory of one node in the first and the last third after warm-up, in KiB.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Growth {
    pub first: f64,
    pub last: f64,
}

impl Growth {
    /// Of node `place`; none when there are too few samples to judge.
    pub fn of(samples: &[Sample], place: usize) -> Option<Self> {
        if samples.len() < JUDGED_FROM {
            return None;
        }
        let warm = &samples[(samples.len() as f64 * WARM_UP) as usize..];
        let of_node = warm.iter().filter_map(|sample| *sample.memory.get(place)?);
        let known: Vec<f64> = of_node.map(|memory| memory.resident_kib as f64).collect();
        let third = known.len() / 3;
        let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len().max(1) as f64;
        (third > 0).then(|| Self { first: mean(&known[..third]), last: mean(&known[known.len() - third..]) })
    }

    pub fn change(self) -> f64 {
        self.last / self.first - 1.0
    }

    pub fn is_flat(self) -> bool {
        self.change().abs() <= FLAT_WITHIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn growth(memory: impl Fn(usize) -> u64, samples: usize) -> Option<Growth> {
        let samples: Vec<Sample> = (0..samples)
            .map(|i| Sample {
                at: Duration::from_secs(i as u64),
                heights: vec![Some(1)],
                memory: vec![Some(Memory { resident_kib: memory(i), anonymous_kib: memory(i) / 2 })],
            })
            .collect();
        Growth::of(&samples, 0)
    }

    #[test]
    fn what_fills_up_and_stays_is_flat_and_what_grows_is_not() {
        let fills = growth(|i| 1000 + 500 * (i as u64).min(6), 60).unwrap();
        assert!(fills.is_flat(), "{fills:?}");
        let leaks = growth(|i| 1000 + 20 * i as u64, 60).unwrap();
        assert!(!leaks.is_flat(), "{leaks:?}");
        assert!(!growth(|i| 5000 - 50 * i as u64, 60).unwrap().is_flat());
    }

    #[test]
    fn a_few_samples_are_not_judged() {
        assert_eq!(growth(|_| 1000, JUDGED_FROM - 1), None);
        assert_eq!(growth(|_| 1000, JUDGED_FROM).map(Growth::change), Some(0.0));
    }
}
