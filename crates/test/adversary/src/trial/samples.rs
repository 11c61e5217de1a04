//! How heights and memory went, looked at in regular intervals.

use super::report::Check;
use aequa_node::process::Memory;
use std::time::Duration;

/// Part of the samples at the beginning that is warm-up: caches and tables fill.
const WARM_UP: f64 = 0.2;
/// How much the mean memory of the last third may be above or below that of the first.
const FLAT_WITHIN: f64 = 0.10;
/// The same in trials shorter than [`SHORT_TRIAL`]: what a flood of frames at the limit takes is given back over
/// half a minute, and they end in the middle of that. What is never given back exceeds it all the same, because
/// every attack comes back several times.
const FLAT_WITHIN_SHORT: f64 = 0.30;
const SHORT_TRIAL: Duration = Duration::from_secs(180);
/// Memory is judged from this many samples on; fewer say nothing.
const JUDGED_FROM: usize = 12;
/// Trials of this length and more are long enough to judge memory, and must give enough samples.
const JUDGED_TRIAL: Duration = Duration::from_secs(60);
/// Most bytes of log per second: fifty blocks per second and some warnings about the one traitor.
const LOG_BYTES_PER_SECOND_MAX: f64 = 32.0 * 1024.0;
/// Most memory a node may ever hold.
const PEAK_KIB_MAX: u64 = 256 * 1024;
/// Samples a trial gives, and longest time between two of them.
const SAMPLES: u32 = 20;
const SAMPLE_EVERY_MAX: Duration = Duration::from_secs(10);

/// Time between two samples of a trial of this length.
pub(super) fn sample_every(trial: Duration) -> Duration {
    SAMPLE_EVERY_MAX.min(trial / SAMPLES)
}

/// All nodes at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sample {
    pub at: Duration,
    /// Last decided height per node; none when it did not answer.
    pub heights: Vec<Option<u64>>,
    /// Memory per node.
    pub memory: Vec<Option<Memory>>,
    /// What of it is in the block store's cache and buffers: bounded, and full after longer than a trial.
    pub store_kib: Vec<u64>,
    /// Bytes of log per node.
    pub log_bytes: Vec<u64>,
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
            "{:>5.0} s  heights {}  resident(anonymous) MiB {}  of it the store's {}",
            self.at.as_secs_f64(),
            join(self.heights.iter().map(height).collect()),
            join(self.memory.iter().map(memory).collect()),
            join(self.store_kib.iter().map(|kib| format!("{:.1}", mib(*kib))).collect()),
        )
    }
}

/// Mean memory of one node in the first and the last third after warm-up, without its block store's, in KiB.
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
        let of_node = warm.iter().filter_map(|sample| {
            let store_kib = sample.store_kib.get(place).copied().unwrap_or_default();
            Some((*sample.memory.get(place)?)?.resident_kib.saturating_sub(store_kib) as f64)
        });
        let known: Vec<f64> = of_node.collect();
        let third = known.len() / 3;
        let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len().max(1) as f64;
        (third > 0).then(|| Self { first: mean(&known[..third]), last: mean(&known[known.len() - third..]) })
    }

    pub fn change(self) -> f64 {
        self.last / self.first - 1.0
    }

    pub fn is_flat(self, within: f64) -> bool {
        self.change().abs() <= within
    }
}

/// Whether memory is flat at each of `nodes`; none when the trial is too short to say so. Too few samples of a
/// longer one are no proof of anything.
pub(super) fn judge_memory(trial: Duration, nodes: usize, samples: &[Sample]) -> Option<Check> {
    let growth: Vec<Option<Growth>> = (0..nodes).map(|place| Growth::of(samples, place)).collect();
    let text = |growth: &Option<Growth>| {
        let mib = |kib: f64| kib / 1024.0;
        growth.map_or("too few samples".into(), |growth| {
            let (first, last) = (mib(growth.first), mib(growth.last));
            format!("{first:.1} to {last:.1} MiB ({:+.1} %)", 100.0 * growth.change())
        })
    };
    let (what, within) = match trial < SHORT_TRIAL {
        true => (
            "memory beside the store's is flat within 30 % after warm-up, which is all a short trial can say",
            FLAT_WITHIN_SHORT,
        ),
        false => ("memory beside the store's is flat within 10 % after warm-up", FLAT_WITHIN),
    };
    (trial >= JUDGED_TRIAL).then(|| Check {
        what,
        holds: growth.iter().all(|growth| growth.is_some_and(|growth| growth.is_flat(within))),
        found: growth.iter().map(text).collect::<Vec<_>>().join(", "),
    })
}

/// Whether no node wrote more than a node that is well has to say, however much there is to refuse.
pub(super) fn judge_logs(samples: &[Sample]) -> Check {
    let (first, last) = (samples.first(), samples.last());
    let seconds = last.zip(first).map_or(0.0, |(last, first)| (last.at - first.at).as_secs_f64()).max(1.0);
    let written = |place: usize| {
        let at = |sample: Option<&Sample>| sample.and_then(|sample| sample.log_bytes.get(place).copied());
        at(last).unwrap_or_default().saturating_sub(at(first).unwrap_or_default()) as f64 / seconds
    };
    let nodes = first.map_or(0, |sample| sample.log_bytes.len());
    let rates: Vec<f64> = (0..nodes).map(written).collect();
    Check {
        what: "no log grows faster than a healthy one by much",
        holds: rates.iter().all(|rate| *rate <= LOG_BYTES_PER_SECOND_MAX),
        found: rates.iter().map(|rate| format!("{rate:.0} B/s")).collect::<Vec<_>>().join(", "),
    }
}

/// Whether no node ever held more than a small machine has to spare.
pub(super) fn judge_peak(samples: &[Sample]) -> Check {
    let nodes = samples.last().map_or(0, |sample| sample.memory.len());
    let peak = |place: usize| {
        samples.iter().filter_map(|sample| Some(sample.memory.get(place)?.as_ref()?.peak_kib)).max()
    };
    let peaks: Vec<Option<u64>> = (0..nodes).map(peak).collect();
    let mib = |peak: &Option<u64>| peak.map_or("unknown".into(), |kib| format!("{} MiB", kib / 1024));
    Check {
        what: "no node ever holds more than 256 MiB of memory",
        holds: peaks.iter().all(|peak| peak.is_some_and(|kib| kib <= PEAK_KIB_MAX)),
        found: peaks.iter().map(mib).collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn growth(memory: impl Fn(usize) -> u64, samples: usize) -> Option<Growth> {
        Growth::of(&flat_or_not(memory, samples), 0)
    }

    fn flat_or_not(memory: impl Fn(usize) -> u64, samples: usize) -> Vec<Sample> {
        let sample = |i: usize| Sample {
            at: Duration::from_secs(i as u64),
            heights: vec![Some(1)],
            memory: vec![Some(Memory {
                resident_kib: memory(i),
                anonymous_kib: memory(i) / 2,
                peak_kib: memory(i),
            })],
            store_kib: vec![0],
            log_bytes: vec![i as u64 * 1000],
        };
        (0..samples).map(sample).collect()
    }

    #[test]
    fn what_fills_up_and_stays_is_flat_and_what_grows_is_not() {
        let fills = growth(|i| 1000 + 500 * (i as u64).min(6), 60).unwrap();
        assert!(fills.is_flat(FLAT_WITHIN), "{fills:?}");
        let leaks = growth(|i| 1000 + 20 * i as u64, 60).unwrap();
        assert!(!leaks.is_flat(FLAT_WITHIN_SHORT), "{leaks:?}");
        assert!(!growth(|i| 5000 - 50 * i as u64, 60).unwrap().is_flat(FLAT_WITHIN_SHORT));
    }

    #[test]
    fn what_the_block_store_keeps_is_not_growth_and_everything_else_is() {
        let mut samples = flat_or_not(|i| 1000 + 20 * i as u64, 60);
        for (i, sample) in samples.iter_mut().enumerate() {
            sample.store_kib = vec![20 * i as u64];
        }
        assert_eq!(Growth::of(&samples, 0).unwrap().change(), 0.0);
    }

    #[test]
    fn a_trial_of_a_minute_is_judged_and_its_samples_are_enough() {
        let holds = |trial: Duration, samples: usize| {
            judge_memory(trial, 1, &flat_or_not(|_| 1000, samples)).map(|check| check.holds)
        };
        let minute = Duration::from_secs(60);
        assert_eq!(sample_every(minute), Duration::from_secs(3));
        assert_eq!(sample_every(10 * minute), SAMPLE_EVERY_MAX);
        assert_eq!(holds(minute, SAMPLES as usize), Some(true));
        assert_eq!(holds(minute, JUDGED_FROM - 1), Some(false), "nobody knows");
        assert_eq!(holds(minute - Duration::from_secs(1), SAMPLES as usize), None);
    }

    #[test]
    fn a_short_trial_may_end_after_a_flood_and_a_long_one_may_not_stay_there() {
        let flooded = |i: usize| 1000 + 200 * u64::from(i >= 14);
        let holds = |trial| judge_memory(trial, 1, &flat_or_not(flooded, SAMPLES as usize)).unwrap().holds;
        assert!(holds(JUDGED_TRIAL));
        assert!(!holds(SHORT_TRIAL));
    }

    #[test]
    fn a_log_that_is_flooded_and_memory_that_jumps_once_fail_the_trial() {
        let calm = flat_or_not(|_| 1000, 10);
        assert!(judge_logs(&calm).holds && judge_peak(&calm).holds);
        let mut flooded = calm.clone();
        flooded[9].log_bytes[0] = 9 * 40_000;
        assert!(!judge_logs(&flooded).holds);
        assert!(!judge_peak(&flat_or_not(|i| if i == 5 { 600 << 10 } else { 1000 }, 10)).holds);
    }

    #[test]
    fn a_few_samples_are_not_judged() {
        assert_eq!(growth(|_| 1000, JUDGED_FROM - 1), None);
        assert_eq!(growth(|_| 1000, JUDGED_FROM).map(Growth::change), Some(0.0));
    }
}
