//! Before an operator takes part: the members are asked what they saw it sign.
//!
//! ```text
//!   start ─▶ rejoining ── enough answers ──▶ taking part
//!               │ ▲                               │
//!               └─┘ follows the chain             │ a statement of ours that we do not know
//!                   signs nothing                 ▼
//!                                       stops; the next start has lost its history
//! ```
//!
//! # States
//!
//! | history | answers needed | what a statement of ours that we do not know means |
//! |---|---|---|
//! | trusted | none | the key is used elsewhere, or the directory is older than what was signed: stop |
//! | unverified: it looks whole, and so does an old copy | q-1 | the same |
//! | lost | q | it was made before the loss, and is abstained from |
//! | none: new in a cluster that is not | q-1 | as for one that is unverified |
//!
//! # Rules
//!
//! 1. Until enough *other* members have answered it signs nothing, not even what it signed before; it follows the
//!    chain, admits transactions and collects evidence. Members that start together answer each other, unless their
//!    own history is lost.
//! 2. Whoever lost its history then abstains, in each domain; whoever is new there does so from duties, which operators
//!    before it may have signed otherwise:
//!
//!    | domain | nothing is signed up to |
//!    |---|---|
//!    | block | the highest certified height + [`BLOCKS_ABSTAINED`], or the highest instance shown |
//!    | duties | the highest slot certified or shown, or reached by f+1 members, or 0, + [`SLOTS_ABSTAINED`] |
//!
//! 3. Only what is proven raises that: certificates, and statements with this operator's own signature. A bare claim
//!    cannot keep it out. Slots do not follow each other; there one counts too that f+1 members say they have
//!    signed in, for one of them is honest.
//! 4. Whoever shows the certificate of a height had the block before decided, and so had f+1 honest others: up to
//!    there blocks are fetched and nothing is said about them, at any start.
//! 5. Where it abstains is durable before anything of the turn leaves; only then is the directory trusted again.
//!
//! # Why that is enough
//!
//! Any decision this operator took part in had q signers, so an honest one of q who answer is at most one height
//! behind it; and whoever voted in a height has decided the one before. So nothing was signed above the highest
//! certified height plus two. An old copy lacks what q-1 others have heard: they write down what is said to them
//! before they make anything of it.

use crate::context::Context;
use crate::duties::DUTY_SLOTS_AHEAD;
use crate::instances::INSTANCES_KEPT;
use crate::io::{Input, Notice};
use crate::output::Outbound;
use crate::sync::FetchedBlock;
use aequa_signing::{Highest, SigningHistory};
use aequa_types::sync::CheckedTestimony;
use aequa_types::{DutyId, DutyKind, Height, InstanceId, OperatorIndex, Quorum, Slot};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

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

/// What members have answered so far.
#[derive(Debug)]
pub(crate) struct Rejoin {
    history: SigningHistory,
    needed: usize,
    heard: BTreeSet<OperatorIndex>,
    certified: Highest,
    /// The highest slot of a duty in which each member says that it is bound itself.
    bound: BTreeMap<OperatorIndex, Slot>,
    /// How many members must say so for an honest one to be among them.
    weak_quorum: usize,
    asked_ms: Option<u64>,
    /// Duties posted meanwhile: the answers take a moment, and a client is not turned away for that.
    duties: Vec<Input>,
    /// The newest blocks fetched meanwhile: the others may need this operator's share for their seals.
    owed: VecDeque<FetchedBlock>,
}

/// What waited for the answers.
pub(crate) struct Finished {
    /// Blocks whose seals may need this operator's share.
    pub owed: VecDeque<FetchedBlock>,
    /// Posts of duties.
    pub duties: Vec<Input>,
}

impl Rejoin {
    /// None when nobody has to be asked.
    pub(crate) fn begin(history: SigningHistory, quorum: Quorum) -> Option<Self> {
        let needed = match history {
            SigningHistory::Trusted => 0,
            SigningHistory::Unverified | SigningHistory::Newcomer => quorum.quorum() - 1,
            SigningHistory::Lost => quorum.quorum(),
        };
        (needed > 0).then(|| Self {
            history,
            needed,
            heard: BTreeSet::new(),
            certified: Highest::default(),
            bound: BTreeMap::new(),
            weak_quorum: quorum.weak_quorum(),
            asked_ms: None,
            duties: Vec::new(),
            owed: VecDeque::new(),
        })
    }

    /// A member has answered.
    pub(crate) fn hear(&mut self, from: OperatorIndex, testimony: &CheckedTestimony) {
        self.heard.insert(from);
        testimony.certified.iter().for_each(|instance| self.certified.raise(*instance));
        let duties = testimony.bound.iter().filter_map(|instance| instance.as_duty());
        if let Some(slot) = duties.map(|duty| duty.slot).max() {
            self.bound.insert(from, slot);
        }
    }

    /// Asks who has not answered, now and then.
    pub(crate) fn ask(&mut self, cx: &mut Context) {
        let now_ms = cx.now.elapsed_ms;
        if self.asked_ms.is_some_and(|asked| now_ms.saturating_sub(asked) < ASK_INTERVAL_MS) {
            return;
        }
        let is_first = self.asked_ms.replace(now_ms).is_none() && self.history == SigningHistory::Unverified;
        let others = cx.config.quorum.members().filter(|member| *member != cx.config.me);
        for member in others.filter(|member| !self.heard.contains(member)) {
            cx.out.send(Outbound::Inquire(member));
        }
        // Connections are still being made at a start: that nobody has answered yet is no news.
        if !is_first {
            let (answers, needed) = (self.heard.len(), self.needed);
            cx.out.notify(Notice::Rejoining { answers, needed });
        }
    }

    /// Keeps a fetched block until signing is allowed again.
    pub(crate) fn owe_share(&mut self, block: FetchedBlock) {
        self.owed.push_back(block);
        if self.owed.len() as u64 > INSTANCES_KEPT {
            self.owed.pop_front();
        }
    }

    /// Where a post for a duty may wait. After a loss it takes too long. Posted again and again, a duty takes no more
    /// than a few of the places.
    pub(crate) fn room_for_duty(&mut self, duty: DutyId) -> Option<&mut Vec<Input>> {
        let again =
            self.duties.iter().filter(|input| matches!(input, Input::Duty { duty: of, .. } if *of == duty));
        let waits = self.history == SigningHistory::Unverified
            && again.count() < POSTS_PER_DUTY_MAX
            && self.duties.len() < DUTIES_WAITING_MAX;
        waits.then_some(&mut self.duties)
    }

    /// Whether this operator is new in its place.
    pub(crate) fn is_newcomer(&self) -> bool {
        self.history == SigningHistory::Newcomer
    }

    /// Whether enough members have answered.
    pub(crate) fn is_over(&self) -> bool {
        self.heard.len() >= self.needed
    }

    /// Enough have answered.
    pub(crate) fn finish(self) -> Finished {
        Finished { owed: self.owed, duties: self.duties }
    }

    /// Up to where nothing may be signed after all that was heard, with the highest instance of each domain that is
    /// certified, or in which this operator was shown to have signed. Duties of all kinds share the slots of one
    /// clock.
    pub(crate) fn watermarks(&self, shown: &Highest) -> Vec<(Option<InstanceId>, InstanceId)> {
        let mut seen = self.certified.clone();
        seen.raise_to(shown);
        let certified = self.certified.block().unwrap_or_default();
        let block = Height(certified.0.saturating_add(BLOCKS_ABSTAINED));
        let block = shown.block().unwrap_or_default().max(block);
        let above = |slot: Slot, slots: u64| Slot(slot.0.saturating_add(slots));
        let reached = self.slot_of_honest();
        // Nobody begins a duty higher than that: what is claimed beyond was begun before anything was decided.
        let reached = match self.certified.slot() {
            Some(certified) => reached.map(|slot| slot.min(above(certified, DUTY_SLOTS_AHEAD))),
            None => reached,
        };
        let slot = seen.slot().max(reached).unwrap_or_default();
        let slot = above(slot, SLOTS_ABSTAINED);
        let duties = DutyKind::ALL.into_iter().map(|kind| InstanceId::duty(kind, slot));
        // A newcomer is no older than the first height of its epoch, and nothing was signed there before.
        let block = (!self.is_newcomer()).then_some(InstanceId::Block(block));
        let watermarks = block.into_iter().chain(duties);
        watermarks.map(|watermark| (seen.of(watermark.domain()), watermark)).collect()
    }

    /// A slot that an honest member is bound in, or one above it: the highest that f+1 say they have reached.
    fn slot_of_honest(&self) -> Option<Slot> {
        let mut slots: Vec<Slot> = self.bound.values().copied().collect();
        slots.sort_unstable_by_key(|slot| std::cmp::Reverse(*slot));
        slots.get(self.weak_quorum.checked_sub(1)?).copied()
    }
}
