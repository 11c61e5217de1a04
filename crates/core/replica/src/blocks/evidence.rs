//! Evidence on its way into a block: noticed here or gossiped by a member, until it is committed.
//!
//! Everything pending may be carried by the next block: what the chain has come to refuse is dropped with
//! every block. So pending evidence is work, for which a leader proposes even without empty blocks.

use crate::output::{Output, StoreWrite};
use aequa_chain::Chain;
use aequa_types::limits::{EVIDENCE_PER_BLOCK_MAX, EVIDENCE_PER_OPERATOR_MAX};
use aequa_types::{CheckedEvidence, Offence, OperatorIndex};
use std::collections::BTreeMap;

/// Pending evidence, per accused operator: none takes the room of another's.
#[derive(Debug, Default)]
pub(super) struct EvidencePool {
    kept: BTreeMap<OperatorIndex, BTreeMap<Offence, CheckedEvidence>>,
    /// Whether it differs from what the host was given to store.
    changed: bool,
}

impl EvidencePool {
    /// Takes a piece that the next block may carry; true when it was not known.
    pub(super) fn admit(&mut self, chain: &Chain, evidence: CheckedEvidence) -> bool {
        let offence = evidence.offence();
        if chain.check_evidence(&evidence).is_err() {
            return false;
        }
        let against = self.kept.entry(offence.operator).or_default();
        if against.contains_key(&offence) || against.len() >= room(chain, offence.operator) {
            return false;
        }
        against.insert(offence, evidence);
        self.changed = true;
        true
    }

    /// What the next block should carry: one piece of each accused in turn, then in the order of offences.
    pub(super) fn choose(&self) -> Vec<CheckedEvidence> {
        let mut of_each: Vec<_> = self.kept.values().map(BTreeMap::values).collect();
        let mut chosen = Vec::new();
        while chosen.len() < EVIDENCE_PER_BLOCK_MAX {
            let before = chosen.len();
            let room = EVIDENCE_PER_BLOCK_MAX - before;
            chosen.extend(of_each.iter_mut().filter_map(Iterator::next).take(room).cloned());
            if chosen.len() == before {
                break;
            }
        }
        chosen.sort_by_key(|evidence| evidence.offence());
        chosen
    }

    /// Drops what the next block may not carry any more.
    pub(super) fn sift(&mut self, chain: &Chain) {
        let before = self.len();
        for (operator, against) in &mut self.kept {
            against.retain(|_, evidence| chain.check_evidence(evidence).is_ok());
            while against.len() > room(chain, *operator) {
                against.pop_last();
            }
        }
        self.kept.retain(|_, against| !against.is_empty());
        self.changed |= self.len() < before;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.kept.values().map(BTreeMap::len).sum()
    }

    /// What an earlier life stored.
    pub(super) fn restore(&mut self, chain: &Chain, stored: Vec<CheckedEvidence>) {
        let count = stored.len();
        for evidence in stored {
            self.admit(chain, evidence);
        }
        self.changed = self.len() != count;
    }

    /// Gives the host what is pending, when that has changed.
    pub(super) fn keep(&mut self, out: &mut Output) {
        if std::mem::take(&mut self.changed) {
            out.store(StoreWrite::KeepEvidence(self.all().cloned().collect()));
        }
    }

    /// Everything pending, in the order of offences.
    pub(super) fn all(&self) -> impl Iterator<Item = &CheckedEvidence> {
        self.kept.values().flat_map(BTreeMap::values)
    }
}

/// How much more of one operator the chain will remember.
fn room(chain: &Chain, operator: OperatorIndex) -> usize {
    EVIDENCE_PER_OPERATOR_MAX.saturating_sub(chain.state().evidence_against(operator).count())
}
