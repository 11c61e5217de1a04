//! One honest node of the trial, over its API.

use super::process::spawn;
use crate::AdversaryError;
use crate::crowd::Doors;
use crate::verdicts::scrape;
use aequa_node::process::{Process, STOP_TIMEOUT, tail};
use rustix::process::Signal;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest wait for an answer; a node under attack is slow.
const PATIENCE: Duration = Duration::from_secs(10);
/// Headers asked for at a time; the API gives no more.
const HEADERS_AT_ONCE: u64 = 100;

/// A running operator that does what it should.
pub(super) struct Node {
    pub process: Process,
    log: PathBuf,
    api: String,
    pub monitoring: String,
    /// Where both listen.
    pub doors: Doors,
    /// Addresses of its test endpoints, when it has them.
    pub test_ports: Option<(u16, u16)>,
    http: reqwest::Client,
}

impl Node {
    /// Starts the node of a data directory.
    pub fn spawn(
        program: &Path,
        dir: &Path,
        (api, monitoring): (u16, u16),
        test_ports: Option<(u16, u16)>,
        upstream: Option<&str>,
    ) -> Result<Self, AdversaryError> {
        let data_dir = dir.to_string_lossy().into_owned();
        let mut args: Vec<String> = vec!["run".into(), "--data-dir".into(), data_dir];
        if let Some((qbft, p2p)) = test_ports {
            args.extend(["--e2e.listen".into(), format!("127.0.0.1:{qbft}")]);
            args.extend(["--e2e.p2p-listen".into(), format!("127.0.0.1:{p2p}")]);
            args.extend(["--e2e.tss-listen".into(), "127.0.0.1:0".into()]);
        }
        args.extend(upstream.into_iter().flat_map(|url| ["--upstream".into(), url.to_owned()]));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let log = dir.join("node.log");
        Ok(Self {
            process: spawn(program, &args, &log)?,
            log,
            api: format!("http://127.0.0.1:{api}"),
            monitoring: format!("http://127.0.0.1:{monitoring}"),
            doors: Doors {
                api: ([127, 0, 0, 1], api).into(),
                monitoring: ([127, 0, 0, 1], monitoring).into(),
            },
            test_ports,
            http: reqwest::Client::new(),
        })
    }

    /// SIGTERM, then its end; what went wrong.
    pub async fn stop(&mut self) -> Option<String> {
        if let Some(status) = self.process.ended() {
            return Some(format!("had ended before: {status}"));
        }
        self.process.signal(Signal::TERM);
        match self.process.ended_within(STOP_TIMEOUT).await {
            Some(status) if status.success() => None,
            Some(status) => Some(format!("ended with {status}")),
            None => Some(format!("did not end within {STOP_TIMEOUT:?} of SIGTERM")),
        }
    }

    /// Everything it wrote.
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The last it wrote.
    pub fn tail(&self) -> Vec<String> {
        tail(&self.log, 5).unwrap_or_default()
    }

    /// Bytes it wrote.
    pub fn log_bytes(&self) -> u64 {
        std::fs::metadata(&self.log).map_or(0, |metadata| metadata.len())
    }

    /// Base URL of its API.
    pub fn api(&self) -> &str {
        &self.api
    }

    /// The last decided height; none while it does not answer.
    pub async fn height(&self) -> Option<u64> {
        self.get("/status").await?["height"].as_u64()
    }

    /// Digest and header of every block up to `tip`, as it tells them.
    pub async fn headers(&self, tip: u64) -> Option<Vec<Value>> {
        let mut headers: Vec<Value> = Vec::new();
        while (headers.len() as u64) < tip {
            let from = headers.len() as u64 + 1;
            let limit = HEADERS_AT_ONCE.min(tip + 1 - from);
            let page = self.get(&format!("/v1/blocks?from={from}&limit={limit}")).await?;
            let page = page["headers"].as_array().filter(|page| !page.is_empty())?.clone();
            headers.extend(page);
        }
        Some(headers)
    }

    /// State root and history root after a height.
    pub async fn roots(&self, height: u64) -> Option<(Value, Value)> {
        let answer = self.get(&format!("/v1/state-root?height={height}")).await?;
        Some((answer["root"].clone(), answer["history_root"].clone()))
    }

    /// The first page of what it tells of evidence.
    pub async fn evidence(&self) -> Option<Value> {
        self.get("/v1/evidence").await
    }

    /// One counter; 0 when it never moved.
    pub async fn metric(&self, series: &str) -> f64 {
        let text = scrape(&self.http, &self.monitoring).await.unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).unwrap_or_default()
    }

    async fn get(&self, path: &str) -> Option<Value> {
        let answer = self.http.get(format!("{}{path}", self.api)).timeout(PATIENCE).send().await.ok()?;
        let answer = answer.error_for_status().ok()?;
        serde_json::from_slice(&answer.bytes().await.ok()?).ok()
    }
}
