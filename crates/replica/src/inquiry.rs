//! When this operator's memory of what it signed is lost, or older than what it signed: asking the
//! members, and abstaining from everything it may have taken part in.
//!
//! The answers of q *other* members are needed. Any decision this operator took part in had q
//! signers, so an honest one of those who answer is at most one height behind it; and whoever voted
//! in a height has decided the one before. So nothing was signed above the highest certified height
//! plus two. Only what is proven raises that: certificates, and statements with this operator's own
//! signature. A bare claim cannot keep it out.
//!
//! | domain | nothing is signed up to |
//! |---|---|
//! | block | the highest certified height + [`BLOCKS_ABSTAINED`], or the highest instance shown |
//! | duties | the highest slot certified or shown + [`SLOTS_ABSTAINED`] |
//!
//! Until then it follows the chain and signs nothing, not even what it signed before.
//!
//! A node that has not lost its memory asks every member once it is connected, and stops when one
//! shows it a statement of its own that it does not know.

use crate::io::{DutyAdmission, Effect, Halt, Input, Notice, Timer};
use crate::replica::Replica;
use crate::signer::Keys;
use aequa_types::sync::CheckedTestimony;
use aequa_types::{Domain, Height, InstanceId, OperatorIndex, Quorum, Signed, Verified};
use std::collections::{BTreeMap, BTreeSet};

/// Heights above the highest certified one that may hold a vote of this operator.
pub const BLOCKS_ABSTAINED: u64 = 2;
/// Slots above the highest one shown that may hold a vote of this operator: two epochs, the furthest
/// ahead that duties are known.
pub const SLOTS_ABSTAINED: u64 = 64;
/// How often those who have not answered are asked again.
const ASK_INTERVAL_MS: u64 = 2000;

/// An inquiry under way.
#[derive(Debug)]
pub(crate) struct Inquiry {
    needed: usize,
    heard: BTreeSet<OperatorIndex>,
    certified: BTreeMap<Domain, Height>,
    signed: BTreeMap<Domain, Height>,
    asked_ms: Option<u64>,
}

impl Inquiry {
    pub(crate) fn new(quorum: Quorum) -> Self {
        Self {
            needed: quorum.quorum(),
            heard: BTreeSet::new(),
            certified: BTreeMap::new(),
            signed: BTreeMap::new(),
            asked_ms: None,
        }
    }

    fn hear(&mut self, from: OperatorIndex, testimony: &CheckedTestimony) {
        self.heard.insert(from);
        let raise = |highest: &mut BTreeMap<Domain, Height>, instance: InstanceId| {
            let height = highest.entry(instance.domain).or_default();
            *height = instance.height.max(*height);
        };
        testimony.certified.iter().for_each(|instance| raise(&mut self.certified, *instance));
        testimony.signed.iter().for_each(|signed| raise(&mut self.signed, signed.instance));
    }

    /// Up to where nothing may be signed, once enough members have answered.
    fn floors(&self) -> Option<Vec<(Domain, Height)>> {
        if self.heard.len() < self.needed {
            return None;
        }
        let floor_of = |domain: Domain| {
            let (certified, signed) = (self.certified.get(&domain), self.signed.get(&domain));
            let above = |height: Height, heights: u64| Height(height.0.saturating_add(heights));
            match domain {
                Domain::Block => {
                    let certified = certified.copied().unwrap_or_default();
                    Some(above(certified, BLOCKS_ABSTAINED).max(signed.copied().unwrap_or_default()))
                }
                _ => certified.max(signed).map(|slot| above(*slot, SLOTS_ABSTAINED)),
            }
        };
        Some(Domain::ALL.into_iter().filter_map(|domain| Some((domain, floor_of(domain)?))).collect())
    }
}

impl<K: Keys> Replica<K> {
    /// Whether it still has to hear what it signed: it follows the chain and signs nothing.
    pub fn is_inquiring(&self) -> bool {
        self.inquiry.is_some()
    }

    /// Whether its chain has come to where it once was. Who signed in a height had decided the one before;
    /// until that is here again, an answer of this replica would not be that of an honest signer.
    pub fn may_testify(&self) -> bool {
        !self.is_inquiring() && self.signer.highest_bound(Domain::Block) <= self.chain.tip().height.next()
    }

    /// The newest statement of `operator` in each domain that this replica has seen, to be shown to it.
    pub fn newest_statements_of(&self, operator: OperatorIndex) -> Vec<Signed> {
        let mut newest: BTreeMap<Domain, Signed> = BTreeMap::new();
        let seen = self.instances.values().filter_map(|instance| instance.newest_of(operator));
        for signed in seen.chain(self.early.statements_of(operator)) {
            let place = signed.place();
            let kept = newest.entry(place.instance.domain).or_insert_with(|| signed.clone());
            if kept.place() < place {
                *kept = signed.clone();
            }
        }
        newest.into_values().collect()
    }

    /// Takes an input while the members are being asked.
    pub(crate) fn step_inquiring(&mut self, input: Input) {
        match input {
            Input::Testimony { from, testimony } => self.hear(from, &testimony),
            Input::PeerConnected(operator) => self.out.push(Effect::Inquire(operator)),
            Input::Timer(Timer::CatchUp) => {
                self.ask_members();
                self.fetch_if_behind();
                self.set_timer(Timer::CatchUp, crate::catchup::CATCH_UP_INTERVAL_MS);
            }
            Input::Message { from, message } => self.note_height(from, &message),
            Input::Duty { ticket, .. } => {
                self.out.push(Effect::DutyReply(ticket, DutyAdmission::Overloaded));
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
        inquiry.asked_ms = Some(now_ms);
        let me = self.config.me;
        let silent = self.config.quorum.members().filter(|member| *member != me);
        self.out.extend(silent.filter(|member| !inquiry.heard.contains(member)).map(Effect::Inquire));
        let (answers, needed) = (inquiry.heard.len(), inquiry.needed);
        self.out.push(Effect::Notify(Notice::Inquiring { answers, needed }));
    }

    fn hear(&mut self, from: OperatorIndex, testimony: &CheckedTestimony) {
        let Some(inquiry) = self.inquiry.as_mut().filter(|_| from != self.config.me) else { return };
        inquiry.hear(from, testimony);
        let Some(floors) = inquiry.floors() else { return };
        for (domain, floor) in &floors {
            self.signer.raise_floor(*domain, *floor);
        }
        self.inquiry = None;
        self.out.push(Effect::RaiseFloors(floors.clone()));
        self.out.push(Effect::Notify(Notice::Abstaining(floors)));
        self.begin();
    }

    /// What a member has seen of this operator, heard by one that knows what it signed.
    pub(crate) fn compare(&mut self, testimony: &CheckedTestimony) {
        for signed in &testimony.signed {
            self.stop_if_unknown(signed);
        }
    }

    /// A statement of ours that we know nothing of means that the key is used elsewhere, or that the
    /// directory is older than what was signed. Duties are left out: their memory is pruned by slot.
    pub(crate) fn stop_if_unknown(&mut self, signed: &Signed) -> bool {
        let (operator, height) = (self.config.me, signed.instance.height);
        let unknown = signed.author == operator
            && signed.instance.domain == Domain::Block
            && !self.signer.knows(signed);
        if unknown {
            self.out.push(Effect::Halt(Halt::SignedElsewhere { operator, height }));
        }
        unknown
    }

    fn note_height(&mut self, from: OperatorIndex, message: &Verified) {
        let id = message.instance();
        if id.domain == Domain::Block
            && let Some(decided) = id.height.previous()
        {
            self.catchup.shown(from, decided);
            self.fetch_if_behind();
        }
    }
}
