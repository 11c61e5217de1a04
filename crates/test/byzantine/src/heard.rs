//! What was heard of the others, bounded.

use aequa_types::{Digest, InstanceId, Message, PrePrepare, Round, RoundChange, Signed};
use std::collections::{BTreeMap, BTreeSet};

/// Proposals kept of one instance with their values.
const PROPOSALS_MAX: usize = 4;
/// Statements of one kind kept of one instance: all of a small cluster for several rounds.
const STATEMENTS_MAX: usize = 64;

/// What was said in one instance.
#[derive(Debug, Default, Clone)]
pub struct Said {
    /// Proposed digests by round.
    pub proposed: BTreeMap<Round, BTreeSet<Digest>>,
    /// The first proposals, to be used again where they do not belong.
    pub proposals: Vec<PrePrepare>,
    /// PREPAREs.
    pub prepares: Vec<Signed>,
    /// ROUND-CHANGEs with their evidence.
    pub changes: Vec<RoundChange>,
    /// The highest round anybody has shown.
    pub round: Round,
}

impl Said {
    /// All digests proposed in any round.
    pub fn digests(&self) -> BTreeSet<Digest> {
        self.proposed.values().flatten().copied().collect()
    }

    fn hear(&mut self, message: &Message) {
        self.round = self.round.max(message.round().unwrap_or_default());
        if let Message::PrePrepare(message) = message {
            let digests = self.proposed.entry(message.proposal.round).or_default();
            digests.extend(message.proposal.digest());
            let known = self.proposals.iter().any(|old| old.proposal == message.proposal);
            if self.proposals.len() < PROPOSALS_MAX && !known {
                self.proposals.push(message.clone());
            }
        }
        if let Message::Prepare(vote) = message
            && self.prepares.len() < STATEMENTS_MAX
        {
            self.prepares.push(vote.clone());
        }
        if let Message::RoundChange(change) = message
            && self.changes.len() < STATEMENTS_MAX
        {
            self.changes.push(change.clone());
        }
    }
}

/// What was said in the newest instances.
#[derive(Debug)]
pub struct Heard {
    instances: BTreeMap<InstanceId, Said>,
    instances_max: usize,
}

impl Heard {
    /// Nothing yet; room for so many instances.
    pub fn new(instances_max: usize) -> Self {
        Self { instances: BTreeMap::new(), instances_max }
    }

    /// A message of anybody.
    pub fn hear(&mut self, message: &Message) {
        self.instances.entry(message.instance()).or_default().hear(message);
        while self.instances.len() > self.instances_max {
            self.instances.pop_first();
        }
    }

    /// What was said in an instance.
    pub fn said(&self, instance: InstanceId) -> Option<&Said> {
        self.instances.get(&instance)
    }

    /// PREPAREs of earlier instances, newest first.
    pub fn prepares_before(&self, instance: InstanceId) -> impl Iterator<Item = &Signed> {
        self.instances.range(..instance).rev().flat_map(|(_, said)| &said.prepares)
    }
}
