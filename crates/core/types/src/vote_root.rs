//! What remains of a vote when only its promise has to be kept: its key, and its root. (A vote is any statement here.)

use crate::statement::{Kind, Statement};
use crate::{InstanceId, Round};
use alloy_primitives::B256;
use ssz::Encode as _;

/// At most one statement of an operator may ever be made under one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VoteKey {
    /// Instance it belongs to.
    pub instance: InstanceId,
    /// Round it belongs to.
    pub round: Round,
    /// What kind of statement.
    pub kind: Kind,
}

/// What was signed under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VoteRoot {
    /// Instance, round and kind.
    pub key: VoteKey,
    /// SHA-256 of the statement's SSZ form, a COMMIT's share of the seal included.
    pub root: B256,
}

impl VoteKey {
    /// The first key of an instance in the order of keys.
    pub fn first_of(instance: InstanceId) -> Self {
        Self { instance, round: Round(0), kind: Kind::PrePrepare }
    }
}

impl Statement {
    /// The key of this statement.
    pub fn vote_key(&self) -> VoteKey {
        VoteKey { instance: self.instance, round: self.round, kind: self.kind() }
    }

    /// The key and the root of this statement.
    pub fn vote_root(&self) -> VoteRoot {
        let root = B256::from(ethereum_hashing::hash_fixed(&self.as_ssz_bytes()));
        VoteRoot { key: self.vote_key(), root }
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
        let other = |claim| Statement { claim, ..base.clone() }.vote_root();
        let sealed = CommitClaim { digest: Digest::repeat_byte(1), seal: Some(Seal::ZERO) };
        let votes = [
            base.vote_root(),
            other(Claim::Commit(sealed)),
            other(Claim::Commit(CommitClaim { digest: Digest::repeat_byte(2), seal: None })),
            other(Claim::Prepare(Digest::repeat_byte(1))),
        ];
        for (n, vote) in votes.iter().enumerate() {
            assert!(votes[..n].iter().all(|before| before.root != vote.root));
        }
        assert_eq!(votes[0].key, votes[1].key);
        assert_ne!(votes[0].key, votes[3].key);
    }
}
