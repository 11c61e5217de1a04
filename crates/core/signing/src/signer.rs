//! The keys behind the guard: nothing is signed that it has not permitted.

use crate::guard::{Guard, Permission, Permit, Refusal};
use aequa_types::{Seal, Signed, Statement};

/// An operator's secret keys. Signing must be deterministic: the same statement, the same bytes.
pub trait Keys {
    /// Signs what is permitted with the identity key.
    fn sign(&self, permit: Permit) -> Signed;

    /// This operator's share of the seal of a permitted COMMIT; `None` when it holds no share.
    fn share(&self, permit: &Permit) -> Option<Seal>;
}

/// Signs each thing at most once.
#[derive(Debug)]
pub struct Signer<K> {
    keys: K,
    seals: bool,
    guard: Guard,
}

impl<K: Keys> Signer<K> {
    /// A signer behind `guard`; `seals` adds seal shares to COMMITs.
    pub fn new(keys: K, seals: bool, guard: Guard) -> Self {
        Self { keys, seals, guard }
    }

    /// What was signed.
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// What was signed, to be told more of it.
    pub fn guard_mut(&mut self) -> &mut Guard {
        &mut self.guard
    }

    /// Signs, or returns what was signed under this key before if it says the same, or refuses.
    pub fn sign(&mut self, statement: Statement) -> Result<Signed, Refusal> {
        let mut permit = match self.guard.permit(statement)? {
            Permission::Signed(before) => return Ok(before),
            Permission::Given(permit) => permit,
        };
        if self.seals && permit.statement().decision().is_some() {
            permit.add_share(self.keys.share(&permit));
        }
        if !permit.holds() {
            return Err(Refusal::Double);
        }
        let signed = self.keys.sign(permit);
        self.guard.take(signed.clone());
        Ok(signed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_types::statement::{Claim, CommitClaim, Prepared, RoundChangeClaim};
    use aequa_types::{
        Digest, Domain, DutyId, DutyKind, Height, InstanceId, OperatorIndex, Round, Signature, Slot,
    };

    struct PlainKeys;

    impl Keys for PlainKeys {
        fn sign(&self, permit: Permit) -> Signed {
            Signed { statement: permit.into_statement(), signature: Signature::ZERO }
        }
        fn share(&self, _: &Permit) -> Option<Seal> {
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
        let mut signer = Signer::new(PlainKeys, true, Guard::default());
        let first = signer.sign(prepare(5, 1)).unwrap();
        assert_eq!(signer.sign(prepare(5, 1)), Ok(first));
        assert_eq!(signer.sign(prepare(5, 2)), Err(Refusal::Double));
    }

    #[test]
    fn what_an_earlier_life_signed_still_binds() {
        let mut signer = Signer::new(PlainKeys, true, Guard::default());
        signer.guard.remember(&Signed { statement: prepare(5, 1), signature: Signature::repeat_byte(9) });
        assert_eq!(signer.sign(prepare(5, 2)), Err(Refusal::Double));
        assert_eq!(signer.sign(prepare(5, 1)).unwrap().signature, Signature::repeat_byte(9));
    }

    #[test]
    fn nothing_is_signed_at_or_below_the_watermark() {
        let mut signer = Signer::new(PlainKeys, true, Guard::default());
        signer.sign(prepare(5, 1)).unwrap();
        signer.guard.raise_watermark(InstanceId::Block(Height(5)));
        assert_eq!(signer.sign(prepare(5, 1)), Err(Refusal::Over));
        assert!(signer.sign(prepare(6, 1)).is_ok());
        assert!(signer.guard.taken.keys().all(|key| key.instance == InstanceId::Block(Height(6))));
    }

    #[test]
    fn for_a_closed_duty_nothing_is_signed_and_nothing_is_remembered() {
        let duty = |slot| DutyId { kind: DutyKind::Sync, slot: Slot(slot) };
        let prepare = |slot| Statement { instance: duty(slot).into(), ..prepare(0, 1) };
        let mut signer = Signer::new(PlainKeys, true, Guard::default());
        let mine = signer.sign(prepare(5)).unwrap();
        signer.sign(prepare(6)).unwrap();
        signer.guard.close(duty(5));
        assert_eq!(signer.sign(prepare(5)), Err(Refusal::Over));
        assert!(signer.guard.knows(&mine), "too old to tell");
        assert!(signer.guard.taken.keys().all(|key| key.instance == duty(6).into()));
        signer.guard.close(duty(9));
        assert_eq!(signer.guard.highest_bound(Domain::Duty(DutyKind::Sync)), Some(duty(9).into()));
        signer.guard.raise_watermark(duty(7).into());
        assert_eq!(signer.sign(prepare(9)), Err(Refusal::Over));
        assert!(signer.sign(prepare(8)).is_ok());
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

    /// A signer that signed these in an earlier life, of which only the roots are left.
    fn with_roots_of(statements: &[Statement]) -> Signer<PlainKeys> {
        let mut before = Signer::new(PlainKeys, true, Guard::default());
        statements.iter().for_each(|statement| assert!(before.sign(statement.clone()).is_ok()));
        let mut signer = Signer::new(PlainKeys, true, Guard::default());
        before.guard.take_fresh().into_iter().for_each(|vote| signer.guard.remember_vote(vote));
        signer
    }

    #[test]
    fn where_only_a_mark_is_left_the_very_same_statement_may_be_made_and_no_other() {
        let mut signer = with_roots_of(&[prepare(5, 1), commit(0, 1)]);
        assert_eq!(signer.sign(prepare(5, 2)), Err(Refusal::Double));
        assert_eq!(signer.sign(commit(0, 2)), Err(Refusal::Double));
        let again = signer.sign(prepare(5, 1)).unwrap();
        assert!(signer.guard.knows(&again));
        assert!(signer.sign(commit(0, 1)).is_ok());
        assert!(signer.sign(prepare(6, 2)).is_ok(), "other keys are free");
    }

    #[test]
    fn without_the_share_of_the_seal_it_is_another_statement() {
        let mut signer = with_roots_of(&[commit(0, 1)]);
        signer.seals = false;
        assert_eq!(signer.sign(commit(0, 1)), Err(Refusal::Double));
    }

    #[test]
    fn a_round_change_does_not_hide_a_commit() {
        for remembered in [false, true] {
            let mut signer = match remembered {
                false => with_roots_of(&[commit(1, 1)]),
                true => {
                    let mut signer = Signer::new(PlainKeys, true, Guard::default());
                    signer.sign(commit(1, 1)).unwrap();
                    signer
                }
            };
            assert_eq!(signer.sign(change(2, None)), Err(Refusal::Promised));
            assert_eq!(signer.sign(change(2, Some(0))), Err(Refusal::Promised));
            assert!(signer.sign(change(1, None)).is_ok(), "that round came before the commit");
            assert!(signer.sign(change(2, Some(1))).is_ok());
        }
    }

    #[test]
    fn nothing_is_committed_below_a_lost_round_change() {
        let mut signer = with_roots_of(&[change(3, None)]);
        assert_eq!(signer.sign(commit(2, 1)), Err(Refusal::Promised));
        assert!(signer.sign(commit(3, 1)).is_ok());
        // One that is known: the instance knows what it left, and may have learnt of a decision.
        let mut signer = Signer::new(PlainKeys, true, Guard::default());
        signer.sign(change(3, None)).unwrap();
        assert!(signer.sign(commit(2, 1)).is_ok());
    }

    #[test]
    fn what_is_signed_leaves_a_mark_and_what_is_repeated_none() {
        let mut signer = Signer::new(PlainKeys, true, Guard::default());
        let signed = signer.sign(commit(0, 1)).unwrap();
        assert_eq!(signer.guard.take_fresh(), [signed.vote_root()]);
        signer.sign(commit(0, 1)).unwrap();
        assert_eq!(signer.sign(commit(0, 2)), Err(Refusal::Double));
        assert_eq!(signer.guard.take_fresh(), []);
    }
}
