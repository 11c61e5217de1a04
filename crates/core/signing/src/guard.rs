//! What may be signed.
//!
//! The rules of consensus already forbid contradicting oneself; this guard does not rely on them. It
//! remembers every statement by (instance, round, kind), answers a repetition with the stored
//! signature, and refuses everything else, also below the height where its memory ends.
//!
//! # What only its root tells
//!
//! After a restart the vote log gives statements back, and the signing database the keys and roots of
//! statements. A key known by its root alone was lost from the log. There only the very same
//! statement may be made: signing is deterministic, so nobody can tell that it is made again.
//! What the lost records meant for *other* keys holds as well, as far as agreement needs it:
//!
//! * a ROUND-CHANGE does not hide a COMMIT: whoever has committed in a round says so in every later
//!   ROUND-CHANGE by naming that round, or a higher one, as prepared;
//! * a COMMIT is not made in a round that was left: below a lost ROUND-CHANGE there is none.

use crate::history::{Highest, SigningHistory};
use aequa_types::statement::{Claim, Kind};
use aequa_types::{
    Domain, DutyId, DutyKind, Height, InstanceId, Seal, Signed, Slot, SlotSet, Statement, VoteKey, VoteRoot,
};
use std::collections::BTreeMap;

/// What is known of a key that is taken.
#[derive(Debug, Clone)]
pub(crate) enum Taken {
    By(Signed),
    /// By the statement with this root, which was lost.
    Lost(VoteRoot),
}

/// Leave to sign one statement. Only the [`Guard`] of a [`Signer`](crate::Signer) gives one, and the signature it leads
/// to uses it up.
///
/// ```compile_fail,E0451
/// fn forged(statement: aequa_types::Statement) -> aequa_signing::Permit {
///     aequa_signing::Permit { statement, lost: None } // private: only the guard permits
/// }
/// ```
#[derive(Debug)]
pub struct Permit {
    statement: Statement,
    /// Under this key something with this root was signed, and lost: only the same may be signed again.
    lost: Option<VoteRoot>,
}

impl Permit {
    /// What may be signed.
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// Uses it up.
    pub fn into_statement(self) -> Statement {
        self.statement
    }

    /// The COMMIT carries this share of the seal.
    pub(crate) fn add_share(&mut self, share: Option<Seal>) {
        if let Claim::Commit(commit) = &mut self.statement.claim {
            commit.seal = share;
        }
    }

    /// Whether it may still be signed after what was added to it.
    pub(crate) fn holds(&self) -> bool {
        self.lost.is_none_or(|lost| lost == self.statement.vote_root())
    }
}

/// What the guard says to a statement that is not refused.
#[derive(Debug)]
pub(crate) enum Permission {
    /// It may be signed.
    Given(Permit),
    /// It was signed before; this is the signature.
    Signed(Signed),
}

/// Why the guard refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Something else was signed under its key.
    Double,
    /// Its instance is at or below the watermark, or closed.
    Over,
    /// It contradicts what was promised in another round.
    Promised,
    /// Its height is for the operators of the next epoch.
    NextEpoch,
}

/// The memory of what was signed: it permits each thing at most once.
#[derive(Debug, Default)]
pub struct Guard {
    pub(crate) taken: BTreeMap<VoteKey, Taken>,
    /// The highest instance of each domain at and below which nothing is signed.
    watermarks: BTreeMap<Domain, InstanceId>,
    /// The last height of this epoch, once that is known.
    last_height: Option<Height>,
    /// Other operators are in force: nothing is signed under this lock any more.
    is_superseded: bool,
    /// Duties above the watermark that are over.
    closed: BTreeMap<DutyKind, SlotSet>,
    /// Where this operator is known to have been silent: above the first, up to the second.
    silent: BTreeMap<Domain, (InstanceId, InstanceId)>,
    /// Roots of what was signed and not yet handed out to be made durable.
    fresh: Vec<VoteRoot>,
    /// Where the memory is lost: the highest instances in which this operator was shown to have signed.
    shown: Option<Highest>,
}

impl Guard {
    /// A guard that knows nothing yet. One whose history is lost takes for its own what it is shown, until it is told
    /// how far it may have signed.
    pub fn new(history: SigningHistory) -> Self {
        let is_lost = history == SigningHistory::Lost;
        Self { shown: is_lost.then(Highest::default), ..Self::default() }
    }

    /// Whether its memory is lost.
    pub fn has_lost_history(&self) -> bool {
        self.shown.is_some()
    }

    /// This operator was shown to have signed in an instance.
    pub fn was_shown(&mut self, instance: InstanceId) {
        if let Some(shown) = &mut self.shown {
            shown.raise(instance);
        }
    }

    /// What it was shown while its memory was lost. From now on what it does not know is not its own.
    pub fn take_shown(&mut self) -> Option<Highest> {
        self.shown.take()
    }

    /// Takes a statement of our own for one we made, as far as anybody can tell: it is known, too old to tell, or was
    /// made before the history was lost, and is abstained from then. False when it is not from here.
    pub fn recognise(&mut self, signed: &Signed) -> bool {
        let knows = self.knows(signed);
        if !knows {
            self.was_shown(signed.instance);
        }
        knows || self.has_lost_history()
    }

    /// Takes over a statement that was signed in an earlier life.
    pub fn remember(&mut self, signed: &Signed) {
        self.taken.entry(signed.vote_key()).or_insert_with(|| Taken::By(signed.clone()));
    }

    /// Takes over the root of an earlier life; call it when all statements are known.
    pub fn remember_vote(&mut self, vote: VoteRoot) {
        self.taken.entry(vote.key).or_insert(Taken::Lost(vote));
    }

    /// Never signs in the domain of `watermark` from now on, there and below, and forgets what it knew of it.
    pub fn raise_watermark(&mut self, watermark: InstanceId) {
        let domain = watermark.domain();
        let raised = self.watermarks.entry(domain).or_insert(watermark);
        *raised = (*raised).max(watermark);
        let watermark = *raised;
        let (first, above) = (VoteKey::first_of(domain.instance(0)), VoteKey::first_of(watermark.next()));
        self.taken.extract_if(first..above, |_, _| true).for_each(drop);
        if let InstanceId::Duty(DutyId { kind, slot }) = watermark
            && let Some(closed) = self.closed.get_mut(&kind)
        {
            closed.forget_up_to(slot);
        }
    }

    /// Never signs for this duty from now on, and forgets what it knew of it.
    pub fn close(&mut self, duty: DutyId) {
        let instance = InstanceId::from(duty);
        if self.is_over(instance) {
            return;
        }
        self.closed.entry(duty.kind).or_default().insert(duty.slot);
        let (first, after) = (VoteKey::first_of(instance), VoteKey::first_of(instance.next()));
        self.taken.extract_if(first..after, |_, _| true).for_each(drop);
    }

    /// Signs for no block above this height: it is decided under another lock, by operators who rely on that. Whoever
    /// says another one knows that nobody relies on the one before.
    pub fn end_after(&mut self, last_height: Height) {
        self.last_height = Some(last_height);
    }

    /// Whether something above this height may be decided with what was signed: a COMMIT was. With less nothing is.
    pub fn has_committed_above(&self, height: Height) -> bool {
        let from = VoteKey::first_of(InstanceId::Block(height.next()));
        let blocks = self.taken.range(from..).take_while(|(key, _)| key.instance.height().is_some());
        blocks.into_iter().any(|(key, _)| key.kind == Kind::Commit)
    }

    /// Signs nothing any more: the members are under another lock.
    pub fn supersede(&mut self) {
        self.is_superseded = true;
    }

    /// The last height of this epoch, once that is known.
    pub fn last_height(&self) -> Option<Height> {
        self.last_height
    }

    /// As [`Guard::raise_watermark`], by an operator of which nobody has seen anything above `seen`: a
    /// statement of its own in between is not from here, for nothing will be signed there. What stopped it
    /// once is below the watermark of then, and stops it no more.
    pub fn abstain(&mut self, seen: Option<InstanceId>, watermark: InstanceId) {
        let domain = watermark.domain();
        let seen = self.watermarks.get(&domain).copied().max(seen).unwrap_or_else(|| domain.instance(0));
        self.silent.insert(domain, (seen, watermark));
        self.raise_watermark(watermark);
    }

    /// At and below these, each in its domain, nothing is signed.
    pub fn watermarks(&self) -> impl Iterator<Item = InstanceId> {
        self.watermarks.values().copied()
    }

    /// The highest instance of `domain` that this operator is bound in: it has signed there, or may have.
    pub fn highest_bound(&self, domain: Domain) -> Option<InstanceId> {
        let after = VoteKey::first_of(domain.instance(u64::MAX));
        let taken = self.taken.range(..after).next_back().map(|(key, _)| key.instance);
        let taken = taken.filter(|instance| instance.domain() == domain);
        let closed = match domain {
            Domain::Block => None,
            Domain::Duty(kind) => self
                .closed
                .get(&kind)
                .and_then(|closed| closed.highest_up_to(Slot(u64::MAX)))
                .map(|slot| InstanceId::duty(kind, slot)),
        };
        taken.max(closed).max(self.watermarks.get(&domain).copied())
    }

    /// The roots of what was signed since the last call: to be durable before anything is sent.
    pub fn take_fresh(&mut self) -> Vec<VoteRoot> {
        std::mem::take(&mut self.fresh)
    }

    /// Whether this statement of our own is one we made, or too old to tell.
    pub(crate) fn knows(&self, signed: &Signed) -> bool {
        let instance = signed.instance;
        let silent = self.silent.get(&instance.domain());
        let was_silent = silent.is_some_and(|(seen, up_to)| instance > *seen && instance <= *up_to);
        (self.is_over(instance) && !was_silent)
            || match self.taken.get(&signed.vote_key()) {
                Some(Taken::By(known)) => known.statement == signed.statement,
                Some(Taken::Lost(vote)) => *vote == signed.vote_root(),
                None => false,
            }
    }

    /// Whether this may be signed now.
    pub(crate) fn permit(&self, statement: Statement) -> Result<Permission, Refusal> {
        if self.is_over(statement.instance) {
            return Err(Refusal::Over);
        }
        if self.is_superseded {
            return Err(Refusal::NextEpoch);
        }
        if let (Some(height), Some(last)) = (statement.instance.height(), self.last_height)
            && height > last
        {
            return Err(Refusal::NextEpoch);
        }
        match self.taken.get(&statement.vote_key()) {
            Some(Taken::By(before)) if before.agrees_with(&statement) => {
                Ok(Permission::Signed(before.clone()))
            }
            Some(Taken::By(_)) => Err(Refusal::Double),
            Some(Taken::Lost(vote)) => Ok(Permission::Given(Permit { statement, lost: Some(*vote) })),
            None if self.goes_back_on_a_promise(&statement) => Err(Refusal::Promised),
            None => Ok(Permission::Given(Permit { statement, lost: None })),
        }
    }

    /// What was permitted is signed: its key is taken.
    pub(crate) fn take(&mut self, signed: Signed) {
        let vote = signed.vote_root();
        self.fresh.push(vote);
        self.taken.insert(vote.key, Taken::By(signed));
    }

    /// Whether the instance is at or below the watermark, or closed.
    fn is_over(&self, instance: InstanceId) -> bool {
        let is_closed =
            |duty: DutyId| self.closed.get(&duty.kind).is_some_and(|closed| closed.contains(duty.slot));
        self.watermarks.get(&instance.domain()).is_some_and(|watermark| instance <= *watermark)
            || instance.as_duty().is_some_and(is_closed)
    }

    /// Whether a statement of a round contradicts what was promised in another round.
    fn goes_back_on_a_promise(&self, statement: &Statement) -> bool {
        let keys = self
            .taken
            .range(VoteKey::first_of(statement.instance)..)
            .take_while(|(key, _)| key.instance == statement.instance);
        match &statement.claim {
            Claim::RoundChange(change) => {
                let prepared = change.prepared.map(|prepared| prepared.round);
                let committed = keys
                    .filter(|(key, _)| key.kind == Kind::Commit && key.round < statement.round)
                    .map(|(key, _)| key.round);
                committed.max() > prepared
            }
            Claim::Commit(_) => keys
                .filter(|(_, taken)| matches!(taken, Taken::Lost(_)))
                .any(|(key, _)| key.kind == Kind::RoundChange && key.round > statement.round),
            Claim::PrePrepare(_) | Claim::Prepare(_) => false,
        }
    }
}
