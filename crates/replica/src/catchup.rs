//! Noticing that others are ahead, and keeping what came a little too early.

use crate::replica::made_by;
use aequa_types::{Height, InstanceId, OperatorIndex, Quorum, Signed, Verified};
use std::collections::BTreeMap;

/// How far above the current height messages are kept: peers are at most a few blocks ahead of a
/// node that keeps up; everything further away is fetched as certified blocks.
const EARLY_HEIGHTS: u64 = 4;
/// Messages kept per operator and height: a proposal and one of each vote, for a few rounds.
const EARLY_PER_OPERATOR_MAX: usize = 16;
/// A gap of one block is normal for a moment; after this long without progress it is not.
const STALLED_MS: u64 = 1000;
/// How often the node looks whether it is behind.
pub(crate) const CATCH_UP_INTERVAL_MS: u64 = 500;

/// The highest height of which messages are kept while `current` is being agreed.
pub(crate) fn latest_early(current: Height) -> Height {
    Height(current.0.saturating_add(EARLY_HEIGHTS))
}

/// Messages of heights that have not begun here.
#[derive(Debug, Default)]
pub(crate) struct Early {
    kept: BTreeMap<InstanceId, BTreeMap<OperatorIndex, Vec<Verified>>>,
}

impl Early {
    /// Keeps a statement of a height shortly above `current`; forgets it when there is no room. Values,
    /// questions and certificates are not kept: they are asked for again, and blocks are fetched.
    pub(crate) fn keep(&mut self, current: Height, from: OperatorIndex, message: Verified) {
        let instance = message.instance();
        let is_statement = matches!(
            message,
            Verified::PrePrepare { .. }
                | Verified::Prepare(_)
                | Verified::Commit(_)
                | Verified::RoundChange(_)
        );
        if !is_statement || instance.height > latest_early(current) {
            return;
        }
        let kept = self.kept.entry(instance).or_default().entry(from).or_default();
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
        kept.filter_map(made_by).filter(move |signed| signed.author == operator)
    }

    /// Hands out what came early for this instance.
    pub(crate) fn take(&mut self, instance: InstanceId) -> Vec<(OperatorIndex, Verified)> {
        let taken = self.kept.remove(&instance).unwrap_or_default();
        self.kept = self.kept.split_off(&instance);
        taken
            .into_iter()
            .flat_map(|(from, messages)| messages.into_iter().map(move |message| (from, message)))
            .collect()
    }
}

/// Who is how far, and whether to ask for blocks.
#[derive(Debug)]
pub(crate) struct CatchUp {
    quorum: Quorum,
    /// Highest decided height each operator has shown, by its word or by voting above it.
    shown: BTreeMap<OperatorIndex, Height>,
    asked: Option<OperatorIndex>,
    last_asked: Option<OperatorIndex>,
    progress_at_ms: u64,
}

impl CatchUp {
    pub(crate) fn new(quorum: Quorum) -> Self {
        Self { quorum, shown: BTreeMap::new(), asked: None, last_asked: None, progress_at_ms: 0 }
    }

    /// An operator claims `height` to be decided. Only a reason to ask: nothing is believed
    /// without a certificate.
    pub(crate) fn shown(&mut self, operator: OperatorIndex, height: Height) {
        let shown = self.shown.entry(operator).or_default();
        *shown = (*shown).max(height);
    }

    /// The highest height that an honest operator is known to have shown: f+1 have shown it or more.
    pub(crate) fn best(&self) -> Height {
        let mut shown: Vec<Height> = self.shown.values().copied().collect();
        shown.sort_unstable_by(|a, b| b.cmp(a));
        shown.get(self.quorum.faulty_max()).copied().unwrap_or_default()
    }

    pub(crate) fn progressed(&mut self, now_ms: u64) {
        self.progress_at_ms = now_ms;
    }

    /// For how long no block was decided.
    pub(crate) fn idle_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.progress_at_ms)
    }

    /// The operator asked has answered or failed.
    pub(crate) fn answered(&mut self, by: OperatorIndex, useful: bool) {
        if self.asked == Some(by) {
            self.asked = None;
        }
        if !useful {
            // A claim that brings no block is forgotten until it is made again.
            self.shown.remove(&by);
        }
    }

    /// Whom to ask for the block after `tip`, if anybody should be.
    pub(crate) fn next(&mut self, tip: Height, now_ms: u64) -> Option<OperatorIndex> {
        if self.asked.is_some() {
            return None;
        }
        let stalled = self.idle_ms(now_ms) >= STALLED_MS;
        let ahead = self.quorum.members().filter(|operator| {
            let gap = self.shown.get(operator).map_or(0, |height| height.0.saturating_sub(tip.0));
            gap > 1 || (gap == 1 && stalled)
        });
        let ahead: Vec<OperatorIndex> = ahead.collect();
        // Round-robin: a peer that lies about its height must not be asked for ever.
        let next = ahead
            .iter()
            .find(|operator| self.last_asked.is_none_or(|last| **operator > last))
            .or(ahead.first())
            .copied()?;
        self.asked = Some(next);
        self.last_asked = Some(next);
        Some(next)
    }
}
