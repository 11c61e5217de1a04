//! Where the cluster is with the duties of a kind, and so which slots a client may open.
//!
//! The **progress** of a kind is the slot of the duty decided last, in this life or an earlier one. A decision
//! needs q operators, so no client and no member moves it alone. Slots are those of one clock: a kind of which
//! nothing was decided has the progress of the one that was decided last. Around it a client may open
//!
//! * every slot that is **near**, at most [`DUTY_SLOTS_NEAR`] away: one duty each, and nothing posted elsewhere takes
//!   their place;
//! * a few **far** ones ([`DUTIES_FAR_MAX`] of a kind at a time), for jumps and for the beginning: as long as
//!   nothing was decided, every slot is far. Those that f+1 members speak of are not counted;
//! * none above [`DUTY_SLOTS_AHEAD`], while the progress is not older than a duty may live.
//!
//! What lies at or below the **settled** slot is over: the progress has been above it for
//! [`SETTLED_AFTER_MS`]. A mistaken slot far ahead settles nothing, for the progress comes back.

use aequa_types::{DutyId, DutyKind, Slot};
use std::collections::{BTreeMap, VecDeque};

/// An undecided duty is given up after this long: an hour is past any use of it.
pub(super) const DUTY_LIFETIME_MS: u64 = 3_600_000;
/// Slots on each side of the progress that may always be opened: two epochs of Ethereum, the furthest ahead
/// that its duties are known.
pub const DUTY_SLOTS_NEAR: u64 = 64;
/// Duties of a kind that may be open further away than that.
pub const DUTIES_FAR_MAX: usize = 32;
/// How far above the progress a duty may begin at all: nine days of Ethereum slots.
pub const DUTY_SLOTS_AHEAD: u64 = 65_536;
/// How long the progress must have been past a slot before the slot is forgotten: late posts are told of its
/// decision until then.
const SETTLED_AFTER_MS: u64 = 600_000;
/// The grain in which the progress of the past is kept.
const SPAN_MS: u64 = 60_000;

/// The decisions of one span of time.
#[derive(Debug)]
struct Span {
    number: u64,
    lowest: Slot,
    last: Slot,
}

/// One kind.
#[derive(Debug)]
struct Progress {
    at_ms: u64,
    /// Oldest first; of those before the settling time only the last is needed.
    spans: VecDeque<Span>,
}

impl Progress {
    fn last(&self) -> Option<Slot> {
        self.spans.back().map(|span| span.last)
    }
}

/// Where the duties of all kinds are.
#[derive(Debug, Default)]
pub(super) struct DutyWindow(BTreeMap<DutyKind, Progress>);

impl DutyWindow {
    /// A duty was decided.
    pub(super) fn decided(&mut self, id: DutyId, now_ms: u64) {
        let slot = id.slot;
        let empty = || Progress { at_ms: now_ms, spans: VecDeque::new() };
        let progress = self.0.entry(id.kind).or_insert_with(empty);
        progress.at_ms = now_ms;
        let number = now_ms / SPAN_MS;
        match progress.spans.back_mut().filter(|span| span.number == number) {
            Some(span) => (span.lowest, span.last) = (span.lowest.min(slot), slot),
            None => progress.spans.push_back(Span { number, lowest: slot, last: slot }),
        }
        let settling = settling_span(now_ms);
        while progress.spans.get(1).is_some_and(|second| Some(second.number) <= settling) {
            progress.spans.pop_front();
        }
    }

    /// The slot decided last.
    pub(super) fn progress(&self, kind: DutyKind) -> Option<Slot> {
        self.0.get(&kind)?.last()
    }

    pub(super) fn is_near(&self, id: DutyId) -> bool {
        let slot = self.clock(id.kind).and_then(Progress::last);
        slot.is_some_and(|slot| slot.0.abs_diff(id.slot.0) <= DUTY_SLOTS_NEAR)
    }

    /// Whether the progress of its kind is far above this duty.
    pub(super) fn is_behind(&self, id: DutyId) -> bool {
        let slot = self.progress(id.kind);
        slot.is_some_and(|slot| slot.0.saturating_sub(DUTY_SLOTS_NEAR) > id.slot.0)
    }

    /// The highest slot that may begin; none as long as nothing says where the cluster is.
    pub(super) fn highest(&self, kind: DutyKind, now_ms: u64) -> Option<Slot> {
        let progress = self.clock(kind)?;
        let fresh = now_ms.saturating_sub(progress.at_ms) < DUTY_LIFETIME_MS;
        let slot = progress.last().filter(|_| fresh)?;
        Some(Slot(slot.0.saturating_add(DUTY_SLOTS_AHEAD)))
    }

    /// The progress of this kind, or of the one that was decided in last.
    fn clock(&self, kind: DutyKind) -> Option<&Progress> {
        self.0.get(&kind).or_else(|| self.0.values().max_by_key(|progress| progress.at_ms))
    }

    /// The slot that the progress has been at or above for the whole settling time.
    pub(super) fn settled(&self, kind: DutyKind, now_ms: u64) -> Option<Slot> {
        let settling = settling_span(now_ms)?;
        let spans = &self.0.get(&kind)?.spans;
        let before = spans.iter().rev().find(|span| span.number <= settling)?;
        let since = spans.iter().filter(|span| span.number > settling).map(|span| span.lowest);
        since.chain([before.last]).min()
    }
}

/// The last span that is over for long enough.
fn settling_span(now_ms: u64) -> Option<u64> {
    (now_ms / SPAN_MS).checked_sub(SETTLED_AFTER_MS / SPAN_MS + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYNC: DutyKind = DutyKind::Sync;

    fn at(slot: u64) -> DutyId {
        DutyId { kind: SYNC, slot: Slot(slot) }
    }

    #[test]
    fn without_a_decision_nothing_is_near_and_nothing_too_high() {
        let window = DutyWindow::default();
        assert!(!window.is_near(at(0)));
        assert_eq!(window.highest(SYNC, 0), None);
        assert_eq!(window.settled(SYNC, u64::MAX), None);
    }

    #[test]
    fn slots_around_the_last_decision_are_near_also_of_a_kind_without_any() {
        let mut window = DutyWindow::default();
        window.decided(at(1000), 0);
        let other = |slot| DutyId { kind: DutyKind::Attester, slot: Slot(slot) };
        assert!(window.is_near(at(1064)) && window.is_near(at(936)) && window.is_near(other(1064)));
        assert!(!window.is_near(at(1065)) && !window.is_near(at(935)) && !window.is_near(other(1065)));
        assert_eq!(window.highest(DutyKind::Attester, 0), Some(Slot(1000 + DUTY_SLOTS_AHEAD)));
        window.decided(other(5), 1);
        assert!(window.is_near(other(6)) && !window.is_near(other(1000)), "it has its own now");
        assert_eq!(window.highest(SYNC, 0), Some(Slot(1000 + DUTY_SLOTS_AHEAD)));
        assert_eq!(
            window.highest(SYNC, DUTY_LIFETIME_MS),
            None,
            "after a long pause a client goes on anywhere"
        );
    }

    #[test]
    fn a_slot_is_settled_when_the_progress_was_past_it_for_the_whole_time() {
        let mut window = DutyWindow::default();
        let minute = |minutes: u64| minutes * SPAN_MS;
        for minutes in 0..=30 {
            window.decided(at(100 + minutes), minute(minutes));
        }
        assert_eq!(window.settled(SYNC, minute(30)), Some(Slot(119)));
        // A mistake far ahead, and back.
        window.decided(at(1 << 61), minute(31));
        window.decided(at(131), minute(32));
        for minutes in 33..80 {
            window.decided(at(100 + minutes), minute(minutes));
            assert!(window.settled(SYNC, minute(minutes)) <= Some(Slot(100 + minutes)), "minute {minutes}");
        }
        assert_eq!(window.settled(SYNC, minute(79)), Some(Slot(168)));
        assert!(window.0[&SYNC].spans.len() < 14);
    }

    #[test]
    fn a_progress_that_goes_back_takes_what_is_settled_with_it() {
        let mut window = DutyWindow::default();
        window.decided(at(1 << 61), 0);
        window.decided(at(7), 10 * SPAN_MS);
        assert_eq!(window.settled(SYNC, 11 * SPAN_MS), Some(Slot(7)));
    }
}
