//! Nodes as processes of their own, as a devnet and tests start them: with their output in a file, watched, and gone
//! when whoever started them is.

use crate::config::ENV_PREFIX;
use rustix::process::{Pid, Signal, kill_process};
use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// Time a node has to stop by itself: the 5 s it promises, and as much again on a machine that is short of time.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Time between two looks at a process that is to end.
const POLL: Duration = Duration::from_millis(50);
/// Bytes of a log looked at for its last lines.
const TAIL_BYTES: u64 = 64 * 1024;
/// Clock ticks per second in `/proc`: fixed by the kernel's interface on all machines we build for.
const TICKS_PER_SECOND: u64 = 100;

/// A program without input, and without the settings of this process's environment.
pub fn command(program: impl AsRef<OsStr>, args: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new(program);
    let is_ours = |(name, _): &(OsString, _)| name.as_encoded_bytes().starts_with(ENV_PREFIX.as_bytes());
    for (name, _) in std::env::vars_os().filter(is_ours) {
        command.env_remove(name);
    }
    command.args(args).stdin(Stdio::null());
    command
}

/// A process that this one has started, and kills when it is dropped.
#[derive(Debug)]
pub struct Process(Child);

/// What a process holds in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// All of it; pages of the program that were used once stay here.
    pub resident_kib: u64,
    /// What it allocated.
    pub anonymous_kib: u64,
    /// The most that was ever resident.
    pub peak_kib: u64,
}

impl Process {
    /// Starts it, with what it writes at the end of files.
    pub fn spawn(mut command: Command, stdout: &Path, stderr: &Path) -> io::Result<Self> {
        let append = |path| OpenOptions::new().create(true).append(true).open(path);
        command.stdout(append(stdout)?).stderr(append(stderr)?).spawn().map(Self)
    }

    /// Process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// How it ended; none while it runs.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().ok().flatten()
    }

    /// How it ended; none when it still runs after `time`.
    pub async fn ended_within(&mut self, time: Duration) -> Option<ExitStatus> {
        let end = async {
            loop {
                match self.ended() {
                    Some(status) => return status,
                    None => tokio::time::sleep(POLL).await,
                }
            }
        };
        tokio::time::timeout(time, end).await.ok()
    }

    /// Sends a signal, unless it has ended: its id may be another's by now.
    pub fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            let _ = kill_process(Pid::from_child(&self.0), signal);
        }
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    /// What it holds in memory, where the system tells.
    pub fn memory(&self) -> Option<Memory> {
        memory(&std::fs::read_to_string(format!("/proc/{}/status", self.id())).ok()?)
    }

    /// Processor time it has used, where the system tells.
    pub fn processor_time(&self) -> Option<Duration> {
        processor_time(&std::fs::read_to_string(format!("/proc/{}/stat", self.id())).ok()?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Memory {
    /// Of this process, where the system tells.
    pub fn own() -> Option<Self> {
        memory(&std::fs::read_to_string("/proc/self/status").ok()?)
    }
}

/// What `/proc/<pid>/status` says.
fn memory(status: &str) -> Option<Memory> {
    let kib = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse().ok()
    };
    Some(Memory { resident_kib: kib("VmRSS:")?, anonymous_kib: kib("RssAnon:")?, peak_kib: kib("VmHWM:")? })
}

/// User and system time of `/proc/<pid>/stat`; the name before them may contain anything.
fn processor_time(stat: &str) -> Option<Duration> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let total = ticks()?.checked_add(ticks()?)?;
    Some(Duration::from_millis(total * 1000 / TICKS_PER_SECOND))
}

/// The last lines of a log, as many as there are, at most `lines`.
pub fn tail(log: &Path, lines: usize) -> io::Result<Vec<String>> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    Ok(all[all.len().saturating_sub(lines)..].iter().map(|line| (*line).to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read_from_proc() {
        let status = "Name:\tx\nVmHWM:\t   2000 kB\nVmRSS:\t   1234 kB\nRssAnon:\t    99 kB\n";
        let expected = Memory { resident_kib: 1234, anonymous_kib: 99, peak_kib: 2000 };
        assert_eq!(memory(status), Some(expected));
        assert_eq!(memory("nonsense"), None);
    }

    #[test]
    fn processor_time_is_read_from_proc() {
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
        assert_eq!(tail(&log, 2).unwrap(), ["line 18", "line 19"]);
        assert_eq!(tail(&log, 30).unwrap().len(), 20);
    }
}
