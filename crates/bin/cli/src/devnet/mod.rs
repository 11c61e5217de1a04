//! `dvt-node devnet`: a whole cluster on this machine, every operator its own process.

mod ending;
mod process;
mod progress;

pub use process::follow_parent;

use crate::client::{ClientError, NodeClient, NodeStatus};
use crate::flags::{CHAIN_IDS, SettingFlags, path, text};
use crate::load::{self, Load, LoadPlan, Seen, Summary, follow};
use aequa_crypto::lock::VerifiedLock;
use aequa_node::cluster::{self, BASE_P2P_PORT, BASE_PORT, MONITORING_OFFSET, NewCluster};
use aequa_node::config::{LOCK_FILE, SharedParams, check_shared, not_in_this_version};
use aequa_node::console;
use aequa_node::exit::ExitError;
use aequa_node::{files, runtime};
use clap::Args;
use ending::Ending;
use futures::future::join_all;
use process::{Node, Usage};
use progress::{Progress, View};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// Above this the ports of APIs and monitoring would meet.
const NODES_MAX: usize = MONITORING_OFFSET as usize;
/// Longest wait for all nodes to answer: a slow machine decrypts keystores for a while.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Time between two looks at the nodes, and for their answers to one.
const REFRESH: Duration = Duration::from_secs(1);
/// Longest wait for an answer that something depends on: the first one of a node, and its state root. A
/// machine with as many nodes as it can carry takes its time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause before a question that was not answered is asked again.
const RETRY: Duration = Duration::from_millis(200);
/// Length of a devnet's block interval unless told otherwise.
const BLOCK_INTERVAL_MS: u64 = 500;

/// Run a whole cluster on this machine, for development
#[derive(Debug, Args)]
pub struct DevnetArgs {
    /// Operators of a new cluster; an existing one must have as many [default: 4]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub nodes: Option<u8>,
    /// Folder of the cluster; made when it does not exist or is empty
    #[arg(long, value_name = "DIR", default_value = "./aequa-devnet", value_parser = path())]
    pub dir: PathBuf,
    /// API of node i on this port + i, monitoring on this port + 20 + i
    #[arg(long, value_name = "PORT", default_value_t = BASE_PORT, value_parser = clap::value_parser!(u16).range(1..))]
    pub base_port: u16,
    /// Peer to peer port of node i of a new cluster: this + i [default: 31000]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub base_p2p_port: Option<u16>,
    /// EIP-712 chain id of a new cluster [default: one of its own]
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u64).range(CHAIN_IDS))]
    pub chain_id: Option<u64>,
    /// Submit so many signed transactions per second
    #[arg(long, value_name = "TPS", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub load: Option<u32>,
    /// Stop after so many seconds
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..))]
    pub duration: Option<u64>,
    /// Stop after so many decided blocks
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub blocks: Option<u64>,
    /// Log level of the nodes
    #[arg(long = "log.level", value_name = "LEVEL", default_value = "info", value_parser = ["error", "warn", "info", "debug", "trace"])]
    pub log_level: String,
    /// Let every node record, to be run again with dvt-node replay
    #[arg(long)]
    pub record: bool,
    /// Test builds only
    #[arg(long, value_name = "N:KIND", hide = true, value_parser = text())]
    pub byzantine: Option<String>,
    /// Parameters of a new cluster.
    #[command(flatten)]
    pub shared: SettingFlags<false>,
}

/// Runs the cluster until it is told to stop, or has nothing left to run.
pub fn run(args: DevnetArgs) -> Result<(), ExitError> {
    if args.byzantine.is_some() {
        return Err(not_in_this_version("--byzantine"));
    }
    let lock = cluster_of(&args)?;
    let nodes = lock.quorum().operators();
    if usize::from(args.base_port) + 2 * NODES_MAX > usize::from(u16::MAX) {
        return Err(ExitError::usage("--base-port is too high for the ports of all nodes"));
    }
    runtime()?.block_on(Devnet::run(&args, nodes))
}

/// A running devnet.
struct Devnet {
    nodes: Vec<Node>,
    clients: Vec<NodeClient>,
    signals: (Signal, Signal),
    view: View,
    first_height: u64,
    deaths: Vec<String>,
    deaths_told: usize,
    /// Somebody asked to stop: no block by then is no fault.
    interrupted: bool,
}

impl Devnet {
    async fn run(args: &DevnetArgs, nodes: usize) -> Result<(), ExitError> {
        let mut devnet = Self::start(args, nodes)?;
        let outcome = devnet.work(args).await;
        let usage = devnet.usage();
        let roots = match outcome {
            Ok(_) => devnet.compare_roots().await,
            Err(_) => None,
        };
        let stopping = devnet.stop().await;
        devnet.conclude(outcome?, &usage, roots, stopping)
    }

    fn start(args: &DevnetArgs, nodes: usize) -> Result<Self, ExitError> {
        let fail = |error: std::io::Error| ExitError::failure(format!("cannot listen for signals: {error}"));
        let signals =
            (signal(SignalKind::interrupt()).map_err(fail)?, signal(SignalKind::terminate()).map_err(fail)?);
        let (mut running, mut clients) = (Vec::new(), Vec::new());
        let mut flags = vec!["--log.level", &args.log_level];
        flags.extend(args.record.then_some("--record"));
        for node in 0..nodes {
            let offset = u16::try_from(node).unwrap_or(u16::MAX);
            let api = format!("127.0.0.1:{}", args.base_port + offset);
            let monitoring = format!("127.0.0.1:{}", args.base_port + MONITORING_OFFSET + offset);
            clients.push(NodeClient::new(&format!("http://{api}")).map_err(ExitError::failure)?);
            running.push(Node::spawn(
                node,
                &args.dir.join(format!("node{node}")),
                &api,
                &monitoring,
                &flags,
            )?);
        }
        Ok(Self {
            nodes: running,
            clients,
            signals,
            view: View::new(nodes),
            first_height: 0,
            deaths: Vec::new(),
            deaths_told: 0,
            interrupted: false,
        })
    }

    /// From the first answer of the nodes to the reason to stop.
    async fn work(&mut self, args: &DevnetArgs) -> Result<Option<Summary>, ExitError> {
        if !self.wait_until_up().await? {
            self.interrupted = true;
            return Ok(None);
        }
        self.introduce(args);
        let mut blocks = follow(self.clients.clone(), self.first_height + 1);
        let load = match args.load {
            Some(tps) => Some(Load::prepare(self.clients.clone(), plan(tps)).await?),
            None => None,
        };
        let mut progress = Progress::new(self.nodes.len());
        self.observe(args, &mut blocks, load.as_ref(), &mut progress).await;
        progress.finish();
        let Some(load) = load else { return Ok(None) };
        load.stop();
        Ok(Some(self.drain(load, &mut blocks).await))
    }

    /// Waits for every node's first answer; false when told to stop before.
    async fn wait_until_up(&mut self) -> Result<bool, ExitError> {
        console::line(format!("starting {} nodes", self.nodes.len()));
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let answers = ask(&self.clients, ANSWER_TIMEOUT);
            tokio::select! {
                answers = answers => self.take(answers),
                () = told_to_stop(&mut self.signals) => return Ok(false),
            }
            if let Some(death) = self.deaths.first() {
                return Err(ExitError::failure(format!("a node ended before it was up\n{death}")));
            }
            if self.view.nodes.iter().all(|node| node.height.is_some()) {
                self.first_height = self.view.nodes.iter().filter_map(|node| node.height).min().unwrap_or(0);
                self.view.height = self.first_height;
                return Ok(true);
            }
            if Instant::now() > deadline {
                return Err(ExitError::failure("not all nodes answer").hint("see node.log in their folders"));
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                () = told_to_stop(&mut self.signals) => return Ok(false),
            }
        }
    }

    fn introduce(&self, args: &DevnetArgs) {
        let dir = args.dir.display();
        for (number, (client, node)) in self.clients.iter().zip(&self.nodes).enumerate() {
            let port = usize::from(args.base_port + MONITORING_OFFSET) + number;
            console::line(format!(
                "node {number}: API {} metrics http://127.0.0.1:{port}/metrics pid {} log {dir}/node{number}/node.log",
                client.shown(),
                node.pid()
            ));
        }
        let url = self.clients.first().map_or("", NodeClient::shown);
        console::line(format!("fetch a block:  curl {url}/v1/blocks/1"));
        console::line(format!(
            "check a block:  dvt-node verify-block --lock {dir}/{LOCK_FILE} --url {url} --height 1"
        ));
        console::line("start a node that died:  run the command printed with its end");
        console::line("stop:  Ctrl-C");
    }

    /// Shows what happens until there is a reason to stop.
    async fn observe(
        &mut self,
        args: &DevnetArgs,
        blocks: &mut mpsc::Receiver<Seen>,
        load: Option<&Load>,
        progress: &mut Progress,
    ) {
        let duration = args.duration.map_or(Duration::MAX, Duration::from_secs);
        let last = args.blocks.map_or(u64::MAX, |blocks| self.first_height.saturating_add(blocks));
        let began = Instant::now();
        let mut ticker = tokio::time::interval(REFRESH);
        while began.elapsed() < duration && self.view.height < last && !self.nodes.iter().all(Node::has_died)
        {
            tokio::select! {
                Some(seen) = blocks.recv() => self.count(&seen, load),
                _ = ticker.tick() => {
                    let answers = ask(&self.clients, REFRESH).await;
                    self.take(answers);
                    if let Some(load) = load {
                        self.view.load = Some((load.counts(), load.percentile(50.0), load.percentile(99.0)));
                    }
                    for death in self.new_deaths() {
                        progress.line(&death);
                    }
                    progress.show(&mut self.view);
                }
                () = told_to_stop(&mut self.signals) => return self.interrupted = true,
            }
        }
    }

    fn count(&mut self, seen: &Seen, load: Option<&Load>) {
        self.view.height = seen.block.block.header.height.0;
        self.view.transactions += seen.block.block.header.items;
        if let Some(load) = load {
            load.observe(seen);
        }
    }

    /// Lets the last transactions arrive, while blocks do.
    async fn drain(&mut self, load: Load, blocks: &mut mpsc::Receiver<Seen>) -> Summary {
        while !load.is_drained() && !load.has_stalled() {
            tokio::select! {
                Some(seen) = blocks.recv() => self.count(&seen, Some(&load)),
                () = tokio::time::sleep(RETRY) => {}
                () = told_to_stop(&mut self.signals) => {
                    self.interrupted = true;
                    break;
                }
            }
        }
        load.close().await
    }

    /// Takes the answers of all nodes, and whether their processes run.
    fn take(&mut self, answers: Vec<Option<NodeStatus>>) {
        for (view, answer) in self.view.nodes.iter_mut().zip(answers) {
            view.update(answer);
        }
        self.deaths.extend(self.nodes.iter_mut().filter_map(Node::check));
    }

    fn new_deaths(&mut self) -> Vec<String> {
        let new = self.deaths[self.deaths_told..].to_vec();
        self.deaths_told = self.deaths.len();
        new
    }

    fn usage(&self) -> Vec<Option<Usage>> {
        self.nodes.iter().map(Node::usage).collect()
    }

    /// State roots of all nodes at the highest height they share; none when not all answer.
    async fn compare_roots(&self) -> Option<(u64, bool)> {
        // Whoever interrupts wants it to end, and the dead do not answer.
        let timeout = if self.interrupted || !self.deaths.is_empty() { REFRESH } else { ANSWER_TIMEOUT };
        let (mut heights, mut roots) = (Vec::new(), Vec::new());
        for client in &self.clients {
            heights.push(retry(timeout, || client.status()).await?.height);
        }
        let height = heights.into_iter().min()?;
        for client in &self.clients {
            roots.push(retry(timeout, || client.state_root(height)).await?.root);
        }
        Some((height, roots.windows(2).all(|pair| pair[0] == pair[1])))
    }

    /// Stops all nodes, by force when told to a second time. Returns what went wrong on the way.
    async fn stop(&mut self) -> Vec<String> {
        console::line("stopping");
        tokio::select! {
            _ = join_all(self.nodes.iter_mut().map(Node::stop)) => {}
            () = told_to_stop(&mut self.signals) => {}
        }
        self.nodes.iter_mut().filter_map(Node::fault).collect()
    }

    fn conclude(
        &self,
        summary: Option<Summary>,
        usage: &[Option<Usage>],
        roots: Option<(u64, bool)>,
        stopping: Vec<String>,
    ) -> Result<(), ExitError> {
        let decided = self.view.height.saturating_sub(self.first_height);
        console::line(format!("{decided} blocks decided, the last is {}", self.view.height));
        for (node, usage) in usage.iter().enumerate() {
            if let Some(Usage { rss_kib, cpu }) = usage {
                let per_block = cpu.as_secs_f64() * 1e3 / decided.max(1) as f64;
                console::line(format!(
                    "node {node}: {} MiB resident, {:.1} s CPU, {per_block:.1} ms per block",
                    rss_kib / 1024,
                    cpu.as_secs_f64()
                ));
            }
        }
        if let Some((height, equal)) = roots {
            let word = if equal { "equal" } else { "DIFFERENT" };
            console::line(format!("state roots of all nodes at height {height}: {word}"));
        }
        summary.iter().flat_map(Summary::lines).for_each(console::line);
        let ending = Ending {
            decided,
            interrupted: self.interrupted,
            deaths: self.deaths.len(),
            kept: summary.as_ref().is_none_or(Summary::holds),
            roots_equal: roots.map(|(_, equal)| equal),
            stopping,
        };
        let faults = ending.faults();
        if faults.is_empty() { Ok(()) } else { Err(ExitError::failure(faults.join("; "))) }
    }
}

/// Asks every node how it is.
async fn ask(clients: &[NodeClient], timeout: Duration) -> Vec<Option<NodeStatus>> {
    let ask = |client: &NodeClient| {
        let client = client.clone();
        async move { tokio::time::timeout(timeout, client.status()).await.ok().and_then(Result::ok) }
    };
    join_all(clients.iter().map(ask)).await
}

/// Asks again and again until there is an answer; none when there is none in time.
async fn retry<T, A>(timeout: Duration, question: impl Fn() -> A) -> Option<T>
where
    A: Future<Output = Result<T, ClientError>>,
{
    let asking = async {
        loop {
            match question().await {
                Ok(answer) => return answer,
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        }
    };
    tokio::time::timeout(timeout, asking).await.ok()
}

async fn told_to_stop(signals: &mut (Signal, Signal)) {
    tokio::select! {
        _ = signals.0.recv() => {}
        _ = signals.1.recv() => {}
    }
}

fn plan(tps: u32) -> LoadPlan {
    LoadPlan {
        accounts: load::accounts_for(Some(tps)),
        tps: Some(tps),
        count: None,
        payload_bytes: 64,
        bad_every: 0,
    }
}

/// The cluster in the folder, or a new one when there is nothing.
fn cluster_of(args: &DevnetArgs) -> Result<VerifiedLock, ExitError> {
    let given = args.shared.params()?;
    let fail =
        |error: std::io::Error| ExitError::failure(format!("cannot use {}: {error}", args.dir.display()));
    if files::is_absent_or_empty(&args.dir).map_err(fail)? {
        make_cluster(args, given)?;
        return load_cluster(&args.dir);
    }
    let lock = load_cluster(&args.dir)?;
    let nodes = lock.quorum().operators();
    if args.nodes.is_some_and(|wanted| usize::from(wanted) != nodes) {
        return Err(ExitError::usage(format!(
            "--nodes differs from the {nodes} operators in {}",
            args.dir.display()
        ))
        .hint("remove --nodes, or use another --dir"));
    }
    if nodes > NODES_MAX {
        return Err(ExitError::usage(format!("a devnet has at most {NODES_MAX} nodes")));
    }
    check_shared(&given, &lock.lock().consensus.params)?;
    if let Some(given) = args.chain_id.filter(|given| *given != lock.lock().chain_id) {
        return Err(ExitError::usage(format!(
            "--chain-id is {given}, but the lock says {}",
            lock.lock().chain_id
        )));
    }
    let transport = args.base_p2p_port.map(|port| format!("/tcp/{port}"));
    let known = lock.lock().operators.first().map(|operator| &operator.multiaddrs);
    if transport.is_some_and(|end| !known.is_some_and(|addrs| addrs.iter().any(|addr| addr.ends_with(&end))))
    {
        return Err(ExitError::usage("--base-p2p-port differs from the addresses in the lock"));
    }
    console::line(format!("using the cluster in {}", args.dir.display()));
    Ok(lock)
}

fn make_cluster(args: &DevnetArgs, mut given: SharedParams) -> Result<(), ExitError> {
    let nodes = args.nodes.unwrap_or(4);
    if usize::from(nodes) > NODES_MAX {
        return Err(ExitError::usage(format!("a devnet has at most {NODES_MAX} nodes")));
    }
    let base_p2p_port = args.base_p2p_port.unwrap_or(BASE_P2P_PORT);
    if base_p2p_port.checked_add(u16::from(nodes)).is_none() {
        return Err(ExitError::usage("--base-p2p-port is too high for the ports of all nodes"));
    }
    given.block_interval_ms.get_or_insert(BLOCK_INTERVAL_MS);
    let new = NewCluster {
        out: args.dir.clone(),
        nodes,
        name: "aequa-devnet".into(),
        chain_id: args.chain_id,
        params: given.over_defaults()?,
        insecure_keys: args.chain_id != Some(cluster::MAINNET_CHAIN_ID),
        base_port: args.base_port,
        base_p2p_port,
        reached_at: Vec::new(),
        staking: aequa_node::cluster::Staking::default(),
    };
    let warnings = cluster::make(&new)?;
    console::line(format!("made a cluster of {nodes} operators in {}", args.dir.display()));
    console::line("FOR DEVELOPMENT ONLY: one process made all keys, and their encryption is cheap");
    warnings.iter().for_each(|warning| console::line(format!("warning: {warning}")));
    Ok(())
}

fn load_cluster(dir: &Path) -> Result<VerifiedLock, ExitError> {
    let path = dir.join(LOCK_FILE);
    if !path.exists() {
        return Err(ExitError::usage(format!("{} is not empty and holds no {LOCK_FILE}", dir.display()))
            .hint("choose an empty folder, or one made by create-cluster"));
    }
    aequa_node::keys::load_lock(&path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[tokio::test]
    async fn a_question_that_matters_is_asked_again_until_its_patience_is_over() {
        let asked = AtomicU32::new(0);
        let answered_at = |attempt: u32| {
            let asked = &asked;
            move || async move {
                let unreachable = || ClientError::Unreachable { url: String::new(), why: String::new() };
                let number = asked.fetch_add(1, Ordering::Relaxed) + 1;
                if number >= attempt { Ok(number) } else { Err(unreachable()) }
            }
        };
        assert_eq!(retry(ANSWER_TIMEOUT, answered_at(2)).await, Some(2));
        assert_eq!(retry(Duration::ZERO, answered_at(u32::MAX)).await, None);
    }
}
