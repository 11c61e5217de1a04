//! Processes of a trial: started, watched, and gone when the trial is.

use crate::AdversaryError;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Time a node has to stop by itself: what it promises, and as much again for a machine under attack.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// The program, without settings from the environment.
pub(super) fn program(path: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(path);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AEQUA_")) {
        command.env_remove(name);
    }
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs a program to its end; its standard output.
pub(super) fn output(path: &Path, args: &[&str]) -> Result<String, AdversaryError> {
    let what = format!("{} {}", path.display(), args.first().copied().unwrap_or_default());
    let fail = |why: String| AdversaryError::Process { what: what.clone(), why };
    let output = program(path, args).output().map_err(|error| fail(error.to_string()))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(fail(String::from_utf8_lossy(&output.stderr).into_owned())),
    }
}

/// What a process holds in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Memory {
    /// All of it; pages of the program that were used once stay here.
    pub resident_kib: u64,
    /// What it allocated.
    pub anonymous_kib: u64,
    /// The most that was ever resident.
    pub peak_kib: u64,
}

/// A running process with its output in a file.
pub(super) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    pub fn spawn(path: &Path, args: &[&str], log: PathBuf) -> Result<Self, AdversaryError> {
        let fail = |error: std::io::Error| AdversaryError::Process {
            what: path.display().to_string(),
            why: error.to_string(),
        };
        let output: File = OpenOptions::new().create(true).append(true).open(&log).map_err(fail)?;
        let mut command = program(path, args);
        command.stderr(output.try_clone().map_err(fail)?).stdout(output);
        Ok(Self { child: command.spawn().map_err(fail)?, log })
    }

    /// How it ended, when it has.
    pub fn ended(&mut self) -> Option<String> {
        self.child.try_wait().ok().flatten().map(|status| status.to_string())
    }

    /// Resident memory, where the system tells.
    pub fn memory(&self) -> Option<Memory> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let kib = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            line.split_whitespace().next()?.parse().ok()
        };
        Some(Memory {
            resident_kib: kib("VmRSS:")?,
            anonymous_kib: kib("RssAnon:")?,
            peak_kib: kib("VmHWM:")?,
        })
    }

    /// Everything it wrote.
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Bytes it wrote.
    pub fn log_bytes(&self) -> u64 {
        std::fs::metadata(&self.log).map_or(0, |metadata| metadata.len())
    }

    /// SIGTERM, then its end; what went wrong.
    pub async fn stop(&mut self) -> Option<String> {
        if let Some(status) = self.ended() {
            return Some(format!("had ended before: {status}"));
        }
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // It may end at this very moment.
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + STOP_PATIENCE;
        while Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return None,
                Ok(Some(status)) => return Some(format!("ended with {status}")),
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
        Some(format!("did not end within {STOP_PATIENCE:?} of SIGTERM"))
    }
}

/// Whatever ends the trial early leaves no process behind.
impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
