//! When transactions are due.

use std::time::{Duration, Instant};

/// What is late by more than this is lost, not saved up.
const LATE_MAX: Duration = Duration::from_secs(1);

/// The transactions of one lane, one after the other.
#[derive(Debug)]
pub(super) struct Pace {
    /// Between two of them; none = as fast as they are taken.
    interval: Option<Duration>,
    next: Instant,
}

impl Pace {
    /// A rate shared by so many lanes, whose transactions come in between each other.
    pub(super) fn shares(tps: Option<u32>, lanes: usize, now: Instant) -> Vec<Self> {
        let step = tps.map(|tps| Duration::from_secs(1) / tps.max(1));
        let count = u32::try_from(lanes).unwrap_or(u32::MAX);
        let share = |lane: u32| {
            let interval = step.map(|step| step * count);
            Self { interval, next: now + step.unwrap_or_default() * lane }
        };
        (0..count).map(share).collect()
    }

    /// Whether there is a rate to keep.
    pub(super) fn is_set(&self) -> bool {
        self.interval.is_some()
    }

    /// Takes the next transaction, when it is due by now: since when.
    pub(super) fn take(&mut self, now: Instant) -> Option<Instant> {
        let Some(interval) = self.interval else { return Some(now) };
        self.next = now.checked_sub(LATE_MAX).map_or(self.next, |earliest| self.next.max(earliest));
        let due = self.next;
        if due > now {
            return None;
        }
        self.next += interval;
        Some(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn due(paces: &mut [Pace], now: Instant) -> Vec<Instant> {
        let take = |pace: &mut Pace| std::iter::from_fn(|| pace.take(now)).collect::<Vec<_>>();
        paces.iter_mut().flat_map(take).collect()
    }

    #[test]
    fn lanes_share_a_rate_and_each_transaction_knows_when_it_was_due() {
        let start = Instant::now() + LATE_MAX;
        let mut paces = Pace::shares(Some(100), 4, start);
        let mut all = due(&mut paces, start + 99 * MS);
        all.sort_unstable();
        let expected: Vec<Instant> = (0..10).map(|n| start + n * 10 * MS).collect();
        assert_eq!(all, expected);
        assert!(due(&mut paces, start + 99 * MS).is_empty());
        assert_eq!(due(&mut paces, start + 100 * MS), [start + 100 * MS]);
    }

    #[test]
    fn what_is_late_by_more_than_a_second_is_lost() {
        let start = Instant::now() + LATE_MAX;
        let mut paces = Pace::shares(Some(100), 1, start);
        let late = due(&mut paces, start + 3600 * LATE_MAX);
        assert_eq!(late.len(), 101);
        assert_eq!(late[0], start + 3599 * LATE_MAX);
    }

    #[test]
    fn without_a_rate_there_is_always_one() {
        let now = Instant::now();
        let mut paces = Pace::shares(None, 2, now);
        assert!(paces.iter_mut().all(|pace| !pace.is_set() && pace.take(now) == Some(now)));
    }
}
