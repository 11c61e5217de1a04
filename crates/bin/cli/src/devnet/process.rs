//! Node processes: started, watched, stopped.

use aequa_node::exit::ExitError;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Tells a node that it must not outlive the process that started it.
const FOLLOW_PARENT: &str = "DVT_NODE_FOLLOW_PARENT";
/// Time a node has to stop by itself: the 5 s it promises, and as much again on a machine that is short of time.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// Last lines of a log shown when a node ends.
const LOG_LINES: usize = 8;
/// Bytes of a log looked at for them.
const LOG_TAIL_BYTES: u64 = 16 * 1024;
/// Clock ticks per second in `/proc`: fixed by the kernel's interface on all machines we build for.
const TICKS_PER_SECOND: u64 = 100;

/// In a node started by a devnet: end when the devnet does, however it ends.
pub fn follow_parent() {
    #[cfg(target_os = "linux")]
    if std::env::var_os(FOLLOW_PARENT).is_some() {
        let _ = rustix::process::set_parent_process_death_signal(Some(Signal::TERM));
    }
}

/// One node process.
#[derive(Debug)]
pub(super) struct Child {
    node: usize,
    process: std::process::Child,
    command: String,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

/// What a process has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usage {
    /// Resident memory.
    pub(super) rss_kib: u64,
    /// Processor time.
    pub(super) cpu: Duration,
}

impl Child {
    /// Starts the node of a data directory, with these further flags.
    pub(super) fn spawn(
        node: usize,
        dir: &Path,
        api: &str,
        monitoring: &str,
        flags: &[&str],
    ) -> Result<Self, ExitError> {
        use std::os::unix::process::CommandExt as _;
        let fail = |error: std::io::Error| ExitError::failure(format!("cannot start node {node}: {error}"));
        let log = dir.join("node.log");
        let output = OpenOptions::new().create(true).append(true).open(&log).map_err(fail)?;
        let program = std::env::current_exe().map_err(fail)?;
        let data_dir = dir.to_string_lossy().into_owned();
        let mut args = vec![
            "run",
            "--data-dir",
            &data_dir,
            "--validator-api",
            api,
            "--monitoring",
            monitoring,
            "--enable-tx-api",
            "--enable-builder",
            "--enable-tss",
            "--enable-tss-sign",
        ];
        args.extend(flags);
        let mut command = Command::new(&program);
        command.args(&args).stdin(Stdio::null()).stderr(output.try_clone().map_err(fail)?).stdout(output);
        // Every node of a test build has test endpoints; `listen` in its log says where.
        #[cfg(feature = "e2e")]
        command.args(["--e2e.listen", "127.0.0.1:0", "--e2e.p2p-listen", "127.0.0.1:0"]);
        // Settings of the devnet's own environment are not meant for the nodes.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AEQUA_"))
        {
            command.env_remove(name);
        }
        // Its own group: a Ctrl-C in the terminal reaches the devnet only, which then stops the nodes.
        let process = command.env(FOLLOW_PARENT, "1").process_group(0).spawn().map_err(fail)?;
        Ok(Self {
            node,
            process,
            command: format!("{} {}", program.display(), args.join(" ")),
            log,
            ended: None,
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(super) fn is_dead(&self) -> bool {
        self.ended.is_some()
    }

    /// A report the first time the process is found to have ended.
    pub(super) fn check(&mut self) -> Option<String> {
        if self.ended.is_some() {
            return None;
        }
        let status = self.process.try_wait().ok()??;
        self.ended = Some(status);
        let lines = tail(&self.log).unwrap_or_else(|error| format!("  (no log: {error})"));
        Some(format!("node {} ended: {status}\n{lines}\n  start it again: {}", self.node, self.command))
    }

    pub(super) fn usage(&self) -> Option<Usage> {
        if self.is_dead() {
            return None;
        }
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{}/{name}", self.pid())).ok();
        Some(Usage { rss_kib: resident_kib(&read("status")?)?, cpu: processor_time(&read("stat")?)? })
    }

    fn signal(&self, signal: Signal) {
        if self.is_dead() {
            return;
        }
        if let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }
}

/// Whatever ends the devnet early must not leave nodes behind.
impl Drop for Child {
    fn drop(&mut self) {
        if !self.is_dead() {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}

/// Stops all nodes: politely, after [`STOP_PATIENCE`] or a second signal by force. Returns what went
/// wrong on the way.
pub(super) async fn stop_all(
    children: &mut [Child],
    signals: &mut (tokio::signal::unix::Signal, tokio::signal::unix::Signal),
) -> Vec<String> {
    children.iter().for_each(|child| child.signal(Signal::TERM));
    let deadline = Instant::now() + STOP_PATIENCE;
    let mut faults = Vec::new();
    while !children.iter().all(Child::is_dead) {
        for child in children.iter_mut().filter(|child| !child.is_dead()) {
            if let Ok(Some(status)) = child.process.try_wait() {
                child.ended = Some(status);
                if !status.success() {
                    faults.push(format!("node {} stopped with {status}", child.node));
                }
            }
        }
        let forced = tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(50)) => Instant::now() > deadline,
            _ = signals.0.recv() => true,
            _ = signals.1.recv() => true,
        };
        if forced {
            for child in children.iter_mut().filter(|child| !child.is_dead()) {
                faults.push(format!("node {} did not stop and was killed", child.node));
                let _ = child.process.kill();
                child.ended = child.process.wait().ok();
            }
            break;
        }
    }
    faults
}

/// The last lines of a log, indented.
fn tail(log: &Path) -> std::io::Result<String> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let mut file = std::fs::File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().collect();
    let shown = &lines[lines.len().saturating_sub(LOG_LINES)..];
    Ok(shown.iter().map(|line| format!("  | {line}")).collect::<Vec<_>>().join("\n"))
}

/// `VmRSS` of `/proc/<pid>/status`.
fn resident_kib(status: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.split_whitespace().next()?.parse().ok()
}

/// User and system time of `/proc/<pid>/stat`; the name before them may contain anything.
fn processor_time(stat: &str) -> Option<Duration> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let total = ticks()?.checked_add(ticks()?)?;
    Some(Duration::from_millis(total * 1000 / TICKS_PER_SECOND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read_from_proc() {
        assert_eq!(resident_kib("Name:\tx\nVmRSS:\t   1234 kB\n"), Some(1234));
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 1 0 5 0 0";
        assert_eq!(processor_time(stat), Some(Duration::from_secs(3)));
        assert_eq!(processor_time("nonsense"), None);
    }

    #[test]
    fn the_tail_of_a_log_is_its_last_lines() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("node.log");
        let text: String = (0..20).map(|line| format!("line {line}\n")).collect();
        std::fs::write(&log, text).unwrap();
        let shown = tail(&log).unwrap();
        assert_eq!(shown.lines().count(), LOG_LINES);
        assert!(shown.ends_with("| line 19"));
    }
}
