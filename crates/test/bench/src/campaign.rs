//! All rows, one after the other.

use crate::cluster::Cluster;
use crate::contestant;
use crate::error::BenchError;
use crate::figures::Figures;
use crate::plan::{Place, Row};
use crate::report::{self, Outcome};
use crate::scratch::Scratch;
use aequa_node::console;
use std::path::{Path, PathBuf};
use tokio::signal::unix::{SignalKind, signal};

/// What to measure, and how.
#[derive(Debug, Clone)]
pub struct Campaign {
    /// The rows.
    pub rows: Vec<Row>,
    /// Seconds of each run.
    pub seconds: u64,
    /// Runs of each row and contestant.
    pub rounds: u32,
    /// The program dvt-node.
    pub node: PathBuf,
    /// Further flags of every node.
    pub flags: Vec<String>,
    /// The program of the peer.
    pub peer: Option<PathBuf>,
    /// A folder on a file system in memory.
    pub memory: PathBuf,
    /// A folder on a disk.
    pub disk: PathBuf,
}

impl Campaign {
    /// Measures every row and shows its line; ends what it has started, whatever happens. A row that fails is
    /// told of and does not keep the others.
    pub async fn run(&self) -> Result<Vec<Outcome>, BenchError> {
        let fail = |error| BenchError::system("cannot listen for signals")(error);
        let mut interrupt = signal(SignalKind::interrupt()).map_err(fail)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(fail)?;
        console::line(report::title());
        let mut outcomes = Vec::new();
        for row in &self.rows {
            // What is under way when it is dropped ends its processes and removes its folders.
            let outcome = tokio::select! {
                outcome = self.row(row) => outcome,
                _ = interrupt.recv() => return Err(BenchError::Stopped),
                _ = terminate.recv() => return Err(BenchError::Stopped),
            };
            console::line(report::line(&outcome));
            outcomes.push(outcome);
        }
        Ok(outcomes)
    }

    /// Ours, the probe and the peer in turns, so that a slow moment of the machine is everybody's.
    async fn row(&self, row: &Row) -> Outcome {
        let (mut ours, mut probe, mut peer) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            ours.extend(told(row, self.ours(row).await.map(Some)));
            probe.extend(told(row, self.probe(row).await));
            if let Some(program) = &self.peer {
                peer.extend(told(row, self.peer(program, row).await));
            }
        }
        let [ours, probe, peer] = [&ours, &probe, &peer].map(|runs| Figures::median(runs));
        Outcome { row: *row, ours, probe, peer }
    }

    async fn ours(&self, row: &Row) -> Result<Figures, BenchError> {
        let scratch = self.scratch(row)?;
        Cluster::start(&self.node, scratch.path(), row, &self.flags).await?.measure(self.seconds).await
    }

    async fn probe(&self, row: &Row) -> Result<Option<Figures>, BenchError> {
        let scratch = self.scratch(row)?;
        contestant::probe(row, scratch.path(), self.seconds).await
    }

    async fn peer(&self, program: &Path, row: &Row) -> Result<Option<Figures>, BenchError> {
        let scratch = self.scratch(row)?;
        contestant::peer(program, row, scratch.path(), self.seconds).await
    }

    fn scratch(&self, row: &Row) -> Result<Scratch, BenchError> {
        Scratch::new(match row.place {
            Place::Memory => &self.memory,
            Place::Disk => &self.disk,
        })
    }
}

/// What a run gave, its failure told.
fn told(row: &Row, run: Result<Option<Figures>, BenchError>) -> Option<Figures> {
    run.unwrap_or_else(|error| {
        console::complain(format!("{row}: {error}"));
        None
    })
}
