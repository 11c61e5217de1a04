//! kill -9 at random moments, many times: no second signature, no lost decision.
//!
//! `cargo xtask kill` runs this with more kills than every test run can afford.
//!
//! A killed process leaves its unsynced writes to the kernel. That the log is synced before anything is sent is
//! shown elsewhere: by the core's test that looks at each sync, and by the simulator, whose disks lose power.

use crate::harness::{Cluster, Node, Promises, Shape, command, until};
use aequa_testkit::Dice;
use aequa_types::Digest;
use std::collections::BTreeMap;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Rounds of killing where nothing else is said.
const RUNS: u64 = 10;
/// Latest kill after the start of a process: by then it votes.
const STARTING_MS: u64 = 1500;
/// Latest kill after the moment a node is seen to run.
const RUNNING_MS: u64 = 400;

/// When the victims of a run are killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// While they take part.
    Running,
    /// Again, while they come back from a kill.
    Restarting,
    /// Again, in the first moments of their start.
    Starting,
}

impl Phase {
    /// The second kill of a run: each kind in every fourth.
    fn again_in(run: u64) -> Option<Self> {
        match run % 4 {
            1 => Some(Phase::Starting),
            2 => Some(Phase::Restarting),
            _ => None,
        }
    }

    /// Latest moment of the kill.
    fn within_ms(self) -> u64 {
        match self {
            Phase::Running => RUNNING_MS,
            Phase::Restarting => STARTING_MS,
            Phase::Starting => STARTING_MS / 10,
        }
    }
}

fn sleep_below(dice: &mut Dice, ms: u64) {
    std::thread::sleep(Duration::from_millis(dice.below(ms as usize) as u64));
}

/// One operator, or two of the four.
fn victims(dice: &mut Dice) -> Vec<usize> {
    let first = dice.below(4);
    let second = (first + 1 + dice.below(3)) % 4;
    if dice.below(4) == 0 { vec![first, second] } else { vec![first] }
}

/// What was ever announced or said, and how much was killed for it.
struct Campaign {
    cluster: Cluster,
    dice: Dice,
    promises: Promises,
    announced: BTreeMap<u64, Digest>,
    kills: BTreeMap<Phase, u64>,
}

impl Campaign {
    fn run(&mut self, again: Option<Phase>) {
        let victims = victims(&mut self.dice);
        sleep_below(&mut self.dice, RUNNING_MS);
        let told: Vec<(usize, u64)> =
            victims.iter().filter_map(|victim| Some((*victim, self.hear(*victim)?))).collect();
        self.kill(&victims, Phase::Running);
        if let Some(phase) = again {
            victims.iter().for_each(|victim| self.cluster.nodes[*victim].spawn());
            sleep_below(&mut self.dice, phase.within_ms());
            self.kill(&victims, phase);
        }
        victims.iter().for_each(|victim| self.cluster.nodes[*victim].spawn());
        victims.iter().for_each(|victim| self.cluster.nodes[*victim].await_up());
        told.iter().for_each(|(victim, height)| self.still_serves(*victim, *height));
        let tip = self.cluster.tip();
        self.cluster.until_all_at(tip + 1);
        assert!(self.cluster.nodes.iter().all(counts_no_evidence));
    }

    /// The last block a node tells of, and its height.
    fn hear(&mut self, node: usize) -> Option<u64> {
        let height = self.cluster.nodes[node].height().filter(|height| *height > 0)?;
        let digest = self.cluster.nodes[node].block(height)?.block.header.digest();
        let before = *self.announced.entry(height).or_insert(digest);
        assert_eq!(before, digest, "two blocks were announced at height {height}");
        Some(height)
    }

    fn kill(&mut self, victims: &[usize], phase: Phase) {
        for victim in victims {
            self.cluster.nodes[*victim].kill();
            *self.kills.entry(phase).or_default() += 1;
        }
        victims.iter().for_each(|victim| self.promises.read(&self.cluster, *victim));
    }

    /// A restarted node serves the block it had told of, and no other at that height. (That it needs no
    /// peer for it is shown by the cluster of one in `crashes`.)
    fn still_serves(&self, node: usize, height: u64) {
        let block = until("a block that was told of", || self.cluster.nodes[node].block(height));
        assert_eq!(block.block.header.digest(), self.announced[&height], "height {height}");
    }

    /// Kills everybody, reads every disk, starts again, and compares the chains.
    fn finish(&mut self) -> u64 {
        let tip = self.cluster.tip();
        self.cluster.until_all_at(tip);
        self.kill(&[0, 1, 2, 3], Phase::Running);
        self.cluster.start_all();
        self.cluster.until_all_at(tip + 2);
        let chains: Vec<_> = self.cluster.nodes.iter().map(|node| node.digests(tip)).collect();
        assert!(chains.iter().all(|chain| *chain == chains[0]), "two chains");
        assert!(self.cluster.nodes.iter().all(logged_no_evidence));
        for (height, digest) in self.announced.range(..=tip) {
            assert_eq!(chains[0][*height as usize - 1], *digest, "height {height} was announced otherwise");
        }
        tip
    }
}

/// Whether a node has seen nobody contradict itself since it started.
fn counts_no_evidence(node: &Node) -> bool {
    node.metric("swarm_consensus_byzantine_detected_total").unwrap_or_default() == 0.0
}

/// The same for all its lives. The log is long by the end, so once is enough.
fn logged_no_evidence(node: &Node) -> bool {
    !node.log().iter().any(|line| line["msg"] == "evidence_found")
}

fn load(cluster: &Cluster) -> Child {
    let urls: Vec<String> =
        cluster.nodes.iter().map(|node| format!("http://127.0.0.1:{}", node.api)).collect();
    let args = ["tx", "load", "--count", "1000000", "--tps", "20", "--accounts", "16", "--url"];
    let mut load = command(&args);
    load.arg(urls.join(",")).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn setting(name: &str) -> Option<u64> {
    Some(std::env::var(name).ok()?.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}

#[test]
fn no_kill_at_any_moment_makes_a_second_signature_or_loses_a_decision() {
    let runs = setting("KILL_RUNS").unwrap_or(RUNS);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let seed = setting("KILL_SEED").unwrap_or(now);
    eprintln!("{runs} runs, seed {seed}");
    let started = Instant::now();
    let shape = Shape { block_interval_ms: 60, round_timeout_ms: 500, ..Shape::default() };
    let mut campaign = Campaign {
        cluster: Cluster::start(shape),
        dice: Dice(seed),
        promises: Promises::default(),
        announced: BTreeMap::new(),
        kills: BTreeMap::new(),
    };
    campaign.cluster.until_all_at(3);
    let mut load = load(&campaign.cluster);
    for run in 1..=runs {
        campaign.run(Phase::again_in(run));
        if run.is_multiple_of(20) {
            eprintln!("{run} runs, height {}, {} s", campaign.cluster.tip(), started.elapsed().as_secs());
        }
    }
    let tip = campaign.finish();
    load.kill().unwrap();
    load.wait().unwrap();
    let Campaign { promises, announced, kills, .. } = &campaign;
    assert!(promises.len() as u64 > tip, "the disks were read");
    assert_eq!(kills.len() as u64, (1 + runs).min(3), "kills in every phase: {kills:?}");
    eprintln!(
        "{runs} runs, kills by phase {kills:?}, {tip} heights on four equal chains, {} of them announced \
         before a kill and all of them kept, {} statements of four operators and none contradicts another, {} s",
        announced.len(),
        promises.len(),
        started.elapsed().as_secs()
    );
}
