//! A cluster in a temporary folder.

use super::node::{Node, output};
use super::{Ports, until};
use std::path::PathBuf;
use tempfile::TempDir;

/// What cluster to make.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Operators.
    pub nodes: u8,
    /// Least time between blocks.
    pub block_interval_ms: u32,
    /// Length of round 0; rounds are capped at four times that.
    pub round_timeout_ms: u32,
    /// Heights from one checkpoint to the next.
    pub checkpoint_interval: u32,
    /// Flags of every node.
    pub flags: Vec<String>,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            nodes: 4,
            block_interval_ms: 200,
            round_timeout_ms: 1000,
            checkpoint_interval: 100,
            flags: Vec::new(),
        }
    }
}

/// A cluster made by `create-cluster`; its nodes die with it.
pub struct Cluster {
    // Before the folder: the nodes end before it goes.
    pub nodes: Vec<Node>,
    pub ports: Ports,
    dir: TempDir,
}

impl Cluster {
    /// Makes a cluster; nothing runs yet.
    pub fn make(shape: Shape) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ports = Ports::take();
        let out = dir.path().join("c");
        let made = output(&[
            "create-cluster",
            "--insecure-keys",
            "--nodes",
            &shape.nodes.to_string(),
            "--out",
            &out.to_string_lossy(),
            "--chain-id",
            &super::CHAIN_ID.to_string(),
            "--base-port",
            &ports.api().to_string(),
            "--base-p2p-port",
            &ports.transport().to_string(),
            "--block-interval-ms",
            &shape.block_interval_ms.to_string(),
            "--round-timeout-ms",
            &shape.round_timeout_ms.to_string(),
            "--round-timeout-cap-ms",
            &(4 * shape.round_timeout_ms).to_string(),
            "--checkpoint-interval",
            &shape.checkpoint_interval.to_string(),
        ]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let node = |i: u8| {
            let (api, monitoring) = (ports.api() + u16::from(i), ports.monitoring() + u16::from(i));
            Node::new(out.join(format!("node{i}")), api, monitoring, shape.flags.clone())
        };
        Self { nodes: (0..shape.nodes).map(node).collect(), ports, dir }
    }

    /// Makes a cluster and starts all of it.
    pub fn start(shape: Shape) -> Self {
        let mut cluster = Self::make(shape);
        cluster.start_all();
        cluster
    }

    /// Starts every node and waits until all answer.
    pub fn start_all(&mut self) {
        self.nodes.iter_mut().for_each(Node::spawn);
        self.nodes.iter_mut().for_each(Node::await_up);
    }

    /// The lock all nodes share.
    pub fn lock(&self) -> PathBuf {
        self.dir.path().join("c/cluster-lock.json")
    }

    /// Folder for a test's own files.
    pub fn scratch(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// Highest height any running node shows.
    pub fn tip(&self) -> u64 {
        self.nodes.iter().filter_map(Node::height).max().unwrap_or_default()
    }

    /// Waits until every node has decided `height`.
    #[track_caller]
    pub fn until_all_at(&self, height: u64) {
        until(&format!("all nodes at height {height}"), || {
            self.nodes.iter().all(|node| node.height() >= Some(height)).then_some(())
        });
    }
}
