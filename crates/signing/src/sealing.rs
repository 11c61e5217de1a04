//! Adding up seal shares to one group signature.
//!
//! Beside the decision, never before it: q shares of one (round, digest) are handed out to be
//! combined and verified once. Only when that fails are shares judged singly; a bad share inside a
//! well-signed COMMIT names its maker, is left out from then on, and the next COMMIT takes its place.

use aequa_types::statement::Claim;
use aequa_types::{Digest, Height, InstanceId, OperatorIndex, Round, Seal, Signed};
use std::collections::{BTreeMap, BTreeSet};

/// How many decisions may wait for their seal before this operator stops proposing new blocks:
/// sealing that cannot keep up must slow the chain, not grow a queue.
pub const SEALS_PENDING_MAX: usize = 32;

#[derive(Debug, Clone)]
struct Pending {
    round: Round,
    digest: Digest,
    shares: BTreeMap<OperatorIndex, Seal>,
    blamed: BTreeSet<OperatorIndex>,
    in_flight: bool,
}

/// All decisions without a group seal yet.
#[derive(Debug, Clone)]
pub struct Sealing {
    quorum: usize,
    pending: BTreeMap<InstanceId, Pending>,
    /// Operators whose share was bad before: theirs are taken last, or every seal would cost a second try.
    distrusted: BTreeSet<OperatorIndex>,
}

/// Shares ready to be combined.
#[derive(Debug, PartialEq, Eq)]
pub struct Ready {
    /// Round of all of them.
    pub round: Round,
    /// Digest of all of them.
    pub digest: Digest,
    /// q shares of distinct operators.
    pub shares: Vec<(OperatorIndex, Seal)>,
}

impl Sealing {
    /// Nothing is pending; `quorum` shares make a seal.
    pub fn new(quorum: usize) -> Self {
        Self { quorum, pending: BTreeMap::new(), distrusted: BTreeSet::new() }
    }

    /// A decision was made; its COMMITs seen so far are `commits`.
    pub fn open<'a>(
        &mut self,
        instance: InstanceId,
        round: Round,
        digest: Digest,
        commits: impl Iterator<Item = &'a Signed>,
    ) -> Option<Ready> {
        let shares = commits.filter_map(share).collect();
        let pending = Pending { round, digest, shares, blamed: BTreeSet::new(), in_flight: false };
        self.pending.insert(instance, pending);
        self.ready(instance)
    }

    /// A further COMMIT of a decided instance.
    pub fn add(&mut self, commit: &Signed) -> Option<Ready> {
        let pending = self.pending.get_mut(&commit.instance)?;
        if commit.round != pending.round || commit.digest() != Some(pending.digest) {
            return None;
        }
        let (operator, seal) = share(commit)?;
        pending.shares.entry(operator).or_insert(seal);
        self.ready(commit.instance)
    }

    /// The group seal exists.
    pub fn close(&mut self, instance: InstanceId) {
        self.pending.remove(&instance);
    }

    /// These shares are bad; perhaps others suffice.
    pub fn blame(&mut self, instance: InstanceId, operators: &[OperatorIndex]) -> Option<Ready> {
        self.distrusted.extend(operators);
        let pending = self.pending.get_mut(&instance)?;
        pending.blamed.extend(operators);
        pending.in_flight = false;
        self.ready(instance)
    }

    /// Gives up on blocks below this one: their certificate of commits stays.
    pub fn forget_below(&mut self, oldest: Height) {
        self.pending.retain(|pending, _| pending.height().is_none_or(|height| height >= oldest));
    }

    /// Combinations under way.
    pub fn in_flight(&self) -> usize {
        self.pending.values().filter(|pending| pending.in_flight).count()
    }

    fn ready(&mut self, instance: InstanceId) -> Option<Ready> {
        let quorum = self.quorum;
        let pending = self.pending.get_mut(&instance)?;
        let good = pending.shares.iter().filter(|(operator, _)| !pending.blamed.contains(operator));
        let mut shares: Vec<_> = good.map(|(operator, seal)| (*operator, *seal)).collect();
        shares.sort_by_key(|(operator, _)| (self.distrusted.contains(operator), *operator));
        shares.truncate(quorum);
        if pending.in_flight || shares.len() < quorum {
            return None;
        }
        pending.in_flight = true;
        Some(Ready { round: pending.round, digest: pending.digest, shares })
    }
}

fn share(commit: &Signed) -> Option<(OperatorIndex, Seal)> {
    match &commit.claim {
        Claim::Commit(claim) => claim.seal.map(|seal| (commit.author, seal)),
        Claim::PrePrepare(_) | Claim::Prepare(_) | Claim::RoundChange(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aequa_types::statement::CommitClaim;
    use aequa_types::{Signature, Statement};

    fn commit(operator: u8, round: u64) -> Signed {
        Signed {
            statement: Statement {
                instance: InstanceId::Block(Height(1)),
                round: Round(round),
                author: OperatorIndex(operator),
                claim: Claim::Commit(CommitClaim {
                    digest: Digest::repeat_byte(1),
                    seal: Some(Seal::repeat_byte(operator)),
                }),
            },
            signature: Signature::ZERO,
        }
    }

    fn open(sealing: &mut Sealing, commits: &[Signed]) -> Option<Ready> {
        sealing.open(InstanceId::Block(Height(1)), Round(0), Digest::repeat_byte(1), commits.iter())
    }

    fn operators(ready: &Ready) -> Vec<u8> {
        ready.shares.iter().map(|(operator, _)| operator.0).collect()
    }

    #[test]
    fn shares_of_another_round_are_never_added_up() {
        let mut sealing = Sealing::new(3);
        assert_eq!(open(&mut sealing, &[commit(0, 0), commit(1, 0)]), None);
        assert_eq!(sealing.add(&commit(2, 1)), None);
        assert_eq!(operators(&sealing.add(&commit(3, 0)).unwrap()), [0, 1, 3]);
    }

    #[test]
    fn a_blamed_share_is_replaced_by_a_later_commit() {
        let mut sealing = Sealing::new(3);
        let instance = InstanceId::Block(Height(1));
        open(&mut sealing, &[commit(0, 0), commit(1, 0), commit(2, 0)]).unwrap();
        assert_eq!(sealing.blame(instance, &[OperatorIndex(1)]), None);
        assert_eq!(operators(&sealing.add(&commit(3, 0)).unwrap()), [0, 2, 3]);
        sealing.close(instance);
        assert_eq!(sealing.in_flight(), 0);
        let all = [commit(0, 0), commit(1, 0), commit(2, 0), commit(3, 0)];
        assert_eq!(operators(&open(&mut sealing, &all).unwrap()), [0, 2, 3], "taken last from now on");
    }
}
