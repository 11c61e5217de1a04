//! Log events: JSON lines on stdout, one object per line (contract: logs).
//!
//! An event is written with `tracing` under the target `event`; its message is its name:
//!
//! ```
//! let (height, round) = (7, 0);
//! tracing::info!(target: "event", height, round, "block_decided");
//! ```
//!
//! gives `{"ts":"…","level":"info","msg":"block_decided","height":7,"round":0}`. A field whose name is a
//! Rust keyword is written as a string (`"type" = name`), an `Option` that is `None` is left out, and
//! a value that is not a scalar goes through [`json`].
//!
//! - Every string is cut at [`TEXT_BYTES_MAX`] bytes and escaped, so text from outside cannot forge a
//!   line or a field, nor speak to the terminal that shows it ([`plain`]). Only [`json`] is exempt from the
//!   cut: use it for text of our own.
//! - Lines of libraries become the event `log` with `target` and `text`, from `warn` upwards.
//! - A cause that repeats itself is counted instead of written, and `log_repeated` tells how often: beyond
//!   [`REPEATS_PER_WINDOW`] lines of one place in the code, and where a peer is the cause, far earlier
//!   ([`RateLimiter`]). The first warning of another cause is written all the same ([`CAUSES_MAX`]).
//! - Writing never waits for stdout: a full queue drops the line, counts it, and says so in
//!   `log_dropped` as soon as there is room again. Warnings and errors have [`GRAVE_LINES_MAX`] places that
//!   nothing else can take.

mod events;
mod limiter;
mod line;
mod plain;
mod repeats;
mod url;
mod writer;

pub use events::{EVENTS, EventInfo, check};
pub use limiter::{Admit, EVENTS_PER_WINDOW, KEYS_MAX, RateLimiter, Suppressed, WINDOW};
pub use line::{Json, TEXT_BYTES_MAX, json};
pub use plain::plain;
pub use repeats::{CAUSES_MAX, REPEATS_PER_WINDOW, REPEATS_WINDOW};
pub use url::public_url;
pub use writer::{FLUSH_MAX, GRAVE_LINES_MAX, LINES_MAX};

use line::EventLayer;
use std::io::Write;
use std::sync::Arc;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use writer::Writer;

/// Target of events.
pub const EVENT_TARGET: &str = "event";

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// JSON lines: the contract.
    Json,
    /// For humans; no contract.
    Text,
}

/// The least important lines that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Everything.
    Trace,
    /// Per-message and per-record events too.
    Debug,
    /// The default.
    Info,
    /// What may need a human.
    Warn,
    /// What needs a human.
    Error,
}

impl std::str::FromStr for Format {
    type Err = LogError;

    fn from_str(text: &str) -> Result<Self, LogError> {
        match text {
            "json" => Ok(Self::Json),
            "text" => Ok(Self::Text),
            _ => Err(LogError::Format(text.into())),
        }
    }
}

impl std::str::FromStr for Level {
    type Err = LogError;

    fn from_str(text: &str) -> Result<Self, LogError> {
        match text {
            "trace" => Ok(Self::Trace),
            "debug" => Ok(Self::Debug),
            "info" => Ok(Self::Info),
            "warn" => Ok(Self::Warn),
            "error" => Ok(Self::Error),
            _ => Err(LogError::Level(text.into())),
        }
    }
}

impl From<Level> for LevelFilter {
    fn from(level: Level) -> Self {
        match level {
            Level::Trace => LevelFilter::TRACE,
            Level::Debug => LevelFilter::DEBUG,
            Level::Info => LevelFilter::INFO,
            Level::Warn => LevelFilter::WARN,
            Level::Error => LevelFilter::ERROR,
        }
    }
}

/// Logging could not be set up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// `log.format` is neither `json` nor `text`.
    #[error("log format {0:?} is not one of json, text")]
    Format(String),
    /// `log.level` is not a level.
    #[error("log level {0:?} is not one of trace, debug, info, warn, error")]
    Level(String),
    /// The process logs already.
    #[error("logging is already set up")]
    AlreadySet,
    /// No thread for the writer.
    #[error("cannot start the log writer: {0}")]
    Thread(String),
}

/// Keeps logging alive; dropping it writes out what is queued.
#[derive(Debug, Clone)]
#[must_use = "dropping the guard ends logging"]
pub struct LogGuard {
    writer: Arc<Writer>,
}

impl LogGuard {
    /// Waits until everything logged so far is written, at most [`FLUSH_MAX`]. For paths that end the
    /// process without dropping the guard.
    pub fn flush(&self) {
        self.writer.flush();
    }

    /// Lines dropped because stdout did not keep up.
    pub fn dropped(&self) -> u64 {
        self.writer.dropped()
    }
}

/// Starts logging to stdout for the whole process.
pub fn init(format: Format, level: Level) -> Result<LogGuard, LogError> {
    init_to(std::io::stdout(), format, level)
}

/// The same to another output.
pub fn init_to<W>(output: W, format: Format, level: Level) -> Result<LogGuard, LogError>
where
    W: Write + Send + 'static,
{
    let (layer, guard) = layer(output, format, level)?;
    tracing_subscriber::registry().with(layer).try_init().map_err(|_| LogError::AlreadySet)?;
    Ok(guard)
}

/// The same as a layer over any output: for tests, and for programs with further layers.
pub fn layer<S, W>(
    output: W,
    format: Format,
    level: Level,
) -> Result<(impl Layer<S> + Send + Sync, LogGuard), LogError>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: Write + Send + 'static,
{
    let writer =
        Arc::new(Writer::start(output, format).map_err(|error| LogError::Thread(error.to_string()))?);
    let layer = EventLayer::new(Arc::clone(&writer), format).with_filter(targets(level));
    Ok((layer, LogGuard { writer }))
}

/// Own lines from `level` on; those of libraries only where something may be wrong.
fn targets(level: Level) -> Targets {
    let foreign = match level {
        Level::Trace => LevelFilter::DEBUG,
        Level::Error => LevelFilter::ERROR,
        Level::Debug | Level::Info | Level::Warn => LevelFilter::WARN,
    };
    line::OWN_TARGETS
        .iter()
        .fold(Targets::new().with_default(foreign), |targets, own| targets.with_target(*own, level))
}

#[cfg(test)]
mod tests;
