//! Keys and ceremonies on disk, as metrics and log events: what was written durably and how long that took, and what
//! was found again.

use aequa_telemetry::Metrics;
use std::fmt::Display;
use std::time::Instant;

/// Where keys, or what is known of a ceremony, were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Where they belong.
    InPlace,
    /// Only in what they can be made from again.
    Elsewhere,
}

/// Writes keys or the state of a ceremony; what it writes is durable when it returns.
pub fn persist<T, E: Display>(metrics: &Metrics, write: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let start = Instant::now();
    let written = write();
    let latency_ms = start.elapsed().as_secs_f64() * 1e3;
    match &written {
        Ok(_) => {
            metrics.tss_persist_ms.observe([], latency_ms);
            tracing::debug!(target: "event", op = "persist", result = "ok", latency_ms, trace_id = "", "tss_storage");
        }
        Err(err) => {
            metrics.tss_persist_errors_total.inc([]);
            tracing::error!(target: "event", op = "persist", result = "error", latency_ms, %err, trace_id = "", "tss_storage");
        }
    }
    written
}

/// Tells what became of reading keys or the state of a ceremony. A first start, which has none, is no case of it.
pub fn recovered<E: Display>(metrics: &Metrics, found: Result<Found, &E>) {
    match found {
        Ok(Found::InPlace) => {
            metrics.tss_recovery_total.inc(["ok"]);
            tracing::info!(target: "event", op = "recovery", result = "ok", trace_id = "", "tss_storage");
        }
        Ok(Found::Elsewhere) => {
            metrics.tss_recovery_total.inc(["fallback"]);
            tracing::warn!(target: "event", op = "recovery", result = "fallback", trace_id = "", "tss_storage");
        }
        Err(err) => {
            metrics.tss_recovery_total.inc(["fail"]);
            tracing::error!(target: "event", op = "recovery", result = "error", %err, trace_id = "", "tss_storage");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_that_succeed_are_timed_and_others_counted() {
        let metrics = Metrics::new();
        assert_eq!(persist(&metrics, || Ok::<_, String>(7)), Ok(7));
        assert_eq!((metrics.tss_persist_ms.count([]), metrics.tss_persist_errors_total.value([])), (1, 0));
        assert_eq!(persist(&metrics, || Err::<(), _>("full".to_owned())), Err("full".into()));
        assert_eq!((metrics.tss_persist_ms.count([]), metrics.tss_persist_errors_total.value([])), (1, 1));
    }

    #[test]
    fn each_way_of_being_found_is_counted_for_itself() {
        let metrics = Metrics::new();
        recovered::<String>(&metrics, Ok(Found::InPlace));
        recovered::<String>(&metrics, Ok(Found::Elsewhere));
        recovered(&metrics, Err(&"torn"));
        recovered(&metrics, Err(&"torn"));
        let counts = ["ok", "fallback", "fail"].map(|result| metrics.tss_recovery_total.value([result]));
        assert_eq!(counts, [1, 1, 2]);
    }
}
