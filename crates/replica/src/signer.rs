//! The last gate before a signature.
//!
//! The rules of consensus already forbid contradicting oneself; this gate does not rely on them. It
//! remembers every statement by (instance, round, kind), answers a repetition with the stored
//! signature, and refuses everything else, also below the height where its memory ends.

use aequa_types::statement::Claim;
use aequa_types::{Digest, Domain, Height, InstanceId, Round, Seal, Signed, Statement};
use std::collections::BTreeMap;

/// An operator's secret keys. Signing must be deterministic: the same statement, the same bytes.
pub trait Keys {
    /// Signs a statement with the identity key.
    fn sign(&self, statement: Statement) -> Signed;

    /// This operator's share of the seal; `None` when it holds no share.
    fn seal(&self, instance: InstanceId, round: Round, digest: &Digest) -> Option<Seal>;
}

type Mark = (InstanceId, Round, aequa_types::Kind);

/// Signs each thing at most once.
#[derive(Debug, Clone)]
pub struct Signer<K> {
    keys: K,
    seals: bool,
    marks: BTreeMap<Mark, Signed>,
    floors: BTreeMap<Domain, Height>,
}

impl<K: Keys> Signer<K> {
    /// A signer that remembers nothing yet; `seals` adds seal shares to COMMITs.
    pub fn new(keys: K, seals: bool) -> Self {
        Self { keys, seals, marks: BTreeMap::new(), floors: BTreeMap::new() }
    }

    /// Takes over a statement that was signed in an earlier life.
    pub fn remember(&mut self, signed: &Signed) {
        self.marks.entry(mark(signed)).or_insert_with(|| signed.clone());
    }

    /// Never signs at or below `height` in `domain` from now on, and forgets what it knew of it.
    pub fn raise_floor(&mut self, domain: Domain, height: Height) {
        let floor = self.floors.entry(domain).or_insert(height);
        *floor = (*floor).max(height);
        let floor = *floor;
        let first = (InstanceId { domain, height: Height(0) }, Round(0), aequa_types::Kind::PrePrepare);
        let last = (InstanceId { domain, height: floor.next() }, Round(0), aequa_types::Kind::PrePrepare);
        while let Some(mark) = self.marks.range(first..last).next().map(|(mark, _)| *mark) {
            self.marks.remove(&mark);
        }
    }

    /// Whether this statement of our own is one we made, or too old to tell.
    pub fn knows(&self, signed: &Signed) -> bool {
        let floor = self.floors.get(&signed.instance.domain);
        floor.is_some_and(|floor| signed.instance.height <= *floor)
            || self.marks.get(&mark(signed)).is_some_and(|known| known.statement == signed.statement)
    }

    /// Signs, or returns what was signed in this place before if it says the same, or refuses.
    pub fn sign(&mut self, mut statement: Statement) -> Option<Signed> {
        let floor = self.floors.get(&statement.instance.domain);
        if floor.is_some_and(|floor| statement.instance.height <= *floor) {
            return None;
        }
        let place = (statement.instance, statement.round, statement.kind());
        if let Some(before) = self.marks.get(&place) {
            return same_claim(before, &statement).then(|| before.clone());
        }
        if let Claim::Commit(commit) = &mut statement.claim
            && self.seals
        {
            commit.seal = self.keys.seal(statement.instance, statement.round, &commit.digest);
        }
        let signed = self.keys.sign(statement);
        self.marks.insert(place, signed.clone());
        Some(signed)
    }
}

fn mark(signed: &Signed) -> Mark {
    (signed.instance, signed.round, signed.kind())
}

/// Equal but for the seal share, which follows from the rest.
fn same_claim(before: &Signed, statement: &Statement) -> bool {
    match (&before.claim, &statement.claim) {
        (Claim::Commit(a), Claim::Commit(b)) => a.digest == b.digest,
        (a, b) => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_types::{OperatorIndex, Signature};

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
            instance: InstanceId::block(Height(height)),
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
        signer.raise_floor(Domain::Block, Height(5));
        assert_eq!(signer.sign(prepare(5, 1)), None);
        assert!(signer.sign(prepare(6, 1)).is_some());
        assert!(signer.marks.keys().all(|(instance, ..)| instance.height == Height(6)));
    }
}
