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

use crate::duties::window::DUTY_SLOTS_AHEAD;
use crate::io::{DutyAdmission, Halt, Input, Memory, Notice, Timer};
use crate::output::{Outbound, Tell};
use crate::replica::{INSTANCES_KEPT, Replica};
use crate::signer::Keys;
use aequa_types::limits::TESTIMONY_STATEMENTS_MAX;
use aequa_types::sync::CheckedTestimony;
use aequa_types::{
    Certificate, CheckedBlock, Domain, DutyId, DutyKind, Height, InstanceId, Kind, OperatorIndex, Quorum,
    Signed, Slot, Verified,
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

    fn hear(&mut self, from: OperatorIndex, testimony: &CheckedTestimony) {
        self.heard.insert(from);
        testimony.certified.iter().for_each(|instance| self.certified.raise(*instance));
        testimony.signed.iter().for_each(|signed| self.signed.raise(signed.instance));
        let duties = testimony.bound.iter().filter_map(|instance| instance.as_duty());
        if let Some(slot) = duties.map(|duty| duty.slot).max() {
            self.bound.insert(from, slot);
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
    fn room_for_duty(&mut self, duty: DutyId) -> Option<&mut Vec<Input>> {
        let again =
            self.duties.iter().filter(|input| matches!(input, Input::Duty { duty: of, .. } if *of == duty));
        let waits = self.memory == Memory::Unproven
            && again.count() < POSTS_PER_DUTY_MAX
            && self.duties.len() < DUTIES_WAITING_MAX;
        waits.then_some(&mut self.duties)
    }

    fn is_over(&self) -> bool {
        self.heard.len() >= self.needed
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
struct Highest(BTreeMap<Domain, InstanceId>);

impl Highest {
    fn raise(&mut self, instance: InstanceId) {
        let highest = self.0.entry(instance.domain()).or_insert(instance);
        *highest = instance.max(*highest);
    }

    fn of(&self, domain: Domain) -> Option<InstanceId> {
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

impl<K: Keys> Replica<K> {
    /// Whether it still has to hear what members saw it sign: it follows the chain and signs nothing.
    pub fn is_inquiring(&self) -> bool {
        self.inquiry.is_some()
    }

    /// Whether its chain has come to where it once was. Who signed in a height had decided the one before;
    /// until that is here again, an answer of this replica would not be that of an honest signer.
    pub fn may_testify(&self) -> bool {
        let lost = self.inquiry.as_ref().is_some_and(|inquiry| inquiry.memory == Memory::Lost);
        let next = InstanceId::Block(self.chain.tip().height.next());
        !lost && self.signer.highest_bound(Domain::Block) <= Some(next)
    }

    /// What this replica has seen of `operator`, to be shown to it: of blocks, whose heights follow each other,
    /// the newest statement of each kind; of duties what it said last, the newest first.
    pub fn newest_statements_of(&self, operator: OperatorIndex) -> Vec<Signed> {
        let mut newest: BTreeMap<Kind, &Signed> = BTreeMap::new();
        let seen = self.witness.statements_of(operator).chain(self.early.statements_of(operator));
        for signed in seen.filter(|signed| signed.instance.is_block()) {
            let kept = newest.entry(signed.kind()).or_insert(signed);
            if kept.place() < signed.place() {
                *kept = signed;
            }
        }
        let of_duties = self.heard.statements_of(operator);
        newest.into_values().chain(of_duties).take(TESTIMONY_STATEMENTS_MAX).cloned().collect()
    }

    /// The highest instance of each domain in which this operator is bound, where there is one.
    pub fn bound(&self) -> Vec<InstanceId> {
        let highest = Domain::ALL.into_iter().filter_map(|domain| self.signer.highest_bound(domain));
        highest.filter(|instance| instance.number() > 0).collect()
    }

    /// Takes an input while the members are being asked.
    pub(crate) fn step_inquiring(&mut self, input: Input) {
        match input {
            Input::Testimony { from, testimony } => self.hear(from, &testimony),
            Input::PeerConnected(operator) => {
                self.out.send(Outbound::Inquire(operator));
                // It accuses by itself: nothing of it has to be signed.
                self.gossip_evidence();
            }
            Input::Timer(Timer::CatchUp) => {
                self.ask_members();
                self.fetch_if_behind();
                self.set_timer(Timer::CatchUp, crate::sync::CATCH_UP_INTERVAL_MS);
            }
            Input::Message { from, message } => {
                // What it carries of our own stops an old copy, and is abstained from after a loss.
                self.witness_message(&message);
                self.note_height(from, &message)
            }
            Input::Duty { duty, ticket, .. } => {
                let room = self.inquiry.as_mut().and_then(|inquiry| inquiry.room_for_duty(duty));
                match room {
                    Some(duties) => duties.push(input),
                    None => self.out.tell(Tell::DutyAdmission(ticket, DutyAdmission::Overloaded)),
                }
            }
            Input::Timer(_) => {}
            Input::Statement(_)
            | Input::Evidence(_)
            | Input::Transactions(_)
            | Input::Combined { .. }
            | Input::Fetched { .. }
            | Input::FetchFailed { .. }
            | Input::PeerHeight { .. } => self.take(input),
        }
    }

    /// Asks who has not answered, now and then.
    pub(crate) fn ask_members(&mut self) {
        let now_ms = self.now.elapsed_ms;
        let Some(inquiry) = &mut self.inquiry else { return };
        if inquiry.asked_ms.is_some_and(|asked| now_ms.saturating_sub(asked) < ASK_INTERVAL_MS) {
            return;
        }
        let first = inquiry.asked_ms.replace(now_ms).is_none() && inquiry.memory == Memory::Unproven;
        let me = self.config.me;
        let silent = self.config.quorum.members().filter(|member| *member != me);
        for member in silent.filter(|member| !inquiry.heard.contains(member)) {
            self.out.send(Outbound::Inquire(member));
        }
        let (answers, needed) = (inquiry.heard.len(), inquiry.needed);
        // Connections are still being made at a start: that nobody has answered yet is no news.
        if !first {
            self.out.notify(Notice::Inquiring { answers, needed });
        }
    }

    fn hear(&mut self, from: OperatorIndex, testimony: &CheckedTestimony) {
        let Some(inquiry) = self.inquiry.as_mut().filter(|_| from != self.config.me) else { return };
        inquiry.hear(from, testimony);
        let memory = inquiry.memory;
        for certified in testimony.certified.iter().filter_map(|instance| instance.height()) {
            self.catchup.shown(from, certified);
            // Its q signers had decided the one before.
            self.fetched_only = self.fetched_only.max(certified.previous().unwrap_or_default());
        }
        if memory == Memory::Unproven {
            self.compare(testimony);
        }
        let Some(inquiry) = self.inquiry.as_mut().filter(|inquiry| inquiry.is_over()) else { return };
        let (floors, duties) = (inquiry.floors(), std::mem::take(&mut inquiry.duties));
        let (owed, seen) = (std::mem::take(&mut inquiry.owed), inquiry.seen());
        self.inquiry = None;
        if memory == Memory::Lost {
            for floor in &floors {
                self.signer.abstain(seen.of(floor.domain()), *floor);
            }
            self.out.raise_floors(floors.clone());
            self.out.trust();
            self.out.notify(Notice::Abstaining(floors));
        }
        self.add_owed_shares(owed);
        self.begin();
        duties.into_iter().for_each(|duty| self.take(duty));
    }

    /// What a member has seen of this operator, heard by one that knows what it signed.
    pub(crate) fn compare(&mut self, testimony: &CheckedTestimony) {
        for signed in &testimony.signed {
            self.stop_if_unknown(signed);
        }
    }

    /// A statement of ours that we know nothing of means that the key is used elsewhere, or that the
    /// directory is older than what was signed.
    pub(crate) fn stop_if_unknown(&mut self, signed: &Signed) -> bool {
        let (operator, instance) = (self.config.me, signed.instance);
        if signed.author != operator || self.signer.knows(signed) {
            return false;
        }
        if let Some(inquiry) = self.inquiry.as_mut().filter(|inquiry| inquiry.memory == Memory::Lost) {
            inquiry.signed.raise(instance);
            return false;
        }
        // Whoever showed it may not be there the next time it asks.
        self.out.raise_floors([instance]);
        self.out.halt(Halt::SignedElsewhere { operator, instance });
        true
    }

    /// The same for what comes with other statements, where old ones are. At a decided height nothing is at
    /// stake any more.
    pub(crate) fn stop_if_foreign(&mut self, signed: &Signed) -> bool {
        let over = signed.instance.height().is_some_and(|height| height <= self.chain.tip().height);
        !over && self.stop_if_unknown(signed)
    }

    fn note_height(&mut self, from: OperatorIndex, message: &Verified) {
        if let Some(decided) = message.instance().height().and_then(Height::previous) {
            self.catchup.shown(from, decided);
            self.fetch_if_behind();
        }
    }
}
