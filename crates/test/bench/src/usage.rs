//! What processes use: processor time and memory.

use crate::figures::Figures;
use aequa_node::process::Process;
use std::time::{Duration, Instant};

/// A look at several processes.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    at: Instant,
    processor: Duration,
    peak_kib: u64,
    processes: u32,
}

impl Look {
    /// Looks; none when one of them has ended.
    pub fn at(processes: &[Process]) -> Option<Self> {
        let times = processes.iter().map(Process::processor_time).collect::<Option<Vec<_>>>()?;
        let peaks = processes.iter().map(|process| process.memory().map(|memory| memory.peak_kib));
        Some(Self {
            at: Instant::now(),
            processor: times.iter().sum(),
            peak_kib: peaks.collect::<Option<Vec<_>>>()?.into_iter().max()?,
            processes: u32::try_from(processes.len()).ok()?,
        })
    }

    /// Adds what was used since `before`, at the pace the figures tell.
    pub fn charge(&self, before: &Self, figures: &mut Figures) {
        let seconds = self.at.saturating_duration_since(before.at).as_secs_f64();
        let used = self.processor.saturating_sub(before.processor).as_secs_f64() * 1e3;
        let per_block = used / f64::from(self.processes) / seconds / figures.blocks_per_s;
        figures.cpu_ms = per_block.is_finite().then_some(per_block);
        figures.resident_mib = Some(self.peak_kib as f64 / 1024.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_shared_out_over_blocks_and_nodes() {
        let before = Look { at: Instant::now(), processor: Duration::ZERO, peak_kib: 0, processes: 4 };
        let after = Look {
            at: before.at + Duration::from_secs(10),
            processor: Duration::from_secs(16),
            peak_kib: 2048,
            processes: 4,
        };
        let mut figures = Figures { blocks_per_s: 100.0, ..Figures::default() };
        after.charge(&before, &mut figures);
        assert_eq!((figures.cpu_ms, figures.resident_mib), (Some(4.0), Some(2.0)));
        let mut idle = Figures::default();
        after.charge(&before, &mut idle);
        assert_eq!(idle.cpu_ms, None, "nothing was decided");
    }
}
