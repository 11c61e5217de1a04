//! When this operator's memory of what it signed is lost, or older than what it signed: asking the
//! members, and abstaining from everything it may have taken part in.
//!
//! The answers of q *other* members are needed. Any decision this operator took part in had q
//! signers, so an honest one of those who answer is at most one height behind it; and whoever voted
//! in a height has decided the one before. So nothing was signed above the highest certified height
//! plus two. Only what is proven raises that: certificates, and statements with this operator's own
//! signature. A bare claim cannot keep it out. Duties have slots that do not follow each other; there a slot
//! counts too that f+1 members say they have signed in, for one of them is honest.
//!
//! | domain | nothing is signed up to |
//! |---|---|
//! | block | the highest certified height + [`BLOCKS_ABSTAINED`], or the highest instance shown |
//! | duties | the highest slot certified or shown, or reached by f+1 members, or 0, + [`SLOTS_ABSTAINED`] |
//!
//! Until then it follows the chain and signs nothing, not even what it signed before.
//!
//! Whoever shows the certificate of a height had the block before decided, and so had f+1 honest others: up to
//! there blocks are fetched and nothing is said about them, at any start.
//!
//! A memory that looks whole may be an old copy of one. So every start asks, hears q-1 members, and signs
//! nothing until then; a statement of its own that the node does not know stops it, now and at any later
//! time, and its next start counts its memory as lost. It says itself what it has seen while it asks:
//! members that start together answer each other.

use crate::context::Context;
use crate::duties::DUTY_SLOTS_AHEAD;
use crate::instances::INSTANCES_KEPT;
use crate::io::{Input, Memory, Notice};
use crate::output::Outbound;
use aequa_types::sync::CheckedTestimony;
use aequa_types::{
    Certificate, CheckedBlock, Domain, DutyId, DutyKind, Height, InstanceId, OperatorIndex, Quorum, Slot,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Heights above the highest certified one that may hold a vote of this operator.
pub const BLOCKS_ABSTAINED: u64 = 2;
/// Slots above the highest one shown that may hold a vote of this operator: two epochs, the furthest
/// ahead that duties are known.
pub const SLOTS_ABSTAINED: u64 = 64;
/// Posts that wait until the members have answered.
const DUTIES_WAITING_MAX: usize = 32;
/// Posts for one of them.
const POSTS_PER_DUTY_MAX: usize = 2;
/// How often those who have not answered are asked again.
const ASK_INTERVAL_MS: u64 = 2000;

/// An inquiry under way.
#[derive(Debug)]
pub(crate) struct Inquiry {
    memory: Memory,
    needed: usize,
    heard: BTreeSet<OperatorIndex>,
    certified: Highest,
    signed: Highest,
    /// The highest slot of a duty in which each member says that it is bound itself.
    bound: BTreeMap<OperatorIndex, Slot>,
    /// How many members must say so for an honest one to be among them.
    weak_quorum: usize,
    asked_ms: Option<u64>,
    /// Duties posted meanwhile: the answers take a moment, and a client is not turned away for that.
    duties: Vec<Input>,
    /// The newest blocks fetched meanwhile: the others may need this operator's share for their seals.
    owed: VecDeque<OwedShare>,
}

/// A block whose seal may still need this operator's share.
#[derive(Debug)]
pub(crate) struct OwedShare {
    /// Who handed the block over.
    pub from: OperatorIndex,
    pub block: Arc<CheckedBlock>,
    pub certificate: Certificate,
}

/// What an inquiry has brought.
pub(crate) struct Heard {
    /// Up to where nothing may be signed, where the own memory is lost.
    pub floors: Vec<InstanceId>,
    /// The highest instances in which this operator was seen to sign, or may have.
    pub seen: Highest,
    /// Duties posted meanwhile.
    pub duties: Vec<Input>,
    /// Blocks whose seals may need this operator's share.
    pub owed: VecDeque<OwedShare>,
}

impl Inquiry {
    /// None when nobody has to be asked.
    pub(crate) fn begin(memory: Memory, quorum: Quorum) -> Option<Self> {
        let needed = match memory {
            Memory::Whole => 0,
            Memory::Unproven => quorum.quorum() - 1,
            Memory::Lost => quorum.quorum(),
        };
        (needed > 0).then(|| Self {
            memory,
            needed,
            heard: BTreeSet::new(),
            certified: Highest::default(),
            signed: Highest::default(),
            bound: BTreeMap::new(),
            weak_quorum: quorum.weak_quorum(),
            asked_ms: None,
            duties: Vec::new(),
            owed: VecDeque::new(),
        })
    }

    /// How far the own memory can be relied on.
    pub(crate) fn memory(&self) -> Memory {
        self.memory
    }

    /// A member has answered.
    pub(crate) fn hear(&mut self, from: OperatorIndex, testimony: &CheckedTestimony) {
        self.heard.insert(from);
        testimony.certified.iter().for_each(|instance| self.certified.raise(*instance));
        testimony.signed.iter().for_each(|signed| self.signed.raise(signed.instance));
        let duties = testimony.bound.iter().filter_map(|instance| instance.as_duty());
        if let Some(slot) = duties.map(|duty| duty.slot).max() {
            self.bound.insert(from, slot);
        }
    }

    /// A statement of this operator was shown, after its memory of it was lost.
    pub(crate) fn signed(&mut self, instance: InstanceId) {
        self.signed.raise(instance);
    }

    /// Asks who has not answered, now and then.
    pub(crate) fn ask(&mut self, cx: &mut Context) {
        let now_ms = cx.now.elapsed_ms;
        if self.asked_ms.is_some_and(|asked| now_ms.saturating_sub(asked) < ASK_INTERVAL_MS) {
            return;
        }
        let is_first = self.asked_ms.replace(now_ms).is_none() && self.memory == Memory::Unproven;
        let others = cx.config.quorum.members().filter(|member| *member != cx.config.me);
        for member in others.filter(|member| !self.heard.contains(member)) {
            cx.out.send(Outbound::Inquire(member));
        }
        // Connections are still being made at a start: that nobody has answered yet is no news.
        if !is_first {
            let (answers, needed) = (self.heard.len(), self.needed);
            cx.out.notify(Notice::Inquiring { answers, needed });
        }
    }

    /// Keeps a fetched block until signing is allowed again.
    pub(crate) fn owe_share(
        &mut self,
        from: OperatorIndex,
        block: Arc<CheckedBlock>,
        certificate: Certificate,
    ) {
        self.owed.push_back(OwedShare { from, block, certificate });
        if self.owed.len() as u64 > INSTANCES_KEPT {
            self.owed.pop_front();
        }
    }

    /// Where a post for a duty may wait. After a loss it takes too long. Posted again and again, a duty takes no more
    /// than a few of the places.
    pub(crate) fn room_for_duty(&mut self, duty: DutyId) -> Option<&mut Vec<Input>> {
        let again =
            self.duties.iter().filter(|input| matches!(input, Input::Duty { duty: of, .. } if *of == duty));
        let waits = self.memory == Memory::Unproven
            && again.count() < POSTS_PER_DUTY_MAX
            && self.duties.len() < DUTIES_WAITING_MAX;
        waits.then_some(&mut self.duties)
    }

    /// Whether enough members have answered.
    pub(crate) fn is_over(&self) -> bool {
        self.heard.len() >= self.needed
    }

    /// What enough members have shown.
    pub(crate) fn end(self) -> Heard {
        Heard { floors: self.floors(), seen: self.seen(), duties: self.duties, owed: self.owed }
    }

    /// The highest instance of each domain that is certified, or in which this operator was seen to sign.
    fn seen(&self) -> Highest {
        let mut seen = self.certified.clone();
        self.signed.0.values().for_each(|instance| seen.raise(*instance));
        seen
    }

    /// Up to where nothing may be signed after all that was heard. Duties of all kinds share the slots of one
    /// clock.
    fn floors(&self) -> Vec<InstanceId> {
        let certified = self.certified.block().unwrap_or_default();
        let block = Height(certified.0.saturating_add(BLOCKS_ABSTAINED));
        let block = self.signed.block().unwrap_or_default().max(block);
        let above = |slot: Slot, slots: u64| Slot(slot.0.saturating_add(slots));
        let reached = self.slot_of_honest();
        // Nobody begins a duty higher than that: what is claimed beyond was begun before anything was decided.
        let reached = match self.certified.slot() {
            Some(certified) => reached.map(|slot| slot.min(above(certified, DUTY_SLOTS_AHEAD))),
            None => reached,
        };
        let slot = self.seen().slot().max(reached).unwrap_or_default();
        let slot = above(slot, SLOTS_ABSTAINED);
        let duties = DutyKind::ALL.into_iter().map(|kind| InstanceId::duty(kind, slot));
        [InstanceId::Block(block)].into_iter().chain(duties).collect()
    }

    /// A slot that an honest member is bound in, or one above it: the highest that f+1 say they have reached.
    fn slot_of_honest(&self) -> Option<Slot> {
        let mut slots: Vec<Slot> = self.bound.values().copied().collect();
        slots.sort_unstable_by_key(|slot| std::cmp::Reverse(*slot));
        slots.get(self.weak_quorum.checked_sub(1)?).copied()
    }
}

/// The highest instance of each domain that something was heard of.
#[derive(Debug, Clone, Default)]
pub(crate) struct Highest(BTreeMap<Domain, InstanceId>);

impl Highest {
    fn raise(&mut self, instance: InstanceId) {
        let highest = self.0.entry(instance.domain()).or_insert(instance);
        *highest = instance.max(*highest);
    }

    pub(crate) fn of(&self, domain: Domain) -> Option<InstanceId> {
        self.0.get(&domain).copied()
    }

    fn block(&self) -> Option<Height> {
        self.of(Domain::Block)?.height()
    }

    /// The highest slot of duties of any kind.
    fn slot(&self) -> Option<Slot> {
        self.0.values().filter_map(|instance| instance.as_duty()).map(|duty| duty.slot).max()
    }
}
