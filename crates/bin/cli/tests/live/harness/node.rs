//! One `dvt-node` process.

use super::http::{self, Answer};
use super::until;
use aequa_node::process::{self, Memory, Process};
use aequa_types::json::BlockJson;
use aequa_types::{CertifiedBlock, Digest};
use rustix::process::Signal;
use serde_json::Value;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

/// Log lines printed per node when a test fails.
const TAIL: usize = 25;

/// `dvt-node` with these arguments, and without settings from the environment.
pub fn command(args: &[&str]) -> Command {
    process::command(env!("CARGO_BIN_EXE_dvt-node"), args)
}

/// The same, with at most so many file descriptors.
fn command_within(descriptors_max: usize, args: &[&str]) -> Command {
    let node = command(args);
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("ulimit -n {descriptors_max}; exec \"$0\" \"$@\""));
    shell.arg(node.get_program()).args(node.get_args()).stdin(Stdio::null());
    for (name, _) in node.get_envs() {
        shell.env_remove(name);
    }
    shell
}

/// Runs `dvt-node` to its end.
pub fn output(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

/// How a node ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub took: Duration,
}

/// A node of a test: its folder, its ports, and its process while it runs.
pub struct Node {
    pub dir: PathBuf,
    pub api: u16,
    pub monitoring: u16,
    /// Most file descriptors of the process; none = as many as this one.
    pub descriptors_max: Option<usize>,
    pub flags: Vec<String>,
    process: Option<Process>,
}

impl Node {
    /// A node that is not started. Its log is beside its data directory `dir`.
    pub fn new(dir: PathBuf, api: u16, monitoring: u16, flags: Vec<String>) -> Self {
        Self { dir, api, monitoring, descriptors_max: None, flags, process: None }
    }

    /// Starts the process without waiting for anything.
    pub fn spawn(&mut self) {
        assert!(self.process.is_none(), "{} runs already", self.dir.display());
        let dir = self.dir.to_string_lossy().into_owned();
        let (api, monitoring) = (format!("127.0.0.1:{}", self.api), format!("127.0.0.1:{}", self.monitoring));
        let args = ["--data-dir", &dir, "--validator-api", &api, "--monitoring", &monitoring];
        let mut command = match self.descriptors_max {
            None => command(&args),
            Some(max) => command_within(max, &args),
        };
        #[cfg(feature = "e2e")]
        for port in ["--e2e.listen", "--e2e.tss-listen", "--e2e.p2p-listen"] {
            command.args([port, "127.0.0.1:0"]);
        }
        command.args(&self.flags);
        self.process = Some(Process::spawn(command, &self.log_path(), &self.err_path()).unwrap());
    }

    /// Starts the process and waits until its API answers.
    pub fn start(&mut self) {
        self.spawn();
        self.await_up();
    }

    /// Waits until the API answers.
    pub fn await_up(&mut self) {
        let process = self.process.as_mut().unwrap();
        let (api, dir) = (self.api, self.dir.display().to_string());
        until(&format!("{dir} answers"), || {
            let ended = process.ended();
            assert!(ended.is_none(), "{dir} ended at its start: {ended:?}");
            http::request(api, "GET", "/health", "", b"").ok().filter(|answer| answer.status == 200)
        });
    }

    /// Whether the process runs.
    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| process.ended().is_none())
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().unwrap().id()
    }

    /// What it holds in memory.
    pub fn memory(&self) -> Memory {
        self.process.as_ref().unwrap().memory().unwrap()
    }

    /// Waits until the process ends by itself.
    pub fn until_ended(&mut self) -> ExitStatus {
        let mut process = self.process.take().unwrap();
        let dir = self.dir.display().to_string();
        until(&format!("{dir} ends"), || process.ended())
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.process.take().unwrap().kill();
    }

    /// Sends a signal.
    pub fn signal(&mut self, signal: Signal) {
        self.process.as_mut().unwrap().signal(signal);
    }

    /// SIGTERM, then its end.
    pub fn stop(&mut self) -> Ended {
        let mut process = self.process.take().unwrap();
        let start = Instant::now();
        process.signal(Signal::TERM);
        let status = until(&format!("{} ends after SIGTERM", self.dir.display()), || process.ended());
        Ended { status, took: start.elapsed() }
    }

    /// GET; none while the node does not answer.
    pub fn try_get(&self, path: &str) -> Option<Answer> {
        http::request(self.api, "GET", path, "", b"").ok()
    }

    /// GET of a node that must answer.
    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.try_get(path).unwrap_or_else(|| panic!("{} does not answer {path}", self.dir.display()))
    }

    /// POST of JSON to a node that must answer.
    #[track_caller]
    pub fn post(&self, path: &str, body: &[u8]) -> Answer {
        let json = "Content-Type: application/json\r\n";
        let answer = http::request(self.api, "POST", path, json, body);
        answer.unwrap_or_else(|error| panic!("{} does not answer {path}: {error}", self.dir.display()))
    }

    /// Any request, with further header lines.
    pub fn request(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> std::io::Result<Answer> {
        http::request(self.api, method, path, headers, body)
    }

    /// Bytes as they are; what comes back until the node closes.
    pub fn raw(&self, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
        http::raw(self.api, bytes)
    }

    /// `/metrics` of the monitoring listener.
    pub fn metrics(&self) -> String {
        http::request(self.monitoring, "GET", "/metrics", "", b"").unwrap().text()
    }

    /// Value of one series; none when there is no such series.
    pub fn metric(&self, series: &str) -> Option<f64> {
        let text = self.metrics();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
        line.parse().ok()
    }

    /// `/status`; none while the node does not answer.
    pub fn status(&self) -> Option<Value> {
        self.try_get("/status").map(|answer| answer.json())
    }

    /// Last decided height; none while the node does not answer.
    pub fn height(&self) -> Option<u64> {
        self.status()?["height"].as_u64()
    }

    /// A stored block, checked to be what it says.
    pub fn block(&self, height: u64) -> Option<CertifiedBlock> {
        let answer = self.try_get(&format!("/v1/blocks/{height}")).filter(|answer| answer.status == 200)?;
        Some(BlockJson::parse(&answer.body).unwrap())
    }

    /// Digests of the blocks 1 to `tip`, each linked to the one before.
    #[track_caller]
    pub fn digests(&self, tip: u64) -> Vec<Digest> {
        let mut digests: Vec<Digest> = Vec::new();
        for height in 1..=tip {
            let block =
                self.block(height).unwrap_or_else(|| panic!("{}: no block {height}", self.dir.display()));
            let header = block.block.header;
            assert_eq!(header.height.0, height);
            if let Some(parent) = digests.last() {
                assert_eq!(header.parent_root, *parent, "block {height} hangs on another parent");
            }
            digests.push(header.digest());
        }
        digests
    }

    /// Where stdout goes.
    pub fn log_path(&self) -> PathBuf {
        self.dir.with_extension("log")
    }

    /// Where stderr goes.
    fn err_path(&self) -> PathBuf {
        self.dir.with_extension("err")
    }

    /// All log lines of all its lives.
    pub fn log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.log_path()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_default()).collect()
    }

    /// Prints how it was in the end.
    pub fn report(&self) {
        for path in [self.log_path(), self.err_path()] {
            eprint!("{}", tail(&path));
        }
    }
}

/// The last lines of a file, under its name.
pub fn tail(path: &Path) -> String {
    let last = process::tail(path, TAIL).unwrap_or_default();
    let last: String = last.iter().map(|line| format!("{}\n", cut(line))).collect();
    format!("--- the end of {}\n{last}", path.display())
}

fn cut(line: &str) -> &str {
    line.char_indices().nth(400).map_or(line, |(at, _)| &line[..at])
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.report();
        }
    }
}

/// Copies a folder with everything in it; files read-only for their owner become writable.
pub fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            let _ = std::fs::remove_file(&target);
            std::fs::write(&target, std::fs::read(entry.path()).unwrap()).unwrap();
            // To be changed by a test, and read by nobody else: there are keys among them.
            std::fs::set_permissions(&target, Permissions::from_mode(0o600)).unwrap();
        }
    }
}
