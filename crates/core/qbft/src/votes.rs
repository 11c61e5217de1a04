//! Who said what first, per round.

use aequa_types::{Digest, OperatorIndex, Round, Signed};
use std::collections::BTreeMap;

/// The first statement of each operator in each round, of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Votes {
    rounds: BTreeMap<Round, BTreeMap<OperatorIndex, Signed>>,
}

/// What became of a statement handed to [`Votes::insert`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Inserted {
    /// The first of its author in its round.
    New,
    /// The same digest as before: a retransmission.
    Known,
    /// Another digest than before: the author contradicts itself. The first stays.
    Conflict(Box<Signed>),
}

impl Votes {
    pub(crate) fn insert(&mut self, vote: Signed) -> Inserted {
        let round = self.rounds.entry(vote.round).or_default();
        match round.get(&vote.author) {
            None => {
                round.insert(vote.author, vote);
                Inserted::New
            }
            Some(first) if first.digest() == vote.digest() => Inserted::Known,
            Some(first) => Inserted::Conflict(Box::new(first.clone())),
        }
    }

    /// All statements of `round` for `digest`, ordered by operator.
    pub(crate) fn of(&self, round: Round, digest: Digest) -> impl Iterator<Item = &Signed> {
        self.rounds
            .get(&round)
            .into_iter()
            .flat_map(|votes| votes.values())
            .filter(move |vote| vote.digest() == Some(digest))
    }

    pub(crate) fn count(&self, round: Round, digest: Digest) -> usize {
        self.of(round, digest).count()
    }

    /// Every (round, digest) somebody voted for.
    pub(crate) fn candidates(&self) -> Vec<(Round, Digest)> {
        let mut all: Vec<_> = self
            .rounds
            .iter()
            .flat_map(|(round, votes)| {
                votes.values().filter_map(move |vote| vote.digest().map(|digest| (*round, digest)))
            })
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Forgets rounds below `round`.
    pub(crate) fn forget_below(&mut self, round: Round) {
        self.rounds = self.rounds.split_off(&round);
    }
}
