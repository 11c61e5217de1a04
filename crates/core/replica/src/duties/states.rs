//! Duties: which are open, which are closed, what became of them.
//!
//! # Ending
//!
//! A duty ends decided, or after [`DUTY_LIFETIME_MS`] undecided (operators were seen to hold different values) or
//! expired (they were not seen at all). The watermark of a kind rises to what is settled, and stays below
//! every open slot. The host stores it with the duty that raised it, and brings both back at the next start.

use super::window::{DUTIES_FAR_MAX, DUTY_LIFETIME_MS, DUTY_SLOTS_NEAR, DutyWindow};
use aequa_types::outcome::{DutyDecision, DutyOutcome, DutyStep, HeldDigest};
use aequa_types::{
    Certificate, Digest, DutyId, DutyKind, OperatorIndex, Quorum, Signed, Slot, SlotSet, Value,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Closed slots remembered per kind below those that are near: when more are decided within the settling
/// time, the oldest are forgotten early.
const DUTIES_CLOSED_LATE: u64 = 1024;
/// Runs of closed slots remembered per kind before no more far duties begin: only those of a client that goes on
/// opening far slots which nobody decides stay apart.
const CLOSED_RUNS_MAX: usize = 4096;
/// Open duties of a kind from which on those far behind the progress are given up: more than may be opened around
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
    fn new(opener: Opener, now_ms: u64) -> Self {
        Self {
            status: DutyStatus::Pending,
            candidate: None,
            held: BTreeMap::new(),
            opener,
            decided: None,
            timeline: vec![(0, "received")],
            since_ms: now_ms,
        }
    }

    /// Which operators were seen to hold which digest.
    pub fn digests(&self) -> BTreeMap<Digest, Vec<OperatorIndex>> {
        let mut digests: BTreeMap<Digest, Vec<OperatorIndex>> = BTreeMap::new();
        for (operator, held) in &self.held {
            held.iter().for_each(|digest| digests.entry(*digest).or_default().push(*operator));
        }
        digests
    }

    /// What is stored of it.
    pub fn outcome(&self) -> DutyOutcome {
        let step = |(t_ms, name): &(u64, &str)| DutyStep { t_ms: *t_ms, name: name.as_bytes().to_vec() };
        let decision = |(value, certificate): &(Value, Certificate)| DutyDecision {
            certificate: certificate.clone(),
            value: value.bytes().clone(),
        };
        let held = self.digests().into_iter();
        DutyOutcome {
            decided: self.decided.as_ref().map(decision),
            timeline: self.timeline.iter().map(step).collect(),
            held: held.map(|(digest, operators)| HeldDigest { digest, operators }).collect(),
        }
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
pub(super) enum Opening {
    /// The candidate stands; the duty is open.
    First,
    /// Another candidate stands.
    Again,
    /// The duty has ended.
    Ended,
    /// It is at or below the watermark: what became of it is forgotten.
    Below(Slot),
    /// Too many far ones are open.
    Full,
    /// Its slot is above this one, the highest that may begin now.
    Above(Slot),
}

/// All duties this node knows.
#[derive(Debug)]
pub(super) struct DutyStates {
    me: OperatorIndex,
    quorum: Quorum,
    window: DutyWindow,
    open: BTreeMap<DutyId, DutyState>,
    recent: BTreeMap<DutyId, DutyState>,
    recent_order: VecDeque<DutyId>,
    closed: BTreeMap<DutyKind, SlotSet>,
    watermarks: BTreeMap<DutyKind, Slot>,
    answered: BTreeMap<OperatorIndex, (u64, u8)>,
}

impl DutyStates {
    pub(super) fn new(me: OperatorIndex, quorum: Quorum) -> Self {
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
    pub(super) fn is_closed(&self, id: DutyId) -> bool {
        self.is_below(id) || self.closed.get(&id.kind).is_some_and(|closed| closed.contains(id.slot))
    }

    fn is_below(&self, id: DutyId) -> bool {
        self.watermark(id.kind).is_some_and(|watermark| id.slot <= watermark)
    }

    /// Whether this duty is under way: what the log has of it is needed.
    pub(super) fn is_open(&self, id: DutyId) -> bool {
        self.open.contains_key(&id)
    }

    /// Takes over a duty the log knows, with what this operator's client posted, however many there are.
    pub(super) fn restore(&mut self, id: DutyId, candidate: Option<Value>) {
        self.insert(id, Opener::Log, 0);
        if let Some(candidate) = candidate {
            self.take_candidate(id, candidate);
        }
    }

    /// A duty that was decided in an earlier life.
    pub(super) fn decided_before(&mut self, id: DutyId) {
        self.window.decided(id, 0);
    }

    /// The own client posts for this duty. One that is wanted elsewhere finds room among the far ones, whatever else
    /// was posted here.
    pub(super) fn post(&mut self, id: DutyId, value: Value, is_wanted: bool, now_ms: u64) -> Opening {
        let DutyId { kind, slot } = id;
        if let Some(watermark) = self.watermark(kind).filter(|watermark| slot <= *watermark) {
            return Opening::Below(watermark);
        }
        if self.is_closed(id) {
            return Opening::Ended;
        }
        if !self.is_open(id) {
            if let Some(highest) = self.window.highest(kind, now_ms).filter(|highest| slot > *highest) {
                return Opening::Above(highest);
            }
            if !self.window.is_near(id) && !is_wanted && !self.has_room_for_far(kind) {
                return Opening::Full;
            }
            self.insert(id, Opener::Client, now_ms);
        }
        if self.take_candidate(id, value) { Opening::First } else { Opening::Again }
    }

    fn has_room_for_far(&self, kind: DutyKind) -> bool {
        let far = self.open.iter().filter(|(id, duty)| {
            id.kind == kind && duty.opener == Opener::Client && !self.window.is_near(**id)
        });
        let runs = self.closed.get(&kind).map_or(0, SlotSet::runs);
        far.count() < DUTIES_FAR_MAX && runs < CLOSED_RUNS_MAX
    }

    /// The first candidate stands; true when this was it.
    fn take_candidate(&mut self, id: DutyId, value: Value) -> bool {
        let Some(duty) = self.open.get_mut(&id).filter(|duty| duty.candidate.is_none()) else {
            return false;
        };
        duty.held.insert(self.me, BTreeSet::from([value.digest()]));
        duty.candidate = Some(value);
        true
    }

    /// A quorum has decided a duty that was not posted here: true when it begins, to learn its value.
    pub(super) fn learn(&mut self, id: DutyId, now_ms: u64) -> bool {
        let learning = self.open.values().filter(|duty| duty.opener == Opener::Certificate).count();
        let begins = !self.is_open(id) && learning < DUTIES_LEARNT_MAX;
        if begins {
            self.insert(id, Opener::Certificate, now_ms);
        }
        begins
    }

    /// What an operator was seen to hold: it proposes or prepares nothing else.
    pub(super) fn saw(&mut self, signed: &Signed) {
        let (quorum, Some(digest)) = (self.quorum, signed.digest()) else { return };
        let id = signed.instance.as_duty();
        let Some(duty) = id.and_then(|id| self.open.get_mut(&id)) else { return };
        let held = duty.held.entry(signed.author).or_default();
        if held.len() < DIGESTS_PER_OPERATOR_MAX && held.insert(digest) && duty.is_split(quorum) {
            duty.status = DutyStatus::Undecided;
        }
    }

    /// What the own client posted.
    pub(super) fn candidate(&self, id: DutyId) -> Option<&Value> {
        self.open.get(&id)?.candidate.as_ref()
    }

    /// Whether this member may be answered about a closed duty now; counts the answer.
    pub(super) fn may_answer(&mut self, member: OperatorIndex, now_ms: u64) -> bool {
        let (since_ms, count) = self.answered.entry(member).or_insert((now_ms, 0));
        if now_ms.saturating_sub(*since_ms) >= ANSWER_WINDOW_MS {
            (*since_ms, *count) = (now_ms, 0);
        }
        let may = *count < ANSWERS_MAX;
        *count += u8::from(may);
        may
    }

    pub(super) fn passed(&mut self, id: DutyId, step: &'static str, now_ms: u64) {
        let duty = match self.open.get_mut(&id) {
            Some(duty) => duty,
            None => match self.recent.get_mut(&id) {
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

    /// Closes a duty that was decided; gives what is stored of it.
    pub(super) fn decide(
        &mut self,
        id: DutyId,
        value: Value,
        certificate: Certificate,
        now_ms: u64,
    ) -> DutyOutcome {
        self.passed(id, "decided", now_ms);
        self.window.decided(id, now_ms);
        let outcome = match self.open.remove(&id) {
            Some(mut duty) => {
                duty.status = match certificate.group_seal() {
                    Some(_) => DutyStatus::Signed,
                    None => DutyStatus::Decided,
                };
                duty.decided = Some((value, certificate));
                let outcome = duty.outcome();
                self.archive(id, duty);
                outcome
            }
            None => {
                let decided = Some(DutyDecision { certificate, value: value.bytes().clone() });
                DutyOutcome { decided, ..DutyOutcome::default() }
            }
        };
        self.close(id, now_ms);
        outcome
    }

    pub(super) fn sealed(&mut self, id: DutyId, certificate: &Certificate, now_ms: u64) {
        self.passed(id, "combined", now_ms);
        if let Some(duty) = self.recent.get_mut(&id)
            && let Some((_, known)) = &mut duty.decided
        {
            *known = certificate.clone();
        }
    }

    /// Gives up duties that are past any use; returns them, with what is stored of them.
    pub(super) fn expire(&mut self, now_ms: u64) -> Vec<(DutyId, DutyOutcome)> {
        let late = |duty: &DutyState| now_ms.saturating_sub(duty.since_ms) >= DUTY_LIFETIME_MS;
        let late = self.open.iter().filter(|(_, duty)| late(duty)).map(|(id, _)| *id);
        let expired: BTreeSet<DutyId> = late.chain(self.left_behind()).collect();
        let mut outcomes = Vec::new();
        for id in expired {
            let Some(mut duty) = self.open.remove(&id) else { continue };
            duty.status = match duty.digests().len() {
                0 | 1 => DutyStatus::Expired,
                _ => DutyStatus::Undecided,
            };
            outcomes.push((id, duty.outcome()));
            self.archive(id, duty);
            self.close(id, now_ms);
        }
        outcomes
    }

    /// Open duties that the progress has left far behind, the lowest first, as many as are too many.
    fn left_behind(&self) -> Vec<DutyId> {
        let of = |kind: DutyKind| self.open.keys().filter(move |id| id.kind == kind);
        let behind = |kind: DutyKind| {
            let surplus = of(kind).count().saturating_sub(DUTIES_OPEN_MAX);
            of(kind).filter(|id| self.window.is_behind(**id)).take(surplus).copied()
        };
        DutyKind::ALL.into_iter().flat_map(behind).collect()
    }

    /// Takes over a duty that ended in an earlier life.
    pub(super) fn closed_before(&mut self, id: DutyId) {
        if !self.is_below(id) {
            self.closed.entry(id.kind).or_default().insert(id.slot);
        }
    }

    /// Closes everything up to `slot`; never lowers the watermark.
    pub(super) fn raise_watermark(&mut self, kind: DutyKind, slot: Slot) {
        let watermark = self.watermarks.entry(kind).or_insert(slot);
        *watermark = slot.max(*watermark);
        if let Some(closed) = self.closed.get_mut(&kind) {
            closed.forget_up_to(*watermark);
        }
    }

    /// Marks a duty as ended, and raises the watermark to what is settled or too much to remember.
    fn close(&mut self, id: DutyId, now_ms: u64) {
        let kind = id.kind;
        self.closed_before(id);
        let Some(closed) = self.closed.get(&kind) else { return };
        let behind = self.window.progress(kind).map(|slot| Slot(slot.0.saturating_sub(DUTY_SLOTS_NEAR)));
        let crowded = behind.filter(|behind| closed.count_up_to(*behind) > DUTIES_CLOSED_LATE);
        let over = self.window.settled(kind, now_ms).max(crowded);
        let below_open = self.lowest_open(kind).map_or(Some(Slot(u64::MAX)), Slot::previous);
        let limit = over.zip(below_open).map(|(over, below_open)| over.min(below_open));
        if let Some(watermark) = limit.and_then(|limit| closed.highest_up_to(limit)) {
            self.raise_watermark(kind, watermark);
        }
    }

    /// The lowest slot of a kind that is still open.
    pub(super) fn lowest_open(&self, kind: DutyKind) -> Option<Slot> {
        self.open.keys().find(|id| id.kind == kind).map(|id| id.slot)
    }

    pub(super) fn watermark(&self, kind: DutyKind) -> Option<Slot> {
        self.watermarks.get(&kind).copied()
    }

    /// What is known of a duty, for clients.
    pub(super) fn state(&self, id: DutyId) -> Option<&DutyState> {
        self.open.get(&id).or_else(|| self.recent.get(&id))
    }

    /// Duties known in this life, in no order that means anything.
    pub(super) fn all(&self) -> impl Iterator<Item = (DutyId, &DutyState)> {
        self.open.iter().chain(&self.recent).map(|(id, duty)| (*id, duty))
    }

    fn insert(&mut self, id: DutyId, opener: Opener, now_ms: u64) {
        self.open.entry(id).or_insert_with(|| DutyState::new(opener, now_ms));
    }

    fn archive(&mut self, id: DutyId, mut duty: DutyState) {
        // What was decided is kept; what was posted and came to nothing is of no use any more.
        duty.candidate = None;
        self.recent.insert(id, duty);
        self.recent_order.push_back(id);
        let bytes = |duty: &DutyState| duty.decided.as_ref().map_or(0, |(value, _)| value.bytes().0.len());
        while self.recent_order.len() > DUTIES_RECENT_MAX
            || self.recent.values().map(bytes).sum::<usize>() > DUTIES_RECENT_BYTES_MAX
        {
            let Some(oldest) = self.recent_order.pop_front() else { break };
            self.recent.remove(&oldest);
        }
    }
}
