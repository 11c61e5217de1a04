//! Instances of the duty domains: which are open, which are closed, what became of them.
//!
//! An operator takes part in any duty a member begins. Its own candidate is the first one a client
//! posted; without one it adopts the first candidate a member shares, so that a duty known to one
//! operator is agreed by all. A closed duty never opens again: its height is at or below the
//! domain's watermark, or it is among the closed ones above.

use aequa_types::{Certificate, Domain, Height, InstanceId, Value};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Most duties open at a time; more are refused as overload.
pub const DUTIES_OPEN_MAX: usize = 256;
/// Closed duties remembered per domain above the watermark.
const DUTIES_CLOSED_MAX: usize = 1024;
/// An undecided duty is given up after this long: an hour is past any use of it.
pub(crate) const DUTY_LIFETIME_MS: u64 = 3_600_000;

/// Where a duty stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DutyStatus {
    /// Open; nothing proposed yet.
    Pending,
    /// A proposal is being agreed.
    Deciding,
    /// Decided, the group seal is still missing.
    Decided,
    /// Decided and sealed.
    Signed,
    /// Given up undecided.
    Expired,
}

impl DutyStatus {
    /// Name in the API.
    pub fn name(self) -> &'static str {
        match self {
            DutyStatus::Pending => "pending",
            DutyStatus::Deciding => "deciding",
            DutyStatus::Decided => "decided",
            DutyStatus::Signed => "signed",
            DutyStatus::Expired => "expired",
        }
    }
}

/// What is known of one duty.
#[derive(Debug, Clone)]
pub struct DutyState {
    /// Where it stands.
    pub status: DutyStatus,
    /// This operator's candidate.
    pub candidate: Option<Value>,
    /// The decided value.
    pub decided: Option<(Value, Certificate)>,
    /// Steps passed, with milliseconds since the duty became known here.
    pub timeline: Vec<(u64, &'static str)>,
    since_ms: u64,
}

/// All duties this node knows.
#[derive(Debug, Default)]
pub(crate) struct Duties {
    open: BTreeMap<InstanceId, DutyState>,
    recent: BTreeMap<InstanceId, DutyState>,
    recent_order: VecDeque<InstanceId>,
    closed: BTreeMap<Domain, BTreeSet<Height>>,
    watermarks: BTreeMap<Domain, Height>,
}

impl Duties {
    /// Whether this duty has ended, now or in an earlier life.
    pub(crate) fn is_closed(&self, instance: InstanceId) -> bool {
        let below = self.watermarks.get(&instance.domain).is_some_and(|mark| instance.height <= *mark);
        below || self.closed.get(&instance.domain).is_some_and(|closed| closed.contains(&instance.height))
    }

    pub(crate) fn is_open(&self, instance: InstanceId) -> bool {
        self.open.contains_key(&instance)
    }

    /// Opens a duty; false when it is closed or there is no room.
    pub(crate) fn open(&mut self, instance: InstanceId, now_ms: u64) -> bool {
        if self.is_closed(instance) || self.open.len() >= DUTIES_OPEN_MAX {
            return false;
        }
        self.open.entry(instance).or_insert_with(|| DutyState {
            status: DutyStatus::Pending,
            candidate: None,
            decided: None,
            timeline: vec![(0, "received")],
            since_ms: now_ms,
        });
        true
    }

    /// The first candidate stands; true when this was it.
    pub(crate) fn offer(&mut self, instance: InstanceId, value: Value) -> bool {
        match self.open.get_mut(&instance) {
            Some(duty) if duty.candidate.is_none() => {
                duty.candidate = Some(value);
                true
            }
            _ => false,
        }
    }

    pub(crate) fn candidate(&self, instance: InstanceId) -> Option<Value> {
        self.open.get(&instance)?.candidate.clone()
    }

    pub(crate) fn passed(&mut self, instance: InstanceId, step: &'static str, now_ms: u64) {
        let duty = match self.open.get_mut(&instance) {
            Some(duty) => duty,
            None => match self.recent.get_mut(&instance) {
                Some(duty) => duty,
                None => return,
            },
        };
        if duty.timeline.iter().any(|(_, known)| *known == step) {
            return;
        }
        duty.timeline.push((now_ms.saturating_sub(duty.since_ms), step));
        match step {
            "proposed" => duty.status = DutyStatus::Deciding,
            "combined" => duty.status = DutyStatus::Signed,
            _ => {}
        }
    }

    pub(crate) fn decide(
        &mut self,
        instance: InstanceId,
        value: Value,
        certificate: Certificate,
        now_ms: u64,
    ) {
        self.passed(instance, "decided", now_ms);
        if let Some(mut duty) = self.open.remove(&instance) {
            duty.status = match certificate.group_seal() {
                Some(_) => DutyStatus::Signed,
                None => DutyStatus::Decided,
            };
            duty.decided = Some((value, certificate));
            self.archive(instance, duty);
        }
        self.close(instance);
    }

    pub(crate) fn sealed(&mut self, certificate: &Certificate, now_ms: u64) {
        self.passed(certificate.instance, "combined", now_ms);
        if let Some(duty) = self.recent.get_mut(&certificate.instance)
            && let Some((_, known)) = &mut duty.decided
        {
            *known = certificate.clone();
        }
    }

    /// Gives up duties that are past any use; returns them.
    pub(crate) fn expire(&mut self, now_ms: u64) -> Vec<InstanceId> {
        let late = |duty: &DutyState| now_ms.saturating_sub(duty.since_ms) >= DUTY_LIFETIME_MS;
        let expired: Vec<InstanceId> =
            self.open.iter().filter(|(_, duty)| late(duty)).map(|(instance, _)| *instance).collect();
        for instance in &expired {
            if let Some(mut duty) = self.open.remove(instance) {
                duty.status = DutyStatus::Expired;
                self.archive(*instance, duty);
            }
            self.close(*instance);
        }
        expired
    }

    /// Marks a duty as ended; raises the watermark when too many are remembered.
    pub(crate) fn close(&mut self, instance: InstanceId) {
        let closed = self.closed.entry(instance.domain).or_default();
        closed.insert(instance.height);
        while closed.len() > DUTIES_CLOSED_MAX {
            if let Some(lowest) = closed.pop_first() {
                self.watermarks.insert(instance.domain, lowest);
            }
        }
    }

    /// The lowest slot of a domain that is still open.
    pub(crate) fn lowest_open(&self, domain: Domain) -> Option<Height> {
        self.open.keys().find(|instance| instance.domain == domain).map(|instance| instance.height)
    }

    pub(crate) fn watermark(&self, domain: Domain) -> Option<Height> {
        self.watermarks.get(&domain).copied()
    }

    /// What is known of a duty, for clients.
    pub(crate) fn state(&self, instance: InstanceId) -> Option<&DutyState> {
        self.open.get(&instance).or_else(|| self.recent.get(&instance))
    }

    /// Duties known in this life, newest first within a domain.
    pub(crate) fn all(&self) -> impl Iterator<Item = (InstanceId, &DutyState)> {
        let mut all: Vec<_> =
            self.open.iter().chain(&self.recent).map(|(instance, duty)| (*instance, duty)).collect();
        all.sort_by_key(|(instance, duty)| (std::cmp::Reverse(duty.since_ms), *instance));
        all.into_iter()
    }

    fn archive(&mut self, instance: InstanceId, duty: DutyState) {
        self.recent.insert(instance, duty);
        self.recent_order.push_back(instance);
        while self.recent_order.len() > DUTIES_OPEN_MAX {
            if let Some(oldest) = self.recent_order.pop_front() {
                self.recent.remove(&oldest);
            }
        }
    }
}
