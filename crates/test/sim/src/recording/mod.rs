//! What nodes recorded, run again by the production core.

mod audit;
mod rerun;

pub use rerun::{Rerun, run_recordings};

use crate::node::Node;
use crate::verifier::Verifier;
use aequa_replica::recording::{Comparison, Replay, Selection};
use aequa_types::recording::{Entry, Numbered};
use aequa_types::{ClusterId, InstanceId, OperatorIndex, Quorum, Record};
use std::collections::BTreeSet;

/// The recording of one simulated node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recording {
    /// Its operator.
    pub operator: OperatorIndex,
    /// Whether it is neither a traitor nor a twin.
    pub honest: bool,
    /// All it recorded, in order, over all the lives of its directory.
    pub entries: Vec<Numbered>,
    /// What its vote log held in the end.
    pub log: Vec<Record>,
    /// Whether the end of that log was lost on the disk, and with it what was durable.
    pub log_rotten: bool,
    quorum: Quorum,
    cluster: ClusterId,
}

impl Recording {
    /// Every instance it has something of.
    pub fn instances(&self) -> BTreeSet<InstanceId> {
        self.entries.iter().filter_map(|numbered| numbered.entry.as_ref()?.instance()).collect()
    }

    /// Runs one instance again, and compares its statements with the vote log.
    pub fn replay(&self, instance: InstanceId) -> (Replay, Comparison) {
        let mut selection = Selection::of(instance);
        self.entries.iter().cloned().for_each(|numbered| selection.offer(numbered));
        let mut verifier = Verifier::new(self.cluster, self.quorum);
        let mut check = |message| verifier.message(message).ok_or_else(|| "a node refuses it".to_owned());
        let replay = Replay::run(&selection, self.operator, self.quorum, &mut check);
        let comparison = Comparison::of(&replay, &self.log);
        (replay, comparison)
    }
}

/// Audits one instance over several recordings: what must not be, and what operators that recorded nothing
/// here did that must not be.
pub fn audit(recordings: &[&Recording], instance: InstanceId) -> (Vec<String>, Vec<String>) {
    let recorders = recordings.iter().map(|recording| recording.operator).collect();
    let Some(first) = recordings.first() else { return (Vec::new(), Vec::new()) };
    let mut audit = audit::Audit::new(first.quorum, recorders);
    recordings.iter().for_each(|recording| audit.replay(&recording.replay(instance).0));
    (audit.violations, audit.evidence)
}

/// The recordings of all nodes of a run.
pub(crate) fn of(quorum: Quorum, cluster: ClusterId, nodes: Vec<Node>) -> Vec<Recording> {
    let recording = |node: Node| Recording {
        operator: node.operator,
        honest: node.is_honest(),
        log: node.log_on_disk(cluster),
        entries: node.recorded,
        log_rotten: node.log_rotten,
        quorum,
        cluster,
    };
    nodes.into_iter().map(recording).collect()
}

/// Takes what a turn has for the recording: a crash never hits between two entries.
pub(crate) fn add(entries: Vec<Entry>, recorded: &mut Vec<Numbered>) {
    for entry in entries {
        recorded.push(Numbered { number: recorded.len() as u64 + 1, entry: Some(entry) });
    }
}
