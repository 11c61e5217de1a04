//! How a chore fails.

use std::path::PathBuf;

/// Why a chore did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The command line was not understood.
    #[error("{0}")]
    Usage(String),
    /// A program ended with an error.
    #[error("{command} failed with {status}")]
    Program {
        /// The command line.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
    },
    /// A program could not be started.
    #[error("cannot start {command}: {source}")]
    Start {
        /// The command line.
        command: String,
        /// Why.
        source: std::io::Error,
    },
    /// A file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file of ours does not have the form it must have.
    #[error("{file}: {reason}")]
    Malformed {
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A check found something.
    #[error("{check}: {} finding(s)\n  {}", findings.len(), findings.join("\n  "))]
    Findings {
        /// The check.
        check: &'static str,
        /// One line each.
        findings: Vec<String>,
    },
}

impl Failure {
    /// 2 for usage, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Usage(_) => 2,
            _ => 1,
        }
    }

    /// A file of ours that is not as it must be.
    pub fn malformed(file: &str, reason: impl std::fmt::Display) -> Self {
        Failure::Malformed { file: file.into(), reason: reason.to_string() }
    }

    /// Success when there is nothing to report.
    pub fn unless_empty(check: &'static str, findings: Vec<String>) -> Result<(), Self> {
        if findings.is_empty() { Ok(()) } else { Err(Failure::Findings { check, findings }) }
    }
}
