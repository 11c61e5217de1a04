//! What the replicas of nodes took in, run again.

use crate::node::Node;
use crate::verifier::Verifier;
use aequa_host::recording::{Difference, ENTRY_BYTES_MAX, Entry, Replay};
use aequa_replica::StoreWrite;
use aequa_types::{ClusterId, ConsensusParams, OperatorIndex, Quorum};

/// The recording of one simulated node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recording {
    /// Its operator.
    pub operator: OperatorIndex,
    /// Whether it is neither a traitor nor a twin.
    pub honest: bool,
    /// All it recorded in all of its lives, as it is written.
    pub entries: Vec<Vec<u8>>,
    cluster: ClusterId,
    quorum: Quorum,
    params: ConsensusParams,
}

/// What a replay went through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Lives.
    pub starts: usize,
    /// Those that began bound by records of the vote log.
    pub restarts: usize,
    /// Steps.
    pub steps: u64,
    /// Blocks that were decided here.
    pub decided: usize,
    /// Blocks that were fetched.
    pub fetched: usize,
}

impl Recording {
    /// Runs all lives again, each from its start.
    pub fn replay(&self) -> Result<Replayed, Difference> {
        let mut verifier = Verifier::new(self.cluster, self.quorum);
        let mut check = |message| verifier.message(message).ok_or_else(|| "a node refuses it".to_owned());
        let (mut replayed, mut life) = (Replayed::default(), None::<Replay>);
        for entry in &self.entries {
            let entry = aequa_types::decode::<Entry>("entry", entry, ENTRY_BYTES_MAX)
                .map_err(|error| Difference::Start { reason: error.to_string() })?;
            match (entry, &mut life) {
                (Entry::Start(start), _) => {
                    replayed.starts += 1;
                    replayed.restarts += usize::from(start.has_records());
                    life = Some(Replay::begin((*start).clone(), self.params.clone())?);
                }
                (Entry::Step(step), Some(replay)) => {
                    replay.step((*step).clone(), &mut check)?;
                    replayed.steps += 1;
                }
                (Entry::TurnEnded(tip), Some(replay)) => replayed.add(&replay.end_turn(tip)?.store),
                (Entry::Step(_) | Entry::TurnEnded(_), None) => {
                    return Err(Difference::Start { reason: "there is none".into() });
                }
            }
        }
        Ok(replayed)
    }
}

impl Replayed {
    fn add(&mut self, writes: &[StoreWrite]) {
        for write in writes {
            if let StoreWrite::Commit { live, .. } = write {
                let count = if *live { &mut self.decided } else { &mut self.fetched };
                *count += 1;
            }
        }
    }
}

/// The recordings of all nodes of a run.
pub(crate) fn of(
    quorum: Quorum,
    cluster: ClusterId,
    params: &ConsensusParams,
    nodes: Vec<Node>,
) -> Vec<Recording> {
    let recording = |node: Node| Recording {
        operator: node.operator,
        honest: node.is_honest(),
        entries: node.recorded,
        cluster,
        quorum,
        params: params.clone(),
    };
    nodes.into_iter().map(recording).collect()
}
