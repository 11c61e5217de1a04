//! One node of a devnet.

use aequa_node::exit::ExitError;
use aequa_node::process::{self, Process, STOP_TIMEOUT};
use rustix::process::Signal;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Tells a node that it must not outlive the process that started it.
const FOLLOW_PARENT: &str = "DVT_NODE_FOLLOW_PARENT";
/// Last lines of a log shown when a node ends.
const LOG_LINES: usize = 8;

/// In a node started by a devnet: end when the devnet does, however it ends.
pub fn follow_parent() {
    #[cfg(target_os = "linux")]
    if std::env::var_os(FOLLOW_PARENT).is_some() {
        let _ = rustix::process::set_parent_process_death_signal(Some(Signal::TERM));
    }
}

/// One node.
#[derive(Debug)]
pub(super) struct Node {
    number: usize,
    process: Process,
    command: String,
    log: PathBuf,
    died: bool,
}

/// What a node has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usage {
    /// Resident memory.
    pub(super) rss_kib: u64,
    /// Processor time.
    pub(super) cpu: Duration,
}

impl Node {
    /// Starts the node of a data directory, with these further flags.
    pub(super) fn spawn(
        number: usize,
        dir: &Path,
        api: &str,
        monitoring: &str,
        flags: &[&str],
    ) -> Result<Self, ExitError> {
        use std::os::unix::process::CommandExt as _;
        let fail = |error: io::Error| ExitError::failure(format!("cannot start node {number}: {error}"));
        let program = std::env::current_exe().map_err(fail)?;
        let (log, data_dir) = (dir.join("node.log"), dir.to_string_lossy());
        let mut args =
            vec!["run", "--data-dir", &data_dir, "--validator-api", api, "--monitoring", monitoring];
        args.extend(["--enable-tx-api", "--enable-builder", "--enable-tss", "--enable-tss-sign"]);
        args.extend(flags);
        let shown = format!("{} {}", program.display(), args.join(" "));
        let mut command = process::command(program, &args);
        // Every node of a test build has test endpoints; `listen` in its log says where.
        #[cfg(feature = "e2e")]
        for port in ["--e2e.listen", "--e2e.tss-listen", "--e2e.p2p-listen"] {
            command.args([port, "127.0.0.1:0"]);
        }
        // Its own group: a Ctrl-C in the terminal reaches the devnet only, which then stops the nodes.
        command.env(FOLLOW_PARENT, "1").process_group(0);
        let process = Process::spawn(command, &log, &log).map_err(fail)?;
        Ok(Self { number, process, command: shown, log, died: false })
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Whether [`Node::check`] has found it dead.
    pub(super) fn has_died(&self) -> bool {
        self.died
    }

    /// A report the first time it is found to have ended.
    pub(super) fn check(&mut self) -> Option<String> {
        if self.died {
            return None;
        }
        let status = self.process.ended()?;
        self.died = true;
        let lines = match process::tail(&self.log, LOG_LINES) {
            Ok(lines) => lines.iter().map(|line| format!("  | {line}")).collect::<Vec<_>>().join("\n"),
            Err(error) => format!("  (no log: {error})"),
        };
        Some(format!("node {} ended: {status}\n{lines}\n  start it again: {}", self.number, self.command))
    }

    pub(super) fn usage(&self) -> Option<Usage> {
        if self.died {
            return None;
        }
        Some(Usage { rss_kib: self.process.memory()?.resident_kib, cpu: self.process.processor_time()? })
    }

    /// Tells it to stop, and gives it the time for it.
    pub(super) async fn stop(&mut self) {
        self.process.signal(Signal::TERM);
        self.process.ended_within(STOP_TIMEOUT).await;
    }

    /// Ends it if it still runs; what was wrong with how it stopped. One that died before is no news.
    pub(super) fn fault(&mut self) -> Option<String> {
        match self.process.ended() {
            _ if self.died => None,
            Some(status) if status.success() => None,
            Some(status) => Some(format!("node {} stopped with {status}", self.number)),
            None => {
                self.process.kill();
                Some(format!("node {} did not stop and was killed", self.number))
            }
        }
    }
}
