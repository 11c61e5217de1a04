//! Messages about blocks whose height has not begun here.

use aequa_types::{Height, OperatorIndex, Signed, Verified};
use std::collections::BTreeMap;

/// How far above the current height messages are kept: peers are at most a few blocks ahead of a
/// node that keeps up; everything further away is fetched as certified blocks.
const EARLY_HEIGHTS: u64 = 4;
/// Messages kept per operator and height: a proposal and one of each vote, for a few rounds.
const EARLY_PER_OPERATOR_MAX: usize = 16;

/// The highest height of which messages are kept while `current` is being agreed.
pub(crate) fn latest_early(current: Height) -> Height {
    Height(current.0.saturating_add(EARLY_HEIGHTS))
}

/// Messages of heights that have not begun here.
#[derive(Debug, Default)]
pub(crate) struct Early {
    kept: BTreeMap<Height, BTreeMap<OperatorIndex, Vec<Verified>>>,
}

impl Early {
    /// Keeps a statement about block `height`, shortly above `current`; forgets it when there is no room. Values,
    /// questions and certificates are not kept: they are asked for again, and blocks are fetched.
    pub(crate) fn keep(&mut self, current: Height, height: Height, from: OperatorIndex, message: Verified) {
        let is_statement = matches!(
            message,
            Verified::PrePrepare { .. }
                | Verified::Prepare(_)
                | Verified::Commit(_)
                | Verified::RoundChange(_)
        );
        if !is_statement || height > latest_early(current) {
            return;
        }
        let kept = self.kept.entry(height).or_default().entry(from).or_default();
        let is_proposal = |message: &Verified| matches!(message, Verified::PrePrepare { .. });
        let second_proposal = is_proposal(&message) && kept.iter().any(is_proposal);
        if kept.len() < EARLY_PER_OPERATOR_MAX && !second_proposal && !kept.contains(&message) {
            kept.push(message);
        }
    }

    /// Messages kept.
    pub(crate) fn len(&self) -> usize {
        self.kept.values().flat_map(BTreeMap::values).map(Vec::len).sum()
    }

    /// Everything kept that this operator said.
    pub(crate) fn statements_of(&self, operator: OperatorIndex) -> impl Iterator<Item = &Signed> {
        let kept = self.kept.values().flat_map(BTreeMap::values).flatten();
        kept.filter_map(Verified::statement).filter(move |signed| signed.author == operator)
    }

    /// Hands out what came early for this height.
    pub(crate) fn take(&mut self, height: Height) -> Vec<(OperatorIndex, Verified)> {
        let taken = self.kept.remove(&height).unwrap_or_default();
        self.kept = self.kept.split_off(&height);
        taken
            .into_iter()
            .flat_map(|(from, messages)| messages.into_iter().map(move |message| (from, message)))
            .collect()
    }
}
