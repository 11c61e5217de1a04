//! Why something was not measured.

use std::io;

/// Why something was not measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// What was asked for makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The system refused something.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A process did something else than it should.
    #[error("{who}: {why}")]
    Process {
        /// Which process.
        who: String,
        /// What happened, with the last lines it wrote.
        why: String,
    },
    /// Something did not happen in time.
    #[error("not within {seconds} s: {what}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// For how long.
        seconds: u64,
    },
    /// The person at the terminal, or who started this, asked to stop.
    #[error("told to stop")]
    Stopped,
}

impl BenchError {
    /// A refusal of the system, while `what` was tried.
    pub fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }

    /// Something wrong with a process.
    pub fn process(who: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Process { who: who.into(), why: why.into() }
    }

    /// 2 for usage, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::System { .. } | Self::Process { .. } | Self::Timeout { .. } | Self::Stopped => 1,
        }
    }
}
