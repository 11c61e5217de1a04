//! A ceremony as metrics and log events.
//!
//! Its process serves nothing. The metrics are in `dkg/metrics.prom` of the operator's folder, in the text format that
//! collectors of files read; they count from the start of the process, as those of a node do.

use crate::custody::{self, Found};
use crate::files;
use aequa_dkg::{Checked, Phase};
use aequa_telemetry::Metrics;
use aequa_telemetry::metrics::Format;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// Name of the file with the metrics.
pub const METRICS_FILE: &str = "metrics.prom";

/// How a ceremony of this process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// There is a lock.
    Locked,
    /// Time was up.
    TimedOut,
    /// It cannot end, or this operator cannot go on.
    Failed,
}

/// Metrics and log events of one ceremony.
pub struct CeremonyWatch {
    metrics: Metrics,
    file: PathBuf,
    has_ended: AtomicBool,
}

impl CeremonyWatch {
    /// Nothing has happened; `dir` is the folder of ceremonies.
    pub fn new(dir: &Path) -> Self {
        Self { metrics: Metrics::new(), file: dir.join(METRICS_FILE), has_ended: AtomicBool::new(false) }
    }

    /// A message of another operator was taken.
    pub fn took(&self, message: &Checked) {
        if let Some(kind) = counted_as(message.name()) {
            self.metrics.tss_msgs_total.inc([kind]);
        }
    }

    /// Writes keys or the state of the ceremony, timed and counted.
    pub fn persist<T, E: Display>(&self, write: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        custody::persist(&self.metrics, write)
    }

    /// Counts how keys or the state of the ceremony were found.
    pub fn recovered<E: Display>(&self, found: Result<Found, &E>) {
        custody::recovered(&self.metrics, found);
    }

    /// This operator got further.
    pub fn reached(&self, phase: Phase, since_start: Duration) {
        let (phase, latency_ms) = (word(phase), since_start.as_secs_f64() * 1e3);
        tracing::info!(target: "event", event = "phase", phase, result = "ok", latency_ms, trace_id = "", "tss_session");
    }

    /// The ceremony is over, for this process. The first ending counts.
    pub fn ended(&self, ending: Ending) {
        if self.has_ended.swap(true, Relaxed) {
            return;
        }
        let (result, event) = match ending {
            Ending::Locked => ("ok", "finish"),
            Ending::TimedOut => ("timeout", "timeout"),
            Ending::Failed => ("failed", "finish"),
        };
        self.metrics.tss_sessions_total.inc([result]);
        match ending {
            Ending::Locked => tracing::info!(target: "event", event, result, trace_id = "", "tss_session"),
            Ending::TimedOut => tracing::warn!(target: "event", event, result, trace_id = "", "tss_session"),
            Ending::Failed => tracing::error!(target: "event", event, result, trace_id = "", "tss_session"),
        }
    }

    /// Whoever was told to stop goes on another time: that is no ending.
    pub fn interrupted(&self) {
        self.has_ended.store(true, Relaxed);
    }

    /// Puts the metrics into their file. A ceremony does not fail for them.
    pub fn write(&self) {
        let text = self.metrics.render(Format::Text);
        if let Err(error) = files::replace(&self.file, text.as_bytes(), files::PUBLIC) {
            let text = format!("cannot write {}: {error}", self.file.display());
            tracing::warn!(target: "event", text, "warning");
        }
    }
}

/// How far an operator has come, in a word.
pub fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Silent => "silent",
        Phase::Committed => "committed",
        Phase::Dealt => "dealt",
        Phase::Checked => "checked",
        Phase::Done => "done",
    }
}

/// The contract's words are of a ceremony in which a leader starts, dealers send commitments and then shares. What ours
/// has beyond that has no word there and is not counted: receipts, votes of the agreement, dones and summaries.
fn counted_as(name: &str) -> Option<&'static str> {
    match name {
        "proposal" => Some("propose"),
        "commitments" => Some("commit"),
        "share" | "share_open" => Some("reveal"),
        "ack" => Some("ack"),
        "complaint" => Some("complaint"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(watch: &CeremonyWatch) -> [u64; 3] {
        ["ok", "timeout", "failed"].map(|result| watch.metrics.tss_sessions_total.value([result]))
    }

    #[test]
    fn a_ceremony_ends_once() {
        let watch = |endings: &[Ending]| {
            let watch = CeremonyWatch::new(Path::new("."));
            endings.iter().for_each(|ending| watch.ended(*ending));
            ended(&watch)
        };
        assert_eq!(watch(&[Ending::Locked, Ending::Failed]), [1, 0, 0]);
        assert_eq!(watch(&[Ending::TimedOut, Ending::Failed]), [0, 1, 0]);
        assert_eq!(watch(&[Ending::Failed]), [0, 0, 1]);
    }

    #[test]
    fn an_interrupted_ceremony_has_not_ended() {
        let watch = CeremonyWatch::new(Path::new("."));
        watch.interrupted();
        watch.ended(Ending::Failed);
        assert_eq!(ended(&watch), [0, 0, 0]);
    }

    #[test]
    fn the_file_has_what_happened() {
        let dir = tempfile::tempdir().unwrap();
        let watch = CeremonyWatch::new(dir.path());
        watch.persist(|| Ok::<_, String>(())).unwrap();
        watch.ended(Ending::Locked);
        watch.write();
        let text = std::fs::read_to_string(dir.path().join(METRICS_FILE)).unwrap();
        assert!(text.contains("\ntss_persist_ms_count 1\n"), "{text}");
        assert!(text.contains("\ntss_sessions_total{result=\"ok\"} 1\n"), "{text}");
    }
}
