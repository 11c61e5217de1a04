//! Counts and logs what the transport reports.

use aequa_p2p::{Attempt, Direction, Gate, Observer, Outcome, Topic};
use aequa_telemetry::Metrics;
use aequa_telemetry::log::{Admit, RateLimiter};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The transport's observer.
pub struct WireMetrics {
    metrics: Arc<Metrics>,
    refusals: RateLimiter<()>,
    /// By peer: one that comes and goes must not fill the log with it.
    visits: RateLimiter<String>,
}

impl WireMetrics {
    /// An observer that counts into `metrics`.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, refusals: RateLimiter::new(), visits: RateLimiter::new() }
    }

    fn tell_visit(&self, event: &'static str, peer_id: &str, latency_ms: f64) {
        if let Admit::Write { suppressed } = self.visits.admit(event, &peer_id.to_owned(), Instant::now()) {
            tracing::info!(target: "event", event, peer_id, latency_ms, result = "ok", trace_id = "", suppressed, "p2p_peer");
        }
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

impl Observer for WireMetrics {
    fn conn_attempt(&self, attempt: Attempt, peer_id: Option<&str>) {
        self.metrics.p2p_conn_attempts_total.inc([attempt.name()]);
        let refused = matches!(attempt, Attempt::Denied | Attempt::DkgDenied);
        let Some(peer_id) = peer_id.filter(|_| refused) else { return };
        // A stranger makes a new id for every visit, so that all of them share one window.
        let admit = self.refusals.admit("p2p_dkg_gate", &(), Instant::now());
        if let Admit::Write { suppressed } = admit {
            tracing::error!(target: "event", peer_id, result = "denied", suppressed, "p2p_dkg_gate");
        }
    }

    fn gate(&self, gate: Gate, allowed: bool) {
        let result = if allowed { "allowed" } else { "denied" };
        self.metrics.p2p_gate_decisions_total.inc([gate.name(), result]);
    }

    fn conn_opened(&self) {
        self.metrics.p2p_conn_open_total.inc([]);
        self.metrics.p2p_conns_open.add([], 1.0);
    }

    fn conn_closed(&self) {
        self.metrics.p2p_conn_close_total.inc([]);
        self.metrics.p2p_conns_open.add([], -1.0);
    }

    fn peer_joined(&self, peer_id: &str, latency: Duration) {
        self.metrics.p2p_peers_added_total.inc([]);
        self.metrics.p2p_peers_joined_total.inc([]);
        self.tell_visit("join", peer_id, ms(latency));
    }

    fn peer_left(&self, peer_id: &str) {
        self.metrics.p2p_peers_removed_total.inc([]);
        self.metrics.p2p_peers_left_total.inc([]);
        self.tell_visit("leave", peer_id, 0.0);
    }

    fn message(&self, topic: Topic, direction: Direction, outcome: Outcome, bytes: usize) {
        let (topic, direction) = (topic.name(), direction.name());
        self.metrics.p2p_msgs_total.inc([topic, direction, outcome.name()]);
        self.metrics.p2p_bytes_total.add([topic, direction], bytes as u64);
    }

    fn broadcast(&self, _: Topic, peers: usize, elapsed: Duration) {
        let latency_ms = ms(elapsed);
        self.metrics.p2p_messages_total.inc(["broadcast"]);
        self.metrics.p2p_broadcast_ms.observe(["broadcast"], latency_ms);
        tracing::debug!(target: "event", peers, latency_ms, trace_id = "", "p2p_broadcast");
    }

    fn listen_addr(&self, self_id: &str, addr: &str) {
        tracing::info!(target: "event", self_id, addr, "p2p_addr");
    }
}
