//! A cluster of honest processes with a traitor among them, and what must hold of it.
//!
//! All operators but the last run `dvt-node`; the last one's keys are the adversary's, and nobody else uses
//! them. First the attacks must have been any: sent, received, and refused in the contract's words. All other
//! checks are about the honest ones: one chain, progress, proof of the treason and of nothing else, nobody
//! dead, memory flat.

mod effects;
mod node;
mod process;
mod proof;
mod report;
mod samples;
mod strangers;

pub use report::{Check, Report};

use crate::AdversaryError;
use crate::agent::{Agent, Books, Plan};
use crate::attack::{self, Provable};
use crate::crowd::{Crowd, Mute};
use crate::endpoints::Endpoints;
use crate::traitor::Traitor;
use crate::verdicts::Look;
use aequa_node::cluster::MONITORING_OFFSET;
use aequa_node::process::Process;
use effects::Quiet;
use node::Node;
use process::{output, spawn};
use proof::Known;
use samples::Sample;
use serde_json::Value;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Longest wait for a condition outside of the attack.
const PATIENCE: Duration = Duration::from_secs(240);
/// Time between two looks at a condition.
const LOOK: Duration = Duration::from_millis(100);
/// Blocks decided before the attack, for the pace to compare with.
const BLOCKS_BEFORE: u64 = 20;
/// Blocks every honest node must decide after the attack.
const BLOCKS_AFTER: u64 = 5;
/// How far behind the tip the adversary may be and still be aiming at something.
const BEHIND_MAX: u64 = 3;
/// Longest wait for it to be connected to everybody and near the tip: it may just be dialling again.
const READY_PATIENCE: Duration = Duration::from_secs(30);
/// What the block store keeps in memory.
const STORE_MEMORY: &str = "block_store_memory_bytes";
/// Counter of distinct evidence.
const EVIDENCE: &str = "swarm_consensus_byzantine_detected_total";

/// What trial to hold.
#[derive(Debug, Clone)]
pub struct Trial {
    /// The program `dvt-node`.
    pub node: PathBuf,
    /// Folder to make the cluster in; must not exist.
    pub dir: PathBuf,
    /// Operators, the traitor among them.
    pub operators: u8,
    /// API of node i listens here + i, monitoring here + 20 + i.
    pub base_port: u16,
    /// Transport of node i listens here + i.
    pub base_p2p_port: u16,
    /// Test endpoints of node i listen here + 2i and here + 2i + 1, when the program has them.
    pub base_test_port: u16,
    /// Length of the attack.
    pub time: Duration,
    /// Attacks, or `all`.
    pub attacks: Vec<String>,
    /// Messages per second.
    pub rate: u32,
    /// Where all chance comes from.
    pub seed: u64,
    /// Transactions per second of honest clients; 0 = none.
    pub tps: u32,
    /// Bytes of the payload of each.
    pub payload_bytes: u32,
    /// Strangers of each kind at every node's API during the attack; 0 = none, and nodes without an upstream.
    pub strangers: u32,
    /// Least time between blocks.
    pub block_interval_ms: u32,
    /// Length of round 0. The cap stays the default: on a machine that is short of time, rounds must be able
    /// to grow until a quorum fits into one.
    pub round_timeout_ms: u32,
}

impl Trial {
    /// Holds the trial. `tell` hears how it goes. Must be called inside a tokio runtime.
    pub async fn hold(&self, mut tell: impl FnMut(String)) -> Result<Report, AdversaryError> {
        let attacks = attack::named(&self.attacks)
            .map_err(|name| AdversaryError::Usage(format!("there is no attack {name}")))?;
        let mut court = Court::open(self).await?;
        let (before, quiet) = court.quiet().await?;
        tell(format!("{before:.2} blocks per second before the attack; seed {}", self.seed));
        let traitor = Traitor::load(&self.dir.join(format!("node{}", self.operators - 1)))?;
        let agent = Agent::join(traitor).await?;
        agent.until_connected(court.nodes.len()).await?;
        let first = court.tip().await;
        let start = Instant::now();
        let doors: Vec<_> = court.nodes.iter().map(|node| node.doors).collect();
        let crowd = Crowd::gather(&doors, self.strangers);
        let (books, samples) = court.attack(self, &agent, &mut tell).await?;
        let (received, served) = crowd.leave().await;
        let pace = (court.tip().await - first) as f64 / start.elapsed().as_secs_f64();
        let mut checks = effects::checks(&attacks, &books, &quiet, court.has_endpoints());
        checks.push(court.still_aimed_at(&agent).await);
        agent.leave().await;
        let recovered = court.recovers().await;
        let mut facts = vec![format!(
            "pace: {before:.2} blocks per second with a silent traitor, {pace:.2} with an active one"
        )];
        if self.strangers > 0 {
            checks.extend(strangers::checks(&received, &served));
            facts.extend(strangers::lines(&received));
        }
        // What is visited over HTTP is signed like everything else.
        let visits = if court.has_endpoints() { Provable::Perhaps } else { Provable::Never };
        let provable = attacks.iter().map(|attack| attack.provable).fold(visits, Ord::max);
        checks.extend(court.judge(self, provable, &samples, recovered, &mut facts).await);
        Ok(Report { checks, books, facts, samples })
    }
}

/// The running cluster.
struct Court {
    nodes: Vec<Node>,
    load: Option<Process>,
    traitor: u8,
    /// What strangers are sent on to.
    _upstream: Option<Mute>,
}

impl Court {
    async fn open(trial: &Trial) -> Result<Self, AdversaryError> {
        let program = &trial.node;
        let text = |number: u64| number.to_string();
        output(
            program,
            &[
                "create-cluster",
                "--insecure-keys",
                "--nodes",
                &text(trial.operators.into()),
                "--out",
                &trial.dir.to_string_lossy(),
                "--base-port",
                &text(trial.base_port.into()),
                "--base-p2p-port",
                &text(trial.base_p2p_port.into()),
                "--block-interval-ms",
                &text(trial.block_interval_ms.into()),
                "--round-timeout-ms",
                &text(trial.round_timeout_ms.into()),
            ],
        )?;
        let version: Value =
            serde_json::from_str(&output(program, &["version", "--json"])?).unwrap_or_default();
        let has_tests =
            version["features"].as_array().is_some_and(|features| features.contains(&"e2e".into()));
        let traitor = trial.operators - 1;
        let upstream = if trial.strangers > 0 { Some(Mute::listen().await?) } else { None };
        let url = upstream.as_ref().map(Mute::url);
        let mut nodes = Vec::new();
        for place in 0..traitor {
            let offset = u16::from(place);
            let ports = (trial.base_port + offset, trial.base_port + MONITORING_OFFSET + offset);
            let tests = trial.base_test_port + 2 * offset;
            let tests = has_tests.then_some((tests, tests + 1));
            let dir = trial.dir.join(format!("node{place}"));
            nodes.push(Node::spawn(program, &dir, ports, tests, url.as_deref())?);
        }
        let mut court = Self { nodes, load: None, traitor, _upstream: upstream };
        court.until("all honest nodes at height 2", 2).await?;
        court.load = court.load_of(trial)?;
        Ok(court)
    }

    fn load_of(&self, trial: &Trial) -> Result<Option<Process>, AdversaryError> {
        if trial.tps == 0 {
            return Ok(None);
        }
        let urls: Vec<&str> = self.nodes.iter().map(Node::api).collect();
        let (urls, tps) = (urls.join(","), trial.tps.to_string());
        let count = (u64::from(trial.tps) * (trial.time + 2 * PATIENCE).as_secs()).to_string();
        let payload = trial.payload_bytes.to_string();
        let args = ["tx", "load", "--url", &urls, "--tps", &tps, "--count", &count, "--payload", &payload];
        spawn(&trial.node, &args, &trial.dir.join("load.log")).map(Some)
    }

    /// Waits until every honest node is at `height`.
    async fn until(&mut self, what: &str, height: u64) -> Result<(), AdversaryError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let heights = self.heights().await;
            if heights.iter().all(|at| *at >= Some(height)) {
                return Ok(());
            }
            if let Some(place) = self.nodes.iter_mut().position(|node| node.process.ended().is_some()) {
                let tail = self.nodes[place].tail();
                let why = format!("ended before {what}: {}", tail.join("\n"));
                return Err(AdversaryError::Process { what: format!("node {place}"), why });
            }
            if Instant::now() > deadline {
                let what = format!("{what}, they are at {heights:?}");
                return Err(AdversaryError::Timeout { what, seconds: PATIENCE.as_secs() });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn heights(&self) -> Vec<Option<u64>> {
        futures::future::join_all(self.nodes.iter().map(Node::height)).await
    }

    async fn tip(&self) -> u64 {
        self.heights().await.into_iter().flatten().max().unwrap_or_default()
    }

    /// Blocks per second with the traitor silent, where every fifth height waits for it and goes on without,
    /// and what verifiers count then.
    async fn quiet(&mut self) -> Result<(f64, Quiet), AdversaryError> {
        let http = reqwest::Client::new();
        let before = Look::at(&http, &self.monitoring()).await;
        let (first, start) = (self.tip().await, Instant::now());
        self.until("blocks before the attack", first + BLOCKS_BEFORE).await?;
        let time = start.elapsed();
        let verdicts = Look::at(&http, &self.monitoring()).await.since(&before);
        Ok((BLOCKS_BEFORE as f64 / time.as_secs_f64(), Quiet { verdicts, time }))
    }

    fn monitoring(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.monitoring.clone()).collect()
    }

    fn has_endpoints(&self) -> bool {
        self.nodes.iter().any(|node| node.test_ports.is_some())
    }

    /// Whether the adversary reached everybody to the end, and knew which height to aim at.
    async fn still_aimed_at(&self, agent: &Agent) -> Check {
        let deadline = Instant::now() + READY_PATIENCE;
        loop {
            let (tip, height, connected) = (self.tip().await, agent.height().0, agent.connected().len());
            let holds = connected == self.nodes.len() && height + BEHIND_MAX >= tip;
            if holds || Instant::now() > deadline {
                return Check {
                    what: "the adversary is connected to all honest nodes and follows their chain to the end",
                    holds,
                    found: format!("{connected} connected, at height {height} of {tip}"),
                };
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn attack(
        &mut self,
        trial: &Trial,
        agent: &Agent,
        tell: &mut impl FnMut(String),
    ) -> Result<(Books, Vec<Sample>), AdversaryError> {
        let plan = Plan {
            attacks: trial.attacks.clone(),
            rate: trial.rate,
            time: trial.time,
            seed: trial.seed,
            monitoring: self.monitoring(),
            endpoints: self.endpoints(),
        };
        let (lines, mut told) = tokio::sync::mpsc::unbounded_channel();
        let playing = agent.play(&plan, move |line| drop(lines.send(line)));
        let mut playing = std::pin::pin!(playing);
        let mut samples = Vec::new();
        let start = Instant::now();
        let mut clock = tokio::time::interval(samples::sample_every(trial.time));
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                books = &mut playing => return Ok((books?, samples)),
                Some(line) = told.recv() => tell(line),
                _ = clock.tick() => {
                    let memory = self.nodes.iter().map(|node| node.process.memory()).collect();
                    let log_bytes = self.nodes.iter().map(|node| node.log_bytes()).collect();
                    let heights = self.heights().await;
                    let stores = futures::future::join_all(self.nodes.iter().map(|node| node.metric(STORE_MEMORY)));
                    let store_kib = stores.await.into_iter().map(|bytes| bytes as u64 / 1024).collect();
                    let sample = Sample { at: start.elapsed(), heights, memory, store_kib, log_bytes };
                    tell(sample.line());
                    samples.push(sample);
                }
            }
        }
    }

    fn endpoints(&self) -> Endpoints {
        let ports: Vec<(u16, u16)> = self.nodes.iter().filter_map(|node| node.test_ports).collect();
        Endpoints {
            qbft: ports.iter().map(|(qbft, _)| format!("http://127.0.0.1:{qbft}/e2e/qbft")).collect(),
            p2p: ports.iter().map(|(_, p2p)| format!("http://127.0.0.1:{p2p}/e2e/p2p")).collect(),
            id_prefix: "X".into(),
            ids_max: 64,
        }
    }

    /// Whether all honest nodes go on together when the attack is over.
    async fn recovers(&mut self) -> Result<(), String> {
        let goal = self.tip().await + BLOCKS_AFTER;
        self.until("blocks after the attack", goal).await.map_err(|error| error.to_string())
    }

    async fn judge(
        &mut self,
        trial: &Trial,
        provable: Provable,
        samples: &[Sample],
        recovered: Result<(), String>,
        facts: &mut Vec<String>,
    ) -> Vec<Check> {
        let mut checks = vec![self.chains().await, self.state_roots().await];
        let (first, last) = (samples.first(), samples.last());
        let decided = |place: usize| {
            let at = |sample: Option<&Sample>| sample.and_then(|sample| *sample.heights.get(place)?);
            Some(at(last)?.saturating_sub(at(first)?))
        };
        let decided: Vec<Option<u64>> = (0..self.nodes.len()).map(decided).collect();
        checks.push(Check {
            what: "blocks are decided during the attack",
            holds: decided.iter().all(|decided| decided.is_some_and(|blocks| blocks > 0)),
            found: format!("{decided:?} between first and last sample"),
        });
        checks.push(Check {
            what: "all honest nodes go on after it",
            holds: recovered.is_ok(),
            found: recovered.err().unwrap_or_else(|| format!("{BLOCKS_AFTER} further blocks")),
        });
        checks.extend(self.proof(provable).await);
        checks.push(self.alive());
        checks.push(samples::judge_logs(samples));
        checks.push(samples::judge_peak(samples));
        match samples::judge_memory(trial.time, self.nodes.len(), samples) {
            Some(check) => checks.push(check),
            None => facts.push("memory is not judged: the trial is too short".into()),
        }
        if !self.has_endpoints() {
            facts.push("test endpoints were not visited: this dvt-node has none".into());
        }
        checks.push(self.no_panic(facts));
        drop(self.load.take());
        let stopped = futures::future::join_all(self.nodes.iter_mut().map(|node| node.stop())).await;
        let faults: Vec<String> = stopped.into_iter().flatten().collect();
        checks.push(Check {
            what: "all honest nodes stop when told to",
            holds: faults.is_empty(),
            found: if faults.is_empty() { "exit code 0".into() } else { faults.join("; ") },
        });
        checks
    }

    /// Every height of every honest node: the same digest, the same header.
    async fn chains(&self) -> Check {
        let what = "the chains of all honest nodes are identical";
        let heights: Vec<u64> = self.heights().await.into_iter().flatten().collect();
        let tip = heights.iter().copied().min().unwrap_or_default();
        let chains = futures::future::join_all(self.nodes.iter().map(|node| node.headers(tip))).await;
        let Some(first) = chains.first().cloned().flatten().filter(|_| tip > 0) else {
            return Check { what, holds: false, found: "a node gives no headers".into() };
        };
        let differs = |chain: &Option<Vec<Value>>| match chain {
            None => Some(0),
            Some(chain) => chain.iter().zip(&first).position(|(one, other)| one != other),
        };
        match chains.iter().enumerate().find_map(|(place, chain)| Some((place, differs(chain)?))) {
            None => {
                let digest = first.last().map(|entry| entry["digest"].clone()).unwrap_or_default();
                Check { what, holds: true, found: format!("{tip} heights, the last is {digest}") }
            }
            Some((place, at)) => {
                let found = format!("node {place} differs from node 0 at height {}", at + 1);
                Check { what, holds: false, found }
            }
        }
    }

    async fn state_roots(&self) -> Check {
        let tip = self.heights().await.into_iter().flatten().min().unwrap_or_default();
        let roots = futures::future::join_all(self.nodes.iter().map(|node| node.roots(tip))).await;
        let holds = roots.iter().all(Option::is_some) && roots.windows(2).all(|pair| pair[0] == pair[1]);
        let root = roots.first().cloned().flatten().map(|(root, _)| root).unwrap_or_default();
        Check { what: "state and history roots are equal", holds, found: format!("at height {tip}: {root}") }
    }

    /// The treason is proven, and nobody else is accused.
    async fn proof(&self, provable: Provable) -> Vec<Check> {
        let tip = self.heights().await.into_iter().flatten().min().unwrap_or_default();
        let known = futures::future::join_all(self.nodes.iter().map(|node| async {
            Known {
                counted: node.metric(EVIDENCE).await,
                accused: found_in_log(&node.log()),
                page: node.evidence().await,
            }
        }));
        proof::checks(&known.await, self.traitor, provable, tip)
    }

    fn alive(&mut self) -> Check {
        let ended: Vec<String> = self
            .nodes
            .iter_mut()
            .enumerate()
            .filter_map(|(place, node)| Some(format!("node {place}: {}", node.process.ended()?)))
            .collect();
        let found = if ended.is_empty() { format!("{} run", self.nodes.len()) } else { ended.join("; ") };
        Check { what: "no process ended", holds: ended.is_empty(), found }
    }

    fn no_panic(&self, facts: &mut Vec<String>) -> Check {
        let logs: Vec<String> = self.nodes.iter().map(|node| node.log()).collect();
        let lines = || logs.iter().flat_map(|log| log.lines());
        let panics: Vec<&str> = lines().filter(|line| line.contains("panicked")).collect();
        let errors = lines().filter(|line| line.contains("\"level\":\"error\"")).count();
        facts.push(format!("log lines of level error: {errors}"));
        let first = panics.first().map_or_else(String::new, |line| format!(": {line}"));
        Check {
            what: "no panic in any log",
            holds: panics.is_empty(),
            found: format!("{} lines{first}", panics.len()),
        }
    }
}

/// Operators that the `evidence_found` lines of a log accuse.
fn found_in_log(log: &str) -> Vec<Value> {
    let events = log.lines().filter(|line| line.contains("evidence_found"));
    let parsed = events.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    parsed.filter(|event| event["msg"] == "evidence_found").map(|event| event["operator"].clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accused_operators_are_read_from_the_log() {
        let log = "not json evidence_found\n\
                   {\"msg\":\"evidence_found\",\"operator\":4}\n\
                   {\"msg\":\"block_decided\",\"operator\":1}\n";
        assert_eq!(found_in_log(log), [Value::from(4)]);
    }
}
