//! Instances of the duty domains: which are open, which are closed, what became of them.
//!
//! An operator takes part in any duty a member begins, so that a duty known to one operator is agreed
//! by all. Its own candidate is the first one its client posted; only without one does it propose
//! what a member shared first.
//!
//! # Opening
//!
//! | what came | may begin a duty |
//! |---|---|
//! | a post of the own client | yes, while fewer than [`DUTIES_OPEN_MAX`] are open |
//! | a member's candidate, PREPREPARE, PREPARE or ROUND-CHANGE | yes, inside the slots of `duty_window` and while that member began fewer than its share of [`DUTIES_OPEN_MAX`] |
//! | anything else | no: questions, answers and the votes of a decision need no new instance |
//!
//! # Closing
//!
//! A closed duty never opens again: its slot is at or below the watermark of its domain, or it is
//! among the closed ones above. The watermark only rises. It follows the closed slots at or below
//! the reach of the window and stays below every open slot, so it never ends a duty that runs. The
//! host stores it with the duty that raised it, and brings both back at the next start.
//!
//! A candidate is in memory only, until this operator proposes it: a restart before that forgets it.

use crate::duty_window::DutyWindow;
use aequa_types::{Certificate, Domain, Height, InstanceId, OperatorIndex, Quorum, Value};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Most duties the own client may have open at a time; more are refused as overload. The other
/// members together may have as many, each an equal share.
pub const DUTIES_OPEN_MAX: usize = 256;
/// Closed duties remembered per domain at or below the reach: posts may be that late.
const DUTIES_CLOSED_LATE: usize = 1024;
/// Closed duties remembered per domain before members' duties above the reach are refused: without a
/// reach nothing raises the watermark. Two windows; a few MB.
const DUTIES_CLOSED_MAX: usize = 131_072;
/// Ended duties that are still shown from memory.
const DUTIES_RECENT_MAX: usize = 256;
/// Answers about closed duties that one member gets in [`ANSWER_WINDOW_MS`]: each may be a read of
/// a megabyte, and whoever is stuck asks again.
const ANSWERS_MAX: u8 = 2;
/// See [`ANSWERS_MAX`].
const ANSWER_WINDOW_MS: u64 = 1000;
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
    /// This operator's candidate: the first its client posted.
    pub candidate: Option<Value>,
    /// The first candidate a member shared.
    adopted: Option<Value>,
    opener: Opener,
    /// Values were asked for: what members send is an answer, not a post of theirs.
    asked: bool,
    /// The decided value.
    pub decided: Option<(Value, Certificate)>,
    /// Steps passed, with milliseconds since the duty became known here.
    pub timeline: Vec<(u64, &'static str)>,
    since_ms: u64,
}

/// Against whom an open duty counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opener {
    Client,
    Member(OperatorIndex),
    /// An earlier life: bound by what was signed, so it counts against nobody.
    Log,
}

/// Where a new duty stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opening {
    /// It is open, since now or before.
    Open,
    /// It has ended.
    Closed,
    /// Too many are open.
    Full,
    /// Its slot is above this one, the highest allowed.
    Above(Height),
}

/// All duties this node knows.
#[derive(Debug)]
pub(crate) struct Duties {
    share: usize,
    window: DutyWindow,
    open: BTreeMap<InstanceId, DutyState>,
    recent: BTreeMap<InstanceId, DutyState>,
    recent_order: VecDeque<InstanceId>,
    closed: BTreeMap<Domain, BTreeSet<Height>>,
    watermarks: BTreeMap<Domain, Height>,
    answered: BTreeMap<OperatorIndex, (u64, u8)>,
}

impl Duties {
    pub(crate) fn new(me: OperatorIndex, quorum: Quorum) -> Self {
        Self {
            share: (DUTIES_OPEN_MAX / quorum.operators()).max(1),
            window: DutyWindow::new(me, quorum),
            open: BTreeMap::new(),
            recent: BTreeMap::new(),
            recent_order: VecDeque::new(),
            closed: BTreeMap::new(),
            watermarks: BTreeMap::new(),
            answered: BTreeMap::new(),
        }
    }

    /// Whether this duty has ended, now or in an earlier life.
    pub(crate) fn is_closed(&self, instance: InstanceId) -> bool {
        let below = self.watermarks.get(&instance.domain).is_some_and(|mark| instance.height <= *mark);
        below || self.closed.get(&instance.domain).is_some_and(|closed| closed.contains(&instance.height))
    }

    /// Takes over a duty the log knows, however many there are.
    pub(crate) fn restore(&mut self, instance: InstanceId) {
        self.insert(instance, Opener::Log, 0);
        if let Some(duty) = self.open.get_mut(&instance) {
            duty.asked = true;
        }
    }

    /// The own client posts for this duty.
    pub(crate) fn post(&mut self, me: OperatorIndex, instance: InstanceId, now_ms: u64) -> Opening {
        if self.is_closed(instance) {
            // Late, but it shows where the client is.
            self.window.posted(instance.domain, me, instance.height, now_ms);
            return Opening::Closed;
        }
        let mark = self.watermark(instance.domain);
        if let Some(highest) = self.window.highest_posted(instance.domain, mark, now_ms)
            && instance.height > highest
        {
            return Opening::Above(highest);
        }
        if !self.is_open(instance) && self.opened_by(Opener::Client) >= DUTIES_OPEN_MAX {
            return Opening::Full;
        }
        self.window.posted(instance.domain, me, instance.height, now_ms);
        self.insert(instance, Opener::Client, now_ms);
        Opening::Open
    }

    /// A member begins this duty.
    pub(crate) fn join(&mut self, instance: InstanceId, member: OperatorIndex, now_ms: u64) -> Opening {
        if self.is_open(instance) {
            return Opening::Open;
        }
        if self.is_closed(instance) {
            return Opening::Closed;
        }
        let highest = self.window.highest(instance.domain, self.watermark(instance.domain), now_ms);
        if instance.height > highest {
            return Opening::Above(highest);
        }
        let reached =
            self.window.reach(instance.domain, now_ms).is_some_and(|reach| instance.height <= reach);
        let closed = self.closed.get(&instance.domain).map_or(0, BTreeSet::len);
        if self.opened_by(Opener::Member(member)) >= self.share || (!reached && closed >= DUTIES_CLOSED_MAX) {
            return Opening::Full;
        }
        self.insert(instance, Opener::Member(member), now_ms);
        Opening::Open
    }

    /// A member's vote shows where it is.
    pub(crate) fn voted(&mut self, instance: InstanceId, member: OperatorIndex, now_ms: u64) {
        self.window.voted(instance.domain, member, instance.height, now_ms);
    }

    /// A member shared a value. Unless it was asked to, its client posted it.
    pub(crate) fn shared(&mut self, instance: InstanceId, member: OperatorIndex, now_ms: u64) {
        if !self.state(instance).is_some_and(|duty| duty.asked) {
            self.window.posted(instance.domain, member, instance.height, now_ms);
        }
    }

    /// The members were asked for a value of this duty.
    pub(crate) fn asked(&mut self, instance: InstanceId) {
        if let Some(duty) = self.open.get_mut(&instance) {
            duty.asked = true;
        }
    }

    /// The client's first candidate stands; true when this was it.
    pub(crate) fn offer(&mut self, instance: InstanceId, value: Value) -> bool {
        let Some(duty) = self.open.get_mut(&instance).filter(|duty| duty.candidate.is_none()) else {
            return false;
        };
        duty.candidate = Some(value);
        // It is the client's duty now, and no longer counts against a member.
        duty.opener = Opener::Client;
        true
    }

    /// Keeps the first candidate a member shares.
    pub(crate) fn adopt(&mut self, instance: InstanceId, value: Value) {
        if let Some(duty) = self.open.get_mut(&instance) {
            duty.adopted.get_or_insert(value);
        }
    }

    /// The client's candidate.
    pub(crate) fn candidate(&self, instance: InstanceId) -> Option<Value> {
        self.open.get(&instance)?.candidate.clone()
    }

    /// The client's candidate, else a member's.
    pub(crate) fn any_candidate(&self, instance: InstanceId) -> Option<Value> {
        let duty = self.open.get(&instance)?;
        duty.candidate.as_ref().or(duty.adopted.as_ref()).cloned()
    }

    /// Whether this member may be answered about a closed duty now; counts the answer.
    pub(crate) fn may_answer(&mut self, member: OperatorIndex, now_ms: u64) -> bool {
        let (since_ms, count) = self.answered.entry(member).or_insert((now_ms, 0));
        if now_ms.saturating_sub(*since_ms) >= ANSWER_WINDOW_MS {
            (*since_ms, *count) = (now_ms, 0);
        }
        let may = *count < ANSWERS_MAX;
        *count += u8::from(may);
        may
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
        self.close(instance, now_ms);
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
            self.close(*instance, now_ms);
        }
        expired
    }

    /// Takes over a duty that ended in an earlier life.
    pub(crate) fn closed_before(&mut self, instance: InstanceId) {
        self.closed.entry(instance.domain).or_default().insert(instance.height);
    }

    /// Closes everything up to `height`; never lowers the watermark.
    pub(crate) fn raise_watermark(&mut self, domain: Domain, height: Height) {
        let mark = self.watermarks.entry(domain).or_insert(height);
        *mark = height.max(*mark);
        if let Some(closed) = self.closed.get_mut(&domain) {
            *closed = closed.split_off(&mark.next());
        }
    }

    /// Marks a duty as ended; raises the watermark when too many late ones are remembered.
    fn close(&mut self, instance: InstanceId, now_ms: u64) {
        let domain = instance.domain;
        if self.is_closed(instance) {
            return;
        }
        self.closed_before(instance);
        let Some(reach) = self.window.reach(domain, now_ms) else { return };
        let lowest_open = self.lowest_open(domain);
        let Some(closed) = self.closed.get(&domain) else { return };
        let late = closed.range(..=reach).count();
        let ends = |slot: &&Height| lowest_open.is_none_or(|open| **slot < open);
        let over = late.saturating_sub(DUTIES_CLOSED_LATE);
        if let Some(mark) = closed.iter().take(over).take_while(ends).last().copied() {
            self.raise_watermark(domain, mark);
        }
    }

    /// The lowest slot of a domain that is still open.
    fn lowest_open(&self, domain: Domain) -> Option<Height> {
        self.open.keys().find(|instance| instance.domain == domain).map(|instance| instance.height)
    }

    pub(crate) fn watermark(&self, domain: Domain) -> Option<Height> {
        self.watermarks.get(&domain).copied()
    }

    /// What is known of a duty, for clients.
    pub(crate) fn state(&self, instance: InstanceId) -> Option<&DutyState> {
        self.open.get(&instance).or_else(|| self.recent.get(&instance))
    }

    /// Duties known in this life, in no order that means anything.
    pub(crate) fn all(&self) -> impl Iterator<Item = (InstanceId, &DutyState)> {
        self.open.iter().chain(&self.recent).map(|(instance, duty)| (*instance, duty))
    }

    pub(crate) fn is_open(&self, instance: InstanceId) -> bool {
        self.open.contains_key(&instance)
    }

    fn opened_by(&self, opener: Opener) -> usize {
        self.open.values().filter(|duty| duty.opener == opener).count()
    }

    fn insert(&mut self, instance: InstanceId, opener: Opener, now_ms: u64) {
        self.open.entry(instance).or_insert_with(|| DutyState {
            status: DutyStatus::Pending,
            candidate: None,
            adopted: None,
            opener,
            asked: false,
            decided: None,
            timeline: vec![(0, "received")],
            since_ms: now_ms,
        });
    }

    fn archive(&mut self, instance: InstanceId, duty: DutyState) {
        self.recent.insert(instance, duty);
        self.recent_order.push_back(instance);
        while self.recent_order.len() > DUTIES_RECENT_MAX {
            if let Some(oldest) = self.recent_order.pop_front() {
                self.recent.remove(&oldest);
            }
        }
    }
}
