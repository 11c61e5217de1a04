//! What a host owes the timers of its replica, kept beside it and apart from its own.
//!
//! A timer fires once for every time it was set, not before its time, and not after the turn in which it was replaced
//! or cancelled. (In that turn it may have been due already.)

use aequa_replica::{Timer, TimerChange};

#[derive(Debug)]
struct Alarm {
    timer: Timer,
    at_ms: u64,
    /// It was replaced or cancelled in this turn.
    over: bool,
}

/// The timers of one life of a node.
#[derive(Debug, Default)]
pub(crate) struct Alarms(Vec<Alarm>);

impl Alarms {
    /// The replica asked for this.
    pub(crate) fn change(&mut self, change: &TimerChange) {
        let ends = |alarm: &Alarm| match change {
            TimerChange::Set { timer, .. } => alarm.timer.slot() == timer.slot(),
            TimerChange::Cancel(instance) => alarm.timer.slot().0 == Some(*instance),
        };
        self.0.iter_mut().filter(|alarm| ends(alarm)).for_each(|alarm| alarm.over = true);
        if let TimerChange::Set { timer, at_ms } = change {
            self.0.push(Alarm { timer: *timer, at_ms: *at_ms, over: false });
        }
    }

    /// A timer has fired; false when it may not.
    pub(crate) fn fires(&mut self, timer: Timer, now_ms: u64) -> bool {
        let is_due = |alarm: &Alarm| alarm.timer == timer && alarm.at_ms <= now_ms;
        let live = self.0.iter().position(|alarm| is_due(alarm) && !alarm.over);
        let due = live.or_else(|| self.0.iter().position(is_due));
        due.map(|due| self.0.swap_remove(due)).is_some()
    }

    /// What was replaced or cancelled can fire no more. Gives when the next timer is due.
    pub(crate) fn turn_ended(&mut self) -> Option<u64> {
        self.0.retain(|alarm| !alarm.over);
        self.0.iter().map(|alarm| alarm.at_ms).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_types::{Height, InstanceId};

    fn set(alarms: &mut Alarms, timer: Timer, at_ms: u64) {
        alarms.change(&TimerChange::Set { timer, at_ms });
    }

    #[test]
    fn a_timer_fires_once_for_each_time_it_was_set_and_not_early() {
        let mut alarms = Alarms::default();
        set(&mut alarms, Timer::CatchUp, 500);
        assert!(!alarms.fires(Timer::CatchUp, 499));
        assert!(alarms.fires(Timer::CatchUp, 500));
        assert!(!alarms.fires(Timer::CatchUp, 500));
    }

    #[test]
    fn what_was_replaced_or_cancelled_fires_in_the_same_turn_at_the_latest() {
        let instance = InstanceId::Block(Height(1));
        for change in
            [TimerChange::Cancel(instance), TimerChange::Set { timer: Timer::Resend(instance), at_ms: 900 }]
        {
            let due = || {
                let mut alarms = Alarms::default();
                set(&mut alarms, Timer::Resend(instance), 100);
                alarms.change(&change);
                alarms
            };
            assert!(due().fires(Timer::Resend(instance), 100));
            let mut later = due();
            assert_ne!(later.turn_ended(), Some(100));
            assert!(!later.fires(Timer::Resend(instance), 100));
        }
    }
}
