//! A cluster of ours: a process per operator, as an operator runs it but for the block interval.

use crate::error::BenchError;
use crate::exposition::Exposition;
use crate::figures::{Figures, WARM_UP, quantile_of};
use crate::link::Links;
use crate::plan::{Content, Row};
use crate::ports;
use crate::usage::Look;
use aequa_node::cluster::{MONITORING_OFFSET, NewCluster, Staking, make};
use aequa_node::process::{Process, command, tail};
use aequa_types::limits::TX_PAYLOAD_BYTES_MAX;
use aequa_types::{BuilderPolicy, ConsensusParams};
use serde_json::Value;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Ports of a cluster beside those of its APIs: monitoring, transports, and links to them.
const P2P_OFFSET: u16 = 40;
const LINK_OFFSET: u16 = 50;
const PORTS: u16 = 60;
/// Longest wait for the first blocks, and for what is done after the measurement.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest wait for one answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Time between two looks at a cluster that starts.
const POLL: Duration = Duration::from_millis(100);
/// Blocks after which a cluster runs.
const FIRST_BLOCKS: f64 = 20.0;
/// Time load has before anything is counted, beside the warm-up.
const LOAD_WARM_UP: Duration = Duration::from_secs(3);
/// Last lines shown of a node that ended.
const LOG_LINES: usize = 4;
/// Byte budget of large blocks: 1 MiB of payloads, and what is around them.
const LARGE_BLOCK_BYTES: u64 = (1 << 20) + (32 << 10);
/// Senders of large transactions: what they have open at a time fills a dozen blocks, and far from a pool.
const LARGE_SENDERS: &str = "4";
/// More transactions than are ever submitted: the load is ended, not waited for.
const ENDLESS: &str = "1000000000";
/// Headers asked for at a time; the API gives no more.
const HEADERS_AT_ONCE: u64 = 100;
/// Time of a decision.
const DECISION: &str = "swarm_consensus_round_duration_seconds";
/// Blocks.
const BLOCKS: &str = "swarm_blockchain_blocks_total";
/// The last one.
const HEIGHT: &str = "swarm_blockchain_height";
/// Bytes among members.
const BYTES: &str = "p2p_bytes_total";

/// A running cluster. Its processes end with it.
pub struct Cluster<'a> {
    program: &'a Path,
    dir: &'a Path,
    row: &'a Row,
    port: u16,
    nodes: Vec<Process>,
    load: Option<Process>,
    links: Option<Links>,
    http: reqwest::Client,
}

impl<'a> Cluster<'a> {
    /// Makes it in a folder and starts it, with these further flags for every node.
    pub async fn start(
        program: &'a Path,
        dir: &'a Path,
        row: &'a Row,
        flags: &[String],
    ) -> Result<Self, BenchError> {
        let port = ports::free(PORTS)?;
        let out = dir.join("cluster");
        make(&request(row, &out, port)).map_err(|error| BenchError::process("cluster", error.report()))?;
        let between: Vec<_> = (0..u16::from(row.nodes))
            .map(|node| (port + LINK_OFFSET + node, port + P2P_OFFSET + node))
            .collect();
        let links = match row.delay.is_zero() {
            true => None,
            false => Some(Links::open(&between, row.delay).await?),
        };
        let mut cluster = Self {
            program,
            dir,
            row,
            port,
            nodes: Vec::new(),
            load: None,
            links,
            http: reqwest::Client::new(),
        };
        for node in 0..row.nodes {
            let node = cluster.spawn_node(&out.join(format!("node{node}")), flags)?;
            cluster.nodes.push(node);
        }
        Ok(cluster)
    }

    fn spawn_node(&self, data_dir: &Path, flags: &[String]) -> Result<Process, BenchError> {
        let sealed = self.row.sealed;
        let mut args = vec!["run".to_owned(), "--data-dir".into(), data_dir.to_string_lossy().into_owned()];
        args.extend([format!("--enable-tss={sealed}"), format!("--enable-tss-sign={sealed}")]);
        args.extend(flags.iter().cloned());
        self.spawn(&args, &data_dir.join("node.log"))
    }

    /// In a group of its own: who presses Ctrl-C stops this program, which then stops the others.
    fn spawn(&self, args: &[impl AsRef<OsStr>], log: &Path) -> Result<Process, BenchError> {
        use std::os::unix::process::CommandExt as _;
        let mut command = command(self.program, args);
        command.env("DVT_NODE_FOLLOW_PARENT", "1").process_group(0);
        Process::spawn(command, log, log)
            .map_err(BenchError::system(format!("cannot start {}", self.program.display())))
    }

    /// Lets it run for a while, and says how that went.
    pub async fn measure(&mut self, seconds: u64) -> Result<Figures, BenchError> {
        self.wait("all links", |node, others| node.total("p2p_conns_open", "") >= others).await?;
        if self.row.content != Content::Small {
            self.load = Some(self.start_load()?);
            tokio::time::sleep(LOAD_WARM_UP).await;
        }
        self.wait("the first blocks", |node, _| node.total(BLOCKS, "") >= FIRST_BLOCKS).await?;
        tokio::time::sleep(WARM_UP).await;
        let (began, carried, before) = (Instant::now(), self.carried(), self.metrics().await?);
        let used = Look::at(&self.nodes);
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let (after, elapsed) = (self.metrics().await?, began.elapsed());
        let used = used.zip(Look::at(&self.nodes));
        let carried = self.carried().zip(carried).map(|(after, before)| (after - before) as f64);
        self.load = None;
        let each: Vec<Exposition> =
            after.iter().zip(&before).map(|(after, before)| after.since(before)).collect();
        let mut figures = figures_of(&each, elapsed);
        if carried.is_some_and(|carried| carried < Exposition::sum(&each).total(BYTES, "direction=\"tx\"")) {
            return Err(BenchError::process("cluster", "its nodes found each other around the links"));
        }
        if let Some((before, after)) = used {
            after.charge(&before, &mut figures);
        }
        let height = |look: &[Exposition]| look.first().map_or(0.0, |node| node.total(HEIGHT, "")) as u64;
        if self.row.content != Content::Small || self.links.is_some() {
            let blocks = self.headers(height(&before) + 1, height(&after)).await?;
            self.add_content(&mut figures, &blocks, elapsed);
        }
        Ok(figures)
    }

    /// What headers say better than metrics do.
    fn add_content(&self, figures: &mut Figures, blocks: &[Header], elapsed: Duration) {
        let transactions_per_s =
            blocks.iter().map(|block| block.items).sum::<u64>() as f64 / elapsed.as_secs_f64();
        match self.row.content {
            Content::Small => {}
            Content::Large => {
                let per_block = transactions_per_s / figures.blocks_per_s;
                figures.block_bytes = Some(per_block * TX_PAYLOAD_BYTES_MAX as f64);
            }
            Content::Transactions => figures.transactions_per_s = Some(transactions_per_s),
        }
        if self.links.is_some() {
            let mut between: Vec<f64> = blocks
                .windows(2)
                .map(|pair| pair[1].timestamp_ms.saturating_sub(pair[0].timestamp_ms) as f64)
                .collect();
            figures.p50_ms = quantile_of(&mut between, 0.5);
            figures.p99_ms = quantile_of(&mut between, 0.99);
        }
    }

    fn start_load(&self) -> Result<Process, BenchError> {
        let urls: Vec<String> =
            (0..u16::from(self.row.nodes)).map(|node| self.url(self.port + node)).collect();
        let (urls, payload) = (urls.join(","), TX_PAYLOAD_BYTES_MAX.to_string());
        let mut args = vec!["tx", "load", "--count", ENDLESS, "--url", &urls];
        if self.row.content == Content::Large {
            args.extend(["--payload", &payload, "--accounts", LARGE_SENDERS]);
        }
        self.spawn(&args, &self.dir.join("load.log"))
    }

    /// Waits until this holds of every node, which has so many others.
    async fn wait(&mut self, what: &str, holds: impl Fn(&Exposition, f64) -> bool) -> Result<(), BenchError> {
        let (began, others) = (Instant::now(), f64::from(self.row.nodes - 1));
        while began.elapsed() < PATIENCE {
            self.check()?;
            // Who does not answer yet is asked again.
            if self.metrics().await.is_ok_and(|nodes| nodes.iter().all(|node| holds(node, others))) {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
        Err(BenchError::Timeout { what: what.to_owned(), seconds: PATIENCE.as_secs() })
    }

    /// Metrics of every node.
    async fn metrics(&mut self) -> Result<Vec<Exposition>, BenchError> {
        self.check()?;
        let mut all = Vec::new();
        for node in 0..u16::from(self.row.nodes) {
            let url = format!("{}/metrics", self.url(self.port + MONITORING_OFFSET + node));
            all.push(Exposition::parse(&self.get(&url).await?));
        }
        Ok(all)
    }

    /// Headers from one height to another.
    async fn headers(&self, from: u64, to: u64) -> Result<Vec<Header>, BenchError> {
        let mut headers = Vec::new();
        let mut height = from;
        while height <= to {
            let limit = HEADERS_AT_ONCE.min(to + 1 - height);
            let url = format!("{}/v1/blocks?from={height}&limit={limit}", self.url(self.port));
            let page = headers_of(&self.get(&url).await?).filter(|page| !page.is_empty());
            let page =
                page.ok_or_else(|| BenchError::process("node 0", format!("no headers from {height} on")))?;
            height += page.len() as u64;
            headers.extend(page);
        }
        Ok(headers)
    }

    fn url(&self, port: u16) -> String {
        format!("http://127.0.0.1:{port}")
    }

    async fn get(&self, url: &str) -> Result<String, BenchError> {
        let fail = |error: reqwest::Error| BenchError::process(url, error.to_string());
        let answer = self.http.get(url).timeout(ANSWER).send().await.map_err(fail)?;
        answer.error_for_status().map_err(fail)?.text().await.map_err(fail)
    }

    fn carried(&self) -> Option<u64> {
        self.links.as_ref().map(Links::carried)
    }

    /// A node that ended is not waited for.
    fn check(&mut self) -> Result<(), BenchError> {
        for (number, node) in self.nodes.iter_mut().enumerate() {
            if let Some(status) = node.ended() {
                let log = self.dir.join(format!("cluster/node{number}/node.log"));
                let last = tail(&log, LOG_LINES).unwrap_or_default().join("\n");
                return Err(BenchError::process(format!("node {number}"), format!("{status}\n{last}")));
            }
        }
        Ok(())
    }
}

/// The cluster of a row.
fn request(row: &Row, out: &Path, port: u16) -> NewCluster {
    let mut builder = BuilderPolicy::default();
    if row.content == Content::Large {
        builder.max_bytes = LARGE_BLOCK_BYTES;
    }
    let reached_at = match row.delay.is_zero() {
        true => Vec::new(),
        // By name: who is known by a name believes no address of this host that members tell each other, and
        // so nobody finds a way around the link.
        false => (0..u16::from(row.nodes))
            .map(|node| format!("/dns4/localhost/tcp/{}", port + LINK_OFFSET + node))
            .collect(),
    };
    NewCluster {
        out: PathBuf::from(out),
        nodes: row.nodes,
        name: "aequa-bench".into(),
        chain_id: None,
        params: ConsensusParams {
            block_interval_ms: 0,
            empty_blocks: row.content != Content::Large,
            builder,
            ..ConsensusParams::default()
        },
        insecure_keys: true,
        base_port: port,
        base_p2p_port: port + P2P_OFFSET,
        reached_at,
        staking: Staking::default(),
    }
}

/// What nodes counted while time passed.
fn figures_of(nodes: &[Exposition], elapsed: Duration) -> Figures {
    let (sum, count) = (Exposition::sum(nodes), nodes.len() as f64);
    let blocks = sum.total(BLOCKS, "") / count;
    let ms = |seconds: f64| seconds * 1e3;
    let sent = sum.total(BYTES, "direction=\"tx\"") / count / blocks;
    Figures {
        blocks_per_s: blocks / elapsed.as_secs_f64(),
        p50_ms: sum.quantile(DECISION, 0.5).map(ms),
        p99_ms: sum.quantile(DECISION, 0.99).map(ms),
        mean_ms: sum.mean(DECISION).map(ms),
        sent_bytes: Some(sent).filter(|sent| sent.is_finite() && *sent > 0.0),
        ..Figures::default()
    }
}

/// What is of interest of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    items: u64,
    timestamp_ms: u64,
}

/// A page of headers, if all of it is understood.
fn headers_of(page: &str) -> Option<Vec<Header>> {
    let page: Value = serde_json::from_str(page).ok()?;
    let number = |value: &Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
    let header = |entry: &Value| {
        let header = &entry["header"];
        Some(Header { items: number(&header["items"])?, timestamp_ms: number(&header["timestamp_ms"])? })
    };
    page["headers"].as_array()?.iter().map(header).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nodes_count_becomes_figures() {
        let node = Exposition::parse(
            "swarm_blockchain_blocks_total{mode=\"live\"} 1000\n\
             swarm_consensus_round_duration_seconds_bucket{le=\"0.005\"} 500\n\
             swarm_consensus_round_duration_seconds_bucket{le=\"0.01\"} 1000\n\
             swarm_consensus_round_duration_seconds_bucket{le=\"+Inf\"} 1000\n\
             swarm_consensus_round_duration_seconds_sum 6\n\
             swarm_consensus_round_duration_seconds_count 1000\n\
             p2p_bytes_total{direction=\"tx\",topic=\"a\"} 3000000\n\
             p2p_bytes_total{direction=\"rx\",topic=\"a\"} 1000000\n",
        );
        let figures = figures_of(&[node.clone(), node], Duration::from_secs(10));
        assert_eq!((figures.blocks_per_s, figures.sent_bytes), (100.0, Some(3000.0)));
        assert_eq!((figures.p50_ms, figures.mean_ms), (Some(5.0), Some(6.0)));
        assert_eq!(figures.transactions_per_s, None);
    }

    #[test]
    fn a_page_of_headers_is_understood_whole_or_not_at_all() {
        let page = r#"{"headers":[{"height":7,"header":{"items":3,"timestamp_ms":12}},
                                  {"header":{"items":"0","timestamp_ms":15}}]}"#;
        let [one, two] = [(3, 12), (0, 15)].map(|(items, timestamp_ms)| Header { items, timestamp_ms });
        assert_eq!(headers_of(page), Some(vec![one, two]));
        assert_eq!(headers_of(r#"{"headers":[{"header":{"items":1}}]}"#), None);
        assert_eq!(headers_of("nothing"), None);
    }

    #[test]
    fn nodes_behind_long_links_are_known_by_names() {
        let row = |delay| Row {
            content: Content::Small,
            nodes: 4,
            place: crate::plan::Place::Memory,
            sealed: false,
            delay,
        };
        let near = request(&row(Duration::ZERO), Path::new("x"), 20_000);
        let far = request(&row(Duration::from_millis(40)), Path::new("x"), 20_000);
        assert!(near.reached_at.is_empty());
        assert_eq!(far.reached_at[3], "/dns4/localhost/tcp/20053");
        assert_eq!(far.base_p2p_port, 20_040, "it listens elsewhere");
    }
}
