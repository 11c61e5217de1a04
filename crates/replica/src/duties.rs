//! Instances of the duty domains: which are open, which are closed, what became of them.
//!
//! An opaque duty is its client's to begin: an operator takes part in it only when its *own* client has
//! posted for it, and prepares only what that client posted. So q operators' clients have agreed on what q
//! operators sign, and no member and no stranger at another operator opens, decides or closes anything here.
//!
//! # Opening
//!
//! | what came | begins a duty |
//! |---|---|
//! | a post of the own client | yes, inside the slots of `duty_window` |
//! | a certificate of q operators | to learn what was decided, and to give the share of its seal |
//! | anything else of a member | no; statements are kept for a moment (`duty_early`) |
//!
//! The first post stands. It is durable with its answer, so a restart brings it back.
//!
//! # Ending
//!
//! A duty ends decided, or after [`DUTY_LIFETIME_MS`] undecided (operators were seen to hold different values) or
//! expired (they were not seen at all). A closed duty never opens again: it is at or below the watermark of its
//! domain, or among the closed ones above. The watermark rises to what is settled, and stays below
//! every open slot. The host stores it with the duty that raised it, and brings both back at the next start.

use crate::duty_window::{DUTIES_FAR_MAX, DUTY_SLOTS_NEAR, DutyWindow};
use crate::slots::SlotSet;
use aequa_types::{Certificate, Digest, Domain, Height, InstanceId, OperatorIndex, Quorum, Signed, Value};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Closed slots remembered per domain below those that are near: when more are decided within the settling
/// time, the oldest are forgotten early.
const DUTIES_CLOSED_LATE: u64 = 1024;
/// Runs of closed slots remembered per domain before no more far duties begin: only those of a client that goes on
/// opening far slots which nobody decides stay apart.
const CLOSED_RUNS_MAX: usize = 4096;
/// Open duties of a domain from which on those far behind the progress are given up: more than may be opened around
/// it, for it moves.
const DUTIES_OPEN_MAX: usize = 256;
/// Certificates of duties not posted here whose values may be under way at a time.
const DUTIES_LEARNT_MAX: usize = 32;
/// Ended duties that are still shown from memory.
const DUTIES_RECENT_MAX: usize = 256;
/// Bytes of their values: what is held of a duty beside it, messages and answers, is several times as much. Of older
/// ones the store tells.
const DUTIES_RECENT_BYTES_MAX: usize = 512 << 10;
/// Digests remembered of one operator and duty: an honest one has one.
const DIGESTS_PER_OPERATOR_MAX: usize = 4;
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
    /// Operators were seen to hold different values, so that none can reach a quorum.
    Undecided,
    /// Given up: too few operators took part.
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
            DutyStatus::Undecided => "undecided",
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
    /// The digests that operators were seen to hold, this one included.
    held: BTreeMap<OperatorIndex, BTreeSet<Digest>>,
    opener: Opener,
    /// The decided value.
    pub decided: Option<(Value, Certificate)>,
    /// Steps passed, with milliseconds since the duty became known here.
    pub timeline: Vec<(u64, &'static str)>,
    since_ms: u64,
}

impl DutyState {
    /// Which operators were seen to hold which digest.
    pub fn digests(&self) -> BTreeMap<Digest, Vec<OperatorIndex>> {
        let mut digests: BTreeMap<Digest, Vec<OperatorIndex>> = BTreeMap::new();
        for (operator, held) in &self.held {
            held.iter().for_each(|digest| digests.entry(*digest).or_default().push(*operator));
        }
        digests
    }

    /// Whether no digest can reach a quorum any more, if everybody keeps to what it was seen to hold.
    fn is_split(&self, quorum: Quorum) -> bool {
        let unknown = quorum.operators() - self.held.len();
        let most = self.digests().values().map(Vec::len).max().unwrap_or_default();
        most + unknown < quorum.quorum()
    }
}

/// Who began an open duty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opener {
    Client,
    /// An earlier life.
    Log,
    /// A certificate of q operators.
    Certificate,
}

/// What becomes of a client's post.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opening {
    /// The candidate stands; the duty is open.
    First,
    /// Another candidate stands.
    Again,
    /// The duty has ended.
    Ended,
    /// It is at or below the watermark: what became of it is forgotten.
    Below(Height),
    /// Too many far ones are open.
    Full,
    /// Its slot is above this one, the highest that may begin now.
    Above(Height),
}

/// All duties this node knows.
#[derive(Debug)]
pub(crate) struct Duties {
    me: OperatorIndex,
    quorum: Quorum,
    window: DutyWindow,
    open: BTreeMap<InstanceId, DutyState>,
    recent: BTreeMap<InstanceId, DutyState>,
    recent_order: VecDeque<InstanceId>,
    closed: BTreeMap<Domain, SlotSet>,
    watermarks: BTreeMap<Domain, Height>,
    answered: BTreeMap<OperatorIndex, (u64, u8)>,
}

impl Duties {
    pub(crate) fn new(me: OperatorIndex, quorum: Quorum) -> Self {
        Self {
            me,
            quorum,
            window: DutyWindow::default(),
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
        self.is_below(instance)
            || self.closed.get(&instance.domain).is_some_and(|closed| closed.contains(instance.height))
    }

    fn is_below(&self, instance: InstanceId) -> bool {
        self.watermark(instance.domain).is_some_and(|mark| instance.height <= mark)
    }

    /// Whether this duty is under way: what the log has of it is needed.
    pub(crate) fn is_open(&self, instance: InstanceId) -> bool {
        self.open.contains_key(&instance)
    }

    /// Takes over a duty the log knows, with what this operator's client posted, however many there are.
    pub(crate) fn restore(&mut self, instance: InstanceId, candidate: Option<Value>) {
        self.insert(instance, Opener::Log, 0);
        if let Some(candidate) = candidate {
            self.take_candidate(instance, candidate);
        }
    }

    /// A duty that was decided in an earlier life.
    pub(crate) fn decided_before(&mut self, instance: InstanceId) {
        self.window.decided(instance, 0);
    }

    /// The own client posts for this duty. One that is wanted elsewhere finds room among the far ones, whatever else
    /// was posted here.
    pub(crate) fn post(
        &mut self,
        instance: InstanceId,
        value: Value,
        is_wanted: bool,
        now_ms: u64,
    ) -> Opening {
        let InstanceId { domain, height } = instance;
        if let Some(mark) = self.watermark(domain).filter(|mark| height <= *mark) {
            return Opening::Below(mark);
        }
        if self.is_closed(instance) {
            return Opening::Ended;
        }
        if !self.is_open(instance) {
            if let Some(highest) = self.window.highest(domain, now_ms).filter(|highest| height > *highest) {
                return Opening::Above(highest);
            }
            if !self.window.is_near(instance) && !is_wanted && !self.has_room_for_far(domain) {
                return Opening::Full;
            }
            self.insert(instance, Opener::Client, now_ms);
        }
        if self.take_candidate(instance, value) { Opening::First } else { Opening::Again }
    }

    fn has_room_for_far(&self, domain: Domain) -> bool {
        let far = self.open.iter().filter(|(id, duty)| {
            id.domain == domain && duty.opener == Opener::Client && !self.window.is_near(**id)
        });
        let runs = self.closed.get(&domain).map_or(0, SlotSet::runs);
        far.count() < DUTIES_FAR_MAX && runs < CLOSED_RUNS_MAX
    }

    /// The first candidate stands; true when this was it.
    fn take_candidate(&mut self, instance: InstanceId, value: Value) -> bool {
        let Some(duty) = self.open.get_mut(&instance).filter(|duty| duty.candidate.is_none()) else {
            return false;
        };
        duty.held.insert(self.me, BTreeSet::from([value.digest()]));
        duty.candidate = Some(value);
        true
    }

    /// A quorum has decided a duty that was not posted here: true when it begins, to learn its value.
    pub(crate) fn learn(&mut self, instance: InstanceId, now_ms: u64) -> bool {
        let learning = self.open.values().filter(|duty| duty.opener == Opener::Certificate).count();
        let begins = !self.is_open(instance) && learning < DUTIES_LEARNT_MAX;
        if begins {
            self.insert(instance, Opener::Certificate, now_ms);
        }
        begins
    }

    /// What an operator was seen to hold: it proposes or prepares nothing else.
    pub(crate) fn saw(&mut self, signed: &Signed) {
        let (quorum, Some(digest)) = (self.quorum, signed.digest()) else { return };
        let Some(duty) = self.open.get_mut(&signed.instance) else { return };
        let held = duty.held.entry(signed.author).or_default();
        if held.len() < DIGESTS_PER_OPERATOR_MAX && held.insert(digest) && duty.is_split(quorum) {
            duty.status = DutyStatus::Undecided;
        }
    }

    /// What the own client posted.
    pub(crate) fn candidate(&self, instance: InstanceId) -> Option<&Value> {
        self.open.get(&instance)?.candidate.as_ref()
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
            "proposed" if duty.status == DutyStatus::Pending => duty.status = DutyStatus::Deciding,
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
        self.window.decided(instance, now_ms);
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
        let late = self.open.iter().filter(|(_, duty)| late(duty)).map(|(instance, _)| *instance);
        let expired: BTreeSet<InstanceId> = late.chain(self.left_behind()).collect();
        for instance in &expired {
            if let Some(mut duty) = self.open.remove(instance) {
                duty.status = match duty.digests().len() {
                    0 | 1 => DutyStatus::Expired,
                    _ => DutyStatus::Undecided,
                };
                self.archive(*instance, duty);
            }
            self.close(*instance, now_ms);
        }
        expired.into_iter().collect()
    }

    /// Open duties that the progress has left far behind, the lowest first, as many as are too many.
    fn left_behind(&self) -> Vec<InstanceId> {
        let of = |domain: Domain| self.open.keys().filter(move |instance| instance.domain == domain);
        let behind = |domain: Domain| {
            let surplus = of(domain).count().saturating_sub(DUTIES_OPEN_MAX);
            of(domain).filter(|instance| self.window.is_behind(**instance)).take(surplus).copied()
        };
        Domain::ALL.into_iter().flat_map(behind).collect()
    }

    /// Takes over a duty that ended in an earlier life.
    pub(crate) fn closed_before(&mut self, instance: InstanceId) {
        if !self.is_below(instance) {
            self.closed.entry(instance.domain).or_default().insert(instance.height);
        }
    }

    /// Closes everything up to `height`; never lowers the watermark.
    pub(crate) fn raise_watermark(&mut self, domain: Domain, height: Height) {
        let mark = self.watermarks.entry(domain).or_insert(height);
        *mark = height.max(*mark);
        if let Some(closed) = self.closed.get_mut(&domain) {
            closed.forget_up_to(*mark);
        }
    }

    /// Marks a duty as ended, and raises the watermark to what is settled or too much to remember.
    fn close(&mut self, instance: InstanceId, now_ms: u64) {
        let domain = instance.domain;
        self.closed_before(instance);
        let Some(closed) = self.closed.get(&domain) else { return };
        let behind = self.window.progress(domain).map(|slot| Height(slot.0.saturating_sub(DUTY_SLOTS_NEAR)));
        let crowded = behind.filter(|behind| closed.count_up_to(*behind) > DUTIES_CLOSED_LATE);
        let over = self.window.settled(domain, now_ms).max(crowded);
        let below_open = self.lowest_open(domain).map_or(Some(Height(u64::MAX)), Height::previous);
        let limit = over.zip(below_open).map(|(over, below_open)| over.min(below_open));
        if let Some(mark) = limit.and_then(|limit| closed.highest_up_to(limit)) {
            self.raise_watermark(domain, mark);
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

    /// Duties known in this life, in no order that means anything.
    pub(crate) fn all(&self) -> impl Iterator<Item = (InstanceId, &DutyState)> {
        self.open.iter().chain(&self.recent).map(|(instance, duty)| (*instance, duty))
    }

    fn insert(&mut self, instance: InstanceId, opener: Opener, now_ms: u64) {
        self.open.entry(instance).or_insert_with(|| DutyState {
            status: DutyStatus::Pending,
            candidate: None,
            held: BTreeMap::new(),
            opener,
            decided: None,
            timeline: vec![(0, "received")],
            since_ms: now_ms,
        });
    }

    fn archive(&mut self, instance: InstanceId, mut duty: DutyState) {
        // What was decided is kept; what was posted and came to nothing is of no use any more.
        duty.candidate = None;
        self.recent.insert(instance, duty);
        self.recent_order.push_back(instance);
        let bytes = |duty: &DutyState| duty.decided.as_ref().map_or(0, |(value, _)| value.bytes().0.len());
        while self.recent_order.len() > DUTIES_RECENT_MAX
            || self.recent.values().map(bytes).sum::<usize>() > DUTIES_RECENT_BYTES_MAX
        {
            let Some(oldest) = self.recent_order.pop_front() else { break };
            self.recent.remove(&oldest);
        }
    }
}
