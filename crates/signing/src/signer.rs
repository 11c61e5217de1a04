//! The last gate before a signature.
//!
//! The rules of consensus already forbid contradicting oneself; this gate does not rely on them. It
//! remembers every statement by (instance, round, kind), answers a repetition with the stored
//! signature, and refuses everything else, also below the height where its memory ends.
//!
//! # What only its mark tells
//!
//! After a restart the vote log gives statements back, and the marks the places and digests of
//! statements. A place known by its mark alone was lost from the log. There only the very same
//! statement may be made: signing is deterministic, so nobody can tell that it is made again.
//! What the lost records meant for *other* places holds as well, as far as agreement needs it:
//!
//! * a ROUND-CHANGE does not hide a COMMIT: whoever has committed in a round says so in every later
//!   ROUND-CHANGE by naming that round, or a higher one, as prepared;
//! * a COMMIT is not made in a round that was left: below a lost ROUND-CHANGE there is none.

use aequa_types::statement::{Claim, Kind};
use aequa_types::{
    Digest, Domain, DutyId, DutyKind, InstanceId, Mark, Place, Round, Seal, Signed, Slot, SlotSet, Statement,
};
use std::collections::BTreeMap;

/// An operator's secret keys. Signing must be deterministic: the same statement, the same bytes.
pub trait Keys {
    /// Signs a statement with the identity key.
    fn sign(&self, statement: Statement) -> Signed;

    /// This operator's share of the seal; `None` when it holds no share.
    fn seal(&self, instance: InstanceId, round: Round, digest: &Digest) -> Option<Seal>;
}

/// What is known of a place that is taken.
#[derive(Debug, Clone)]
enum Taken {
    By(Signed),
    /// By the statement with this mark, which was lost.
    Lost(Mark),
}

/// Signs each thing at most once.
#[derive(Debug, Clone)]
pub struct Signer<K> {
    keys: K,
    seals: bool,
    taken: BTreeMap<Place, Taken>,
    /// The highest instance of each domain at and below which nothing is signed.
    floors: BTreeMap<Domain, InstanceId>,
    /// Duties above the floor that are over.
    closed: BTreeMap<DutyKind, SlotSet>,
    /// Where this operator is known to have been silent: above the first, up to the second.
    silent: BTreeMap<Domain, (InstanceId, InstanceId)>,
    /// Marks of what was signed and not yet handed out to be made durable.
    fresh: Vec<Mark>,
}

impl<K: Keys> Signer<K> {
    /// A signer that remembers nothing yet; `seals` adds seal shares to COMMITs.
    pub fn new(keys: K, seals: bool) -> Self {
        Self {
            keys,
            seals,
            taken: BTreeMap::new(),
            floors: BTreeMap::new(),
            closed: BTreeMap::new(),
            silent: BTreeMap::new(),
            fresh: Vec::new(),
        }
    }

    /// Takes over a statement that was signed in an earlier life.
    pub fn remember(&mut self, signed: &Signed) {
        self.taken.entry(signed.place()).or_insert_with(|| Taken::By(signed.clone()));
    }

    /// Takes over the mark of an earlier life; call it when all statements are known.
    pub fn remember_mark(&mut self, mark: Mark) {
        self.taken.entry(mark.place).or_insert(Taken::Lost(mark));
    }

    /// Never signs in the domain of `floor` from now on, there and below, and forgets what it knew of it.
    pub fn raise_floor(&mut self, floor: InstanceId) {
        let domain = floor.domain();
        let raised = self.floors.entry(domain).or_insert(floor);
        *raised = (*raised).max(floor);
        let floor = *raised;
        let (first, above) = (Place::first_of(domain.instance(0)), Place::first_of(floor.next()));
        self.taken.extract_if(first..above, |_, _| true).for_each(drop);
        if let InstanceId::Duty(DutyId { kind, slot }) = floor
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
        let (first, after) = (Place::first_of(instance), Place::first_of(instance.next()));
        self.taken.extract_if(first..after, |_, _| true).for_each(drop);
    }

    /// As [`Signer::raise_floor`], by an operator of which nobody has seen anything above `seen`: a
    /// statement of its own in between is not from here, for nothing will be signed there. What stopped it
    /// once is below the floor of then, and stops it no more.
    pub fn abstain(&mut self, seen: Option<InstanceId>, floor: InstanceId) {
        let domain = floor.domain();
        let seen = self.floors.get(&domain).copied().max(seen).unwrap_or_else(|| domain.instance(0));
        self.silent.insert(domain, (seen, floor));
        self.raise_floor(floor);
    }

    /// At and below these, each in its domain, nothing is signed.
    pub fn floors(&self) -> impl Iterator<Item = InstanceId> {
        self.floors.values().copied()
    }

    /// The highest instance of `domain` that this operator is bound in: it has signed there, or may have.
    pub fn highest_bound(&self, domain: Domain) -> Option<InstanceId> {
        let after = Place::first_of(domain.instance(u64::MAX));
        let taken = self.taken.range(..after).next_back().map(|(place, _)| place.instance);
        let taken = taken.filter(|instance| instance.domain() == domain);
        let closed = match domain {
            Domain::Block => None,
            Domain::Duty(kind) => self
                .closed
                .get(&kind)
                .and_then(|closed| closed.highest_up_to(Slot(u64::MAX)))
                .map(|slot| InstanceId::duty(kind, slot)),
        };
        taken.max(closed).max(self.floors.get(&domain).copied())
    }

    /// The marks of what was signed since the last call: to be durable before anything is sent.
    pub fn take_fresh(&mut self) -> Vec<Mark> {
        std::mem::take(&mut self.fresh)
    }

    /// Whether this statement of our own is one we made, or too old to tell.
    pub fn knows(&self, signed: &Signed) -> bool {
        let instance = signed.instance;
        let silent = self.silent.get(&instance.domain());
        let was_silent = silent.is_some_and(|(seen, up_to)| instance > *seen && instance <= *up_to);
        (self.is_over(instance) && !was_silent)
            || match self.taken.get(&signed.place()) {
                Some(Taken::By(known)) => known.statement == signed.statement,
                Some(Taken::Lost(mark)) => *mark == signed.mark(),
                None => false,
            }
    }

    /// Signs, or returns what was signed in this place before if it says the same, or refuses.
    pub fn sign(&mut self, mut statement: Statement) -> Option<Signed> {
        if self.is_over(statement.instance) {
            return None;
        }
        let lost = match self.taken.get(&statement.place()) {
            Some(Taken::By(before)) => return before.agrees_with(&statement).then(|| before.clone()),
            Some(Taken::Lost(mark)) => Some(*mark),
            None if self.goes_back_on_a_promise(&statement) => return None,
            None => None,
        };
        if let Claim::Commit(commit) = &mut statement.claim
            && self.seals
        {
            commit.seal = self.keys.seal(statement.instance, statement.round, &commit.digest);
        }
        let mark = statement.mark();
        if lost.is_some_and(|lost| lost != mark) {
            return None;
        }
        let signed = self.keys.sign(statement);
        self.fresh.push(mark);
        self.taken.insert(mark.place, Taken::By(signed.clone()));
        Some(signed)
    }

    /// Whether the instance is at or below the floor, or closed.
    fn is_over(&self, instance: InstanceId) -> bool {
        let is_closed =
            |duty: DutyId| self.closed.get(&duty.kind).is_some_and(|closed| closed.contains(duty.slot));
        self.floors.get(&instance.domain()).is_some_and(|floor| instance <= *floor)
            || instance.as_duty().is_some_and(is_closed)
    }

    /// Whether a statement of a round contradicts what was promised in another round.
    fn goes_back_on_a_promise(&self, statement: &Statement) -> bool {
        let places = self
            .taken
            .range(Place::first_of(statement.instance)..)
            .take_while(|(place, _)| place.instance == statement.instance);
        match &statement.claim {
            Claim::RoundChange(change) => {
                let prepared = change.prepared.map(|prepared| prepared.round);
                let committed = places
                    .filter(|(place, _)| place.kind == Kind::Commit && place.round < statement.round)
                    .map(|(place, _)| place.round);
                committed.max() > prepared
            }
            Claim::Commit(_) => places
                .filter(|(_, taken)| matches!(taken, Taken::Lost(_)))
                .any(|(place, _)| place.kind == Kind::RoundChange && place.round > statement.round),
            Claim::PrePrepare(_) | Claim::Prepare(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_types::statement::{CommitClaim, Prepared, RoundChangeClaim};
    use aequa_types::{Height, OperatorIndex, Signature};

    struct PlainKeys;

    impl Keys for PlainKeys {
        fn sign(&self, statement: Statement) -> Signed {
            Signed { statement, signature: Signature::ZERO }
        }
        fn seal(&self, _: InstanceId, _: Round, _: &Digest) -> Option<Seal> {
            Some(Seal::repeat_byte(7))
        }
    }

    fn prepare(height: u64, digest: u8) -> Statement {
        Statement {
            instance: InstanceId::Block(Height(height)),
            round: Round(0),
            author: OperatorIndex(0),
            claim: Claim::Prepare(Digest::repeat_byte(digest)),
        }
    }

    #[test]
    fn a_second_digest_in_the_same_place_is_never_signed() {
        let mut signer = Signer::new(PlainKeys, true);
        let first = signer.sign(prepare(5, 1)).unwrap();
        assert_eq!(signer.sign(prepare(5, 1)), Some(first));
        assert_eq!(signer.sign(prepare(5, 2)), None);
    }

    #[test]
    fn what_an_earlier_life_signed_still_binds() {
        let mut signer = Signer::new(PlainKeys, true);
        signer.remember(&Signed { statement: prepare(5, 1), signature: Signature::repeat_byte(9) });
        assert_eq!(signer.sign(prepare(5, 2)), None);
        assert_eq!(signer.sign(prepare(5, 1)).unwrap().signature, Signature::repeat_byte(9));
    }

    #[test]
    fn nothing_is_signed_at_or_below_the_floor() {
        let mut signer = Signer::new(PlainKeys, true);
        signer.sign(prepare(5, 1)).unwrap();
        signer.raise_floor(InstanceId::Block(Height(5)));
        assert_eq!(signer.sign(prepare(5, 1)), None);
        assert!(signer.sign(prepare(6, 1)).is_some());
        assert!(signer.taken.keys().all(|place| place.instance == InstanceId::Block(Height(6))));
    }

    #[test]
    fn for_a_closed_duty_nothing_is_signed_and_nothing_is_remembered() {
        let duty = |slot| DutyId { kind: DutyKind::Sync, slot: Slot(slot) };
        let prepare = |slot| Statement { instance: duty(slot).into(), ..prepare(0, 1) };
        let mut signer = Signer::new(PlainKeys, true);
        let mine = signer.sign(prepare(5)).unwrap();
        signer.sign(prepare(6)).unwrap();
        signer.close(duty(5));
        assert_eq!(signer.sign(prepare(5)), None);
        assert!(signer.knows(&mine), "too old to tell");
        assert!(signer.taken.keys().all(|place| place.instance == duty(6).into()));
        signer.close(duty(9));
        assert_eq!(signer.highest_bound(Domain::Duty(DutyKind::Sync)), Some(duty(9).into()));
        signer.raise_floor(duty(7).into());
        assert_eq!(signer.sign(prepare(9)), None);
        assert!(signer.sign(prepare(8)).is_some());
    }

    fn said(round: u64, claim: Claim) -> Statement {
        Statement { round: Round(round), claim, ..prepare(5, 1) }
    }

    fn commit(round: u64, digest: u8) -> Statement {
        said(round, Claim::Commit(CommitClaim { digest: Digest::repeat_byte(digest), seal: None }))
    }

    fn change(round: u64, prepared: Option<u64>) -> Statement {
        let digest = Digest::repeat_byte(1);
        let prepared = prepared.map(|round| Prepared { round: Round(round), digest });
        said(round, Claim::RoundChange(RoundChangeClaim { prepared }))
    }

    /// A signer that signed these in an earlier life, of which only the marks are left.
    fn with_marks_of(statements: &[Statement]) -> Signer<PlainKeys> {
        let mut before = Signer::new(PlainKeys, true);
        statements.iter().for_each(|statement| assert!(before.sign(statement.clone()).is_some()));
        let mut signer = Signer::new(PlainKeys, true);
        before.take_fresh().into_iter().for_each(|mark| signer.remember_mark(mark));
        signer
    }

    #[test]
    fn where_only_a_mark_is_left_the_very_same_statement_may_be_made_and_no_other() {
        let mut signer = with_marks_of(&[prepare(5, 1), commit(0, 1)]);
        assert_eq!(signer.sign(prepare(5, 2)), None);
        assert_eq!(signer.sign(commit(0, 2)), None);
        let again = signer.sign(prepare(5, 1)).unwrap();
        assert!(signer.knows(&again));
        assert!(signer.sign(commit(0, 1)).is_some());
        assert!(signer.sign(prepare(6, 2)).is_some(), "other places are free");
    }

    #[test]
    fn without_the_share_of_the_seal_it_is_another_statement() {
        let mut signer = with_marks_of(&[commit(0, 1)]);
        signer.seals = false;
        assert_eq!(signer.sign(commit(0, 1)), None);
    }

    #[test]
    fn a_round_change_does_not_hide_a_commit() {
        for remembered in [false, true] {
            let mut signer = match remembered {
                false => with_marks_of(&[commit(1, 1)]),
                true => {
                    let mut signer = Signer::new(PlainKeys, true);
                    signer.sign(commit(1, 1)).unwrap();
                    signer
                }
            };
            assert_eq!(signer.sign(change(2, None)), None);
            assert_eq!(signer.sign(change(2, Some(0))), None);
            assert!(signer.sign(change(1, None)).is_some(), "that round came before the commit");
            assert!(signer.sign(change(2, Some(1))).is_some());
        }
    }

    #[test]
    fn nothing_is_committed_below_a_lost_round_change() {
        let mut signer = with_marks_of(&[change(3, None)]);
        assert_eq!(signer.sign(commit(2, 1)), None);
        assert!(signer.sign(commit(3, 1)).is_some());
        // One that is known: the instance knows what it left, and may have learnt of a decision.
        let mut signer = Signer::new(PlainKeys, true);
        signer.sign(change(3, None)).unwrap();
        assert!(signer.sign(commit(2, 1)).is_some());
    }

    #[test]
    fn what_is_signed_leaves_a_mark_and_what_is_repeated_none() {
        let mut signer = Signer::new(PlainKeys, true);
        let signed = signer.sign(commit(0, 1)).unwrap();
        assert_eq!(signer.take_fresh(), [signed.mark()]);
        signer.sign(commit(0, 1)).unwrap();
        signer.sign(commit(0, 2));
        assert_eq!(signer.take_fresh(), []);
    }
}
