//! The timers a replica asked for. At most one per slot runs.

use aequa_replica::{Timer, TimerChange};
use aequa_types::InstanceId;
use std::collections::{BTreeMap, BTreeSet};

type Slot = (Option<InstanceId>, u8);

/// Running timers by slot and by time.
#[derive(Debug, Default)]
pub struct Timers {
    by_slot: BTreeMap<Slot, (u64, Timer)>,
    by_time: BTreeSet<(u64, Slot)>,
}

impl Timers {
    /// Carries out what a replica asked for, in order.
    pub fn change(&mut self, changes: impl IntoIterator<Item = TimerChange>) {
        for change in changes {
            match change {
                TimerChange::Set { timer, at_ms } => self.set(timer, at_ms),
                TimerChange::Cancel(instance) => self.cancel(instance),
            }
        }
    }

    /// When the next timer fires.
    pub fn next_due_ms(&self) -> Option<u64> {
        self.by_time.first().map(|(at_ms, _)| *at_ms)
    }

    /// Removes and returns the timers due at `now_ms`, earliest first.
    pub fn take_due(&mut self, now_ms: u64) -> Vec<Timer> {
        let mut due = Vec::new();
        while let Some((at_ms, slot)) = self.by_time.first().copied() {
            if at_ms > now_ms {
                break;
            }
            self.by_time.pop_first();
            due.extend(self.by_slot.remove(&slot).map(|(_, timer)| timer));
        }
        due
    }

    fn set(&mut self, timer: Timer, at_ms: u64) {
        let slot = timer.slot();
        if let Some((before_ms, _)) = self.by_slot.insert(slot, (at_ms, timer)) {
            self.by_time.remove(&(before_ms, slot));
        }
        self.by_time.insert((at_ms, slot));
    }

    fn cancel(&mut self, instance: InstanceId) {
        let of_instance = (Some(instance), 0)..=(Some(instance), u8::MAX);
        let slots: Vec<Slot> = self.by_slot.range(of_instance).map(|(slot, _)| *slot).collect();
        for slot in slots {
            if let Some((at_ms, _)) = self.by_slot.remove(&slot) {
                self.by_time.remove(&(at_ms, slot));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_types::{Height, Round};

    fn round(height: u64, round: u64) -> Timer {
        Timer::Round { instance: InstanceId::Block(Height(height)), round: Round(round) }
    }

    fn set(timers: &mut Timers, timer: Timer, at_ms: u64) {
        timers.change([TimerChange::Set { timer, at_ms }]);
    }

    #[test]
    fn a_new_timer_replaces_the_one_in_its_slot() {
        let mut timers = Timers::default();
        set(&mut timers, round(1, 0), 10);
        set(&mut timers, round(1, 1), 20);
        assert_eq!(timers.take_due(15), []);
        assert_eq!(timers.take_due(20), [round(1, 1)]);
        assert_eq!(timers.next_due_ms(), None);
    }

    #[test]
    fn cancelling_an_instance_leaves_the_others() {
        let mut timers = Timers::default();
        set(&mut timers, round(1, 0), 10);
        set(&mut timers, Timer::Resend(InstanceId::Block(Height(1))), 5);
        set(&mut timers, round(2, 0), 10);
        set(&mut timers, Timer::CatchUp, 10);
        timers.change([TimerChange::Cancel(InstanceId::Block(Height(1)))]);
        assert_eq!(timers.take_due(10), [Timer::CatchUp, round(2, 0)]);
    }
}
