//! Up to which slot a duty may begin.
//!
//! Members tell each other what their own clients posted. A slot that the last posts of f+1 members
//! have reached was reached at an honest one, so no member alone can move what is derived from it:
//!
//! * the **reach** of a domain is the slot this operator's client posted for last, or the one that
//!   the last posts of f+1 members have reached, whichever is higher;
//! * a member's duty begins at most [`DUTY_SLOTS_AHEAD`] slots above the reach, the own client's that
//!   far above the highest it posted for;
//! * the watermark of closed duties never passes the reach, so nobody can close slots that are
//!   still to come.
//!
//! Posts count for as long as a duty lives: a mistaken slot is forgotten with it, and after a long
//! pause the first post of a client is taken wherever it is. Without a reach the votes of f+1 members
//! say where the cluster is (an honest one among them votes), and a node that has heard nothing at
//! all counts from slot 0. Votes are no measure otherwise: one member's candidate at the edge of
//! the window would be voted for by all, and the window would follow.
//!
//! A cluster whose clients post at fewer than f+1 operators has no reach at the others. It works, but
//! only as long as those have room to remember every closed duty.

use crate::duties::DUTY_LIFETIME_MS;
use aequa_types::{Domain, Height, OperatorIndex, Quorum};
use std::collections::BTreeMap;

/// How far above the reach a duty may begin: nine days of Ethereum slots. It bounds how many closed
/// duties above the reach are remembered.
pub const DUTY_SLOTS_AHEAD: u64 = 65_536;

/// The latest slot of each operator and domain, with the time it was shown.
#[derive(Debug, Default)]
struct Lanes(BTreeMap<(Domain, OperatorIndex), (Height, u64)>);

impl Lanes {
    fn show(&mut self, domain: Domain, operator: OperatorIndex, slot: Height, now_ms: u64) {
        self.0.insert((domain, operator), (slot, now_ms));
    }

    fn of(&self, domain: Domain, operator: OperatorIndex, now_ms: u64) -> Option<Height> {
        let (slot, at_ms) = self.0.get(&(domain, operator))?;
        (now_ms.saturating_sub(*at_ms) < DUTY_LIFETIME_MS).then_some(*slot)
    }
}

/// Where the duties of all domains are.
#[derive(Debug)]
pub(crate) struct DutyWindow {
    me: OperatorIndex,
    quorum: Quorum,
    posted: Lanes,
    voted: Lanes,
    /// The highest slot of the own client, where `posted` has the latest: a late post must not make the
    /// next regular one look far away.
    own_highest: Lanes,
}

impl DutyWindow {
    pub(crate) fn new(me: OperatorIndex, quorum: Quorum) -> Self {
        Self { me, quorum, posted: Lanes::default(), voted: Lanes::default(), own_highest: Lanes::default() }
    }

    /// The client of an operator posted a candidate for this slot.
    pub(crate) fn posted(&mut self, domain: Domain, operator: OperatorIndex, slot: Height, now_ms: u64) {
        self.posted.show(domain, operator, slot, now_ms);
        if operator == self.me && self.own_highest.of(domain, operator, now_ms).is_none_or(|top| slot >= top)
        {
            self.own_highest.show(domain, operator, slot, now_ms);
        }
    }

    /// A member votes for this slot.
    pub(crate) fn voted(&mut self, domain: Domain, operator: OperatorIndex, slot: Height, now_ms: u64) {
        self.voted.show(domain, operator, slot, now_ms);
    }

    /// Where honest clients are, if they were heard lately.
    pub(crate) fn reach(&self, domain: Domain, now_ms: u64) -> Option<Height> {
        let own = self.posted.of(domain, self.me, now_ms);
        own.max(self.reached_by_weak_quorum(&self.posted, domain, now_ms))
    }

    /// The highest slot the own client may post for; none as long as nothing says where that is.
    pub(crate) fn highest_posted(
        &self,
        domain: Domain,
        watermark: Option<Height>,
        now_ms: u64,
    ) -> Option<Height> {
        let reach = self.reach(domain, now_ms)?;
        let from = self.own_highest.of(domain, self.me, now_ms).max(watermark).unwrap_or_default().max(reach);
        Some(Height(from.0.saturating_add(DUTY_SLOTS_AHEAD)))
    }

    /// The highest slot a member's duty may have.
    pub(crate) fn highest(&self, domain: Domain, watermark: Option<Height>, now_ms: u64) -> Height {
        let votes = || self.reached_by_weak_quorum(&self.voted, domain, now_ms);
        let from = self.reach(domain, now_ms).or_else(votes).max(watermark).unwrap_or_default();
        Height(from.0.saturating_add(DUTY_SLOTS_AHEAD))
    }

    /// The highest slot that f+1 operators have shown or passed.
    fn reached_by_weak_quorum(&self, lanes: &Lanes, domain: Domain, now_ms: u64) -> Option<Height> {
        let members = self.quorum.members();
        let mut slots: Vec<Height> =
            members.filter_map(|operator| lanes.of(domain, operator, now_ms)).collect();
        slots.sort_by_key(|slot| std::cmp::Reverse(*slot));
        slots.get(self.quorum.weak_quorum().checked_sub(1)?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYNC: Domain = Domain::Sync;

    fn window() -> DutyWindow {
        DutyWindow::new(OperatorIndex(0), Quorum::of(4).unwrap())
    }

    #[test]
    fn one_member_alone_moves_nothing_and_two_of_four_do() {
        let mut window = window();
        let far = Height(1 << 61);
        window.posted(SYNC, OperatorIndex(3), far, 0);
        window.voted(SYNC, OperatorIndex(3), far, 0);
        assert_eq!(window.reach(SYNC, 0), None);
        assert_eq!(window.highest(SYNC, None, 0), Height(DUTY_SLOTS_AHEAD));
        window.posted(SYNC, OperatorIndex(2), Height(9_000_000), 0);
        assert_eq!(window.reach(SYNC, 0), Some(Height(9_000_000)));
        assert_eq!(window.reach(Domain::Attester, 0), None);
    }

    #[test]
    fn votes_count_only_while_nothing_was_posted() {
        let mut window = window();
        for member in [1, 2] {
            window.voted(SYNC, OperatorIndex(member), Height(9_000_000), 0);
        }
        assert_eq!(window.reach(SYNC, 0), None);
        assert_eq!(window.highest(SYNC, None, 0), Height(9_000_000 + DUTY_SLOTS_AHEAD));
        window.posted(SYNC, OperatorIndex(0), Height(5), 0);
        assert_eq!(window.highest(SYNC, None, 0), Height(5 + DUTY_SLOTS_AHEAD));
    }

    #[test]
    fn a_late_post_does_not_push_the_client_out_of_its_window() {
        let mut window = window();
        assert_eq!(window.highest_posted(SYNC, None, 0), None);
        window.posted(SYNC, OperatorIndex(0), Height(9_000_000), 0);
        window.posted(SYNC, OperatorIndex(0), Height(3), 0);
        assert_eq!(window.highest_posted(SYNC, None, 0), Some(Height(9_000_000 + DUTY_SLOTS_AHEAD)));
    }

    #[test]
    fn a_mistaken_slot_is_corrected_by_the_next_post_and_forgotten_in_time() {
        let mut window = window();
        window.posted(SYNC, OperatorIndex(0), Height(1 << 61), 0);
        window.posted(SYNC, OperatorIndex(0), Height(7), 1);
        assert_eq!(window.reach(SYNC, 1), Some(Height(7)));
        assert_eq!(window.reach(SYNC, 1 + DUTY_LIFETIME_MS), None);
        let mark = Some(Height(6));
        assert_eq!(window.highest(SYNC, mark, 1 + DUTY_LIFETIME_MS), Height(6 + DUTY_SLOTS_AHEAD));
    }
}
