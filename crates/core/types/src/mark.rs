//! What remains of a statement when only the promise has to be kept: where it was made, and its hash.

use crate::statement::{Kind, Statement};
use crate::{InstanceId, Round};
use alloy_primitives::B256;
use ssz::Encode as _;

/// Where at most one statement of an operator may ever be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Instance it belongs to.
    pub instance: InstanceId,
    /// Round it belongs to.
    pub round: Round,
    /// What kind of statement.
    pub kind: Kind,
}

/// A place that is taken, and by which statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark {
    /// The place.
    pub place: Place,
    /// SHA-256 of the statement's SSZ form, a COMMIT's share of the seal included.
    pub digest: B256,
}

impl Place {
    /// The first place of an instance in the order of places.
    pub fn first_of(instance: InstanceId) -> Self {
        Self { instance, round: Round(0), kind: Kind::PrePrepare }
    }
}

impl Statement {
    /// The place this statement takes.
    pub fn place(&self) -> Place {
        Place { instance: self.instance, round: self.round, kind: self.kind() }
    }

    /// The mark this statement leaves.
    pub fn mark(&self) -> Mark {
        let digest = B256::from(ethereum_hashing::hash_fixed(&self.as_ssz_bytes()));
        Mark { place: self.place(), digest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::{Claim, CommitClaim};
    use crate::{Digest, Height, OperatorIndex, Seal};

    #[test]
    fn everything_that_is_signed_is_in_the_mark() {
        let base = Statement {
            instance: InstanceId::Block(Height(5)),
            round: Round(1),
            author: OperatorIndex(2),
            claim: Claim::Commit(CommitClaim { digest: Digest::repeat_byte(1), seal: None }),
        };
        let other = |claim| Statement { claim, ..base.clone() }.mark();
        let sealed = CommitClaim { digest: Digest::repeat_byte(1), seal: Some(Seal::ZERO) };
        let marks = [
            base.mark(),
            other(Claim::Commit(sealed)),
            other(Claim::Commit(CommitClaim { digest: Digest::repeat_byte(2), seal: None })),
            other(Claim::Prepare(Digest::repeat_byte(1))),
        ];
        for (n, mark) in marks.iter().enumerate() {
            assert!(marks[..n].iter().all(|before| before.digest != mark.digest));
        }
        assert_eq!(marks[0].place, marks[1].place);
        assert_ne!(marks[0].place, marks[3].place);
    }
}
