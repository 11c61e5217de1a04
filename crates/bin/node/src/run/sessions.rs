//! Signing sessions as metrics and log events: how long each phase took, and how they ended.
//!
//! | phase | from | to |
//! |---|---|---|
//! | init | the input that brought the decision, or the loss of its place | a place |
//! | gather | a place, or shares that were bad | q shares: at once where q COMMITs decided |
//! | combine | q shares, on their way to the seals thread | its answer, taken by the core |
//!
//! The machine has no clock: what it tells of is timed here, on the core's thread, and nothing waits for it.

use aequa_replica::{SessionEnd, SessionEvent};
use aequa_telemetry::Metrics;
use aequa_telemetry::log::{Admit, RateLimiter};
use aequa_types::{Decision, Domain};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Init,
    Gather,
    Combine,
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Gather => "gather",
            Self::Combine => "combine",
        }
    }
}

/// The sessions of one node, as far as they have got.
pub struct SessionWatch {
    metrics: Arc<Metrics>,
    /// As many as the replica has.
    phases: BTreeMap<Decision, (Phase, Instant)>,
    told: RateLimiter<Domain>,
}

impl SessionWatch {
    /// Knows of no session.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, phases: BTreeMap::new(), told: RateLimiter::new() }
    }

    /// Something happened to the session of a decision, in a turn that began then.
    pub fn happened(&mut self, decision: Decision, event: SessionEvent, turn_began: Instant, now: Instant) {
        let known = self.phases.get(&decision).copied();
        let (phase, since) = known.unwrap_or((Phase::Init, turn_began));
        let next = match event {
            SessionEvent::Refused => {
                self.metrics.tss_rate_limited_total.inc(["tss_session"]);
                log_phase(decision, phase, "limited", now.saturating_duration_since(since));
                // A session that begins waits from then on, one that had a place from now on.
                (Phase::Init, if known.is_some() { now } else { since })
            }
            SessionEvent::Opened => {
                self.passed(decision, phase, since, now);
                (Phase::Gather, now)
            }
            SessionEvent::Gathered => {
                self.passed(decision, phase, since, now);
                (Phase::Combine, now)
            }
            SessionEvent::Spoilt => {
                self.passed(decision, phase, since, now);
                (Phase::Gather, now)
            }
            SessionEvent::Ended(end) => {
                if phase == Phase::Combine && end != SessionEnd::Overdue {
                    self.passed(decision, phase, since, now);
                }
                self.phases.remove(&decision);
                return self.ended(decision, phase, end);
            }
        };
        self.phases.insert(decision, next);
    }

    fn passed(&self, decision: Decision, phase: Phase, since: Instant, now: Instant) {
        let took = now.saturating_duration_since(since);
        self.metrics.tss_round_ms.observe([phase.name()], took.as_secs_f64() * 1e3);
        log_phase(decision, phase, "ok", took);
    }

    fn ended(&self, decision: Decision, phase: Phase, end: SessionEnd) {
        let (result, event) = match end {
            SessionEnd::Signed => ("ok", "finish"),
            SessionEnd::Failed => ("failed", "finish"),
            SessionEnd::Overdue => ("timeout", "timeout"),
        };
        self.metrics.tss_sessions_total.inc([result]);
        let Decision { instance, round, .. } = decision;
        let (domain, height, round) = (instance.domain().name(), instance.number(), round.0);
        let phase = phase.name();
        if end == SessionEnd::Signed {
            tracing::debug!(target: "event", event, phase, result, domain, height, round, trace_id = "", "tss_session");
        } else if let Admit::Write { suppressed } =
            self.told.admit("tss_session", &instance.domain(), Instant::now())
        {
            tracing::warn!(target: "event", event, phase, result, domain, height, round, trace_id = "", suppressed, "tss_session");
        }
    }
}

fn log_phase(decision: Decision, phase: Phase, result: &'static str, took: Duration) {
    tracing::debug!(
        target: "event",
        event = "phase",
        phase = phase.name(),
        result,
        latency_ms = took.as_secs_f64() * 1e3,
        domain = decision.instance.domain().name(),
        height = decision.instance.number(),
        round = decision.round.0,
        trace_id = "",
        "tss_session"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use SessionEnd::{Failed, Overdue, Signed};
    use SessionEvent::{Ended, Gathered, Opened, Refused, Spoilt};
    use aequa_types::{Digest, Height, InstanceId, Round};

    fn block(height: u64) -> Decision {
        let instance = InstanceId::Block(Height(height));
        Decision { instance, round: Round(0), digest: Digest::repeat_byte(1) }
    }

    /// Tells each event at its millisecond, in a turn that began a millisecond before.
    fn watched(told: &[(u64, u64, SessionEvent)]) -> (Arc<Metrics>, SessionWatch) {
        let (metrics, zero) = (Arc::new(Metrics::new()), Instant::now());
        let mut watch = SessionWatch::new(Arc::clone(&metrics));
        for (at_ms, height, event) in told {
            let now = zero + Duration::from_millis(*at_ms);
            watch.happened(block(*height), *event, now - Duration::from_millis(1), now);
        }
        (metrics, watch)
    }

    /// Sum and number of the observations of a phase.
    fn round_ms(metrics: &Metrics, round: &str) -> (f64, u64) {
        let cell = metrics.tss_round_ms.with([round]);
        (cell.sum(), cell.count())
    }

    fn ended(metrics: &Metrics) -> [u64; 3] {
        ["ok", "timeout", "failed"].map(|result| metrics.tss_sessions_total.value([result]))
    }

    #[test]
    fn phases_of_a_session_last_from_one_event_to_the_next() {
        let told = [(5, 1, Opened), (7, 1, Gathered), (27, 1, Ended(Signed))];
        let (metrics, watch) = watched(&told);
        let rounds = ["init", "gather", "combine"].map(|round| round_ms(&metrics, round));
        assert_eq!(rounds, [(1.0, 1), (2.0, 1), (20.0, 1)]);
        assert_eq!((ended(&metrics), watch.phases.len()), ([1, 0, 0], 0));
        assert_eq!(metrics.tss_rate_limited_total.value(["tss_session"]), 0);
    }

    #[test]
    fn shares_that_were_bad_are_gathered_and_combined_once_more() {
        let told =
            [(1, 1, Opened), (1, 1, Gathered), (4, 1, Spoilt), (9, 1, Gathered), (10, 1, Ended(Failed))];
        let (metrics, _) = watched(&told);
        assert_eq!(round_ms(&metrics, "gather"), (5.0, 2));
        assert_eq!(round_ms(&metrics, "combine"), (4.0, 2));
        assert_eq!(ended(&metrics), [0, 0, 1]);
    }

    #[test]
    fn waiting_for_a_place_is_part_of_init_and_counted_as_limited() {
        let told = [(1, 1, Refused), (11, 1, Opened), (12, 2, Refused), (13, 1, Refused), (15, 1, Opened)];
        let (metrics, watch) = watched(&told);
        assert_eq!(
            round_ms(&metrics, "init"),
            (11.0 + 2.0, 2),
            "from the turn of the decision, and from the loss"
        );
        assert_eq!(round_ms(&metrics, "gather"), (0.0, 0), "cut short");
        assert_eq!(metrics.tss_rate_limited_total.value(["tss_session"]), 3);
        assert_eq!(watch.phases.len(), 2);
    }

    #[test]
    fn sessions_that_are_given_up_are_timeouts_whatever_they_waited_for() {
        let told = [
            (1, 1, Opened),
            (2, 2, Opened),
            (2, 2, Gathered),
            (3, 3, Refused),
            (9, 1, Ended(Overdue)),
            (9, 2, Ended(Overdue)),
            (9, 3, Ended(Overdue)),
        ];
        let (metrics, watch) = watched(&told);
        assert_eq!((ended(&metrics), watch.phases.len()), ([0, 3, 0], 0));
        assert_eq!(round_ms(&metrics, "combine"), (0.0, 0), "nobody waited for its end");
    }
}
