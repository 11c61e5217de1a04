//! Watches readiness, and tells when it changes.

use super::backend::NodeBackend;
use super::command::Command;
use super::events::Events;
use aequa_api::backend::{Backend, EventBody, NotReady, Readiness};
use aequa_replica::Input;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How often readiness is looked at: well below the seconds after which its reasons begin to hold.
const INTERVAL: Duration = Duration::from_millis(500);

/// Looks at readiness for as long as the node lives.
pub async fn watch(backend: Weak<NodeBackend>, events: Events) {
    let (mut last, mut leads): (Option<Readiness>, bool) = (None, true);
    let mut tick = tokio::time::interval(INTERVAL);
    loop {
        tick.tick().await;
        let Some(backend) = backend.upgrade() else { return };
        let now = backend.readiness();
        if last.as_ref() != Some(&now) {
            tell(&backend, &events, last.as_ref(), &now);
            last = Some(now);
        }
        let may_lead = backend.may_lead();
        // A core whose queue is full is told the next time.
        if may_lead != leads
            && backend.context.core.try_send(Command::Inputs(vec![Input::MayLead(may_lead)])).is_ok()
        {
            leads = may_lead;
        }
    }
}

/// Asks the core again and again, for as long as the node lives: one that hangs, as on a disk that does not answer, tells
/// of nothing by itself.
pub async fn probe(backend: Weak<NodeBackend>) {
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let Some(backend) = backend.upgrade() else { return };
        let facts = &backend.context.facts;
        facts.core_asked(Instant::now());
        if backend.live().await {
            facts.core_answered();
        }
    }
}

/// Tells that the node stops: nobody watches any more after that.
pub fn tell_stopping(backend: &Arc<NodeBackend>, events: &Events) {
    let now = backend.readiness();
    let before = Readiness { reasons: without(&now, NotReady::Stopping) };
    tell(backend, events, Some(&before), &now);
}

fn without(readiness: &Readiness, reason: NotReady) -> Vec<NotReady> {
    readiness.reasons.iter().copied().filter(|held| *held != reason).collect()
}

fn tell(backend: &NodeBackend, events: &Events, before: Option<&Readiness>, now: &Readiness) {
    let gauge = &backend.metrics().readiness;
    // A reason that never held has no series.
    for gone in before.iter().flat_map(|before| &before.reasons).filter(|gone| !now.reasons.contains(gone)) {
        gauge.set([gone.name()], 0.0);
    }
    now.reasons.iter().for_each(|reason| gauge.set([reason.name()], 1.0));
    let held = |reason: &NotReady| before.is_some_and(|before| before.reasons.contains(reason));
    for reason in now.reasons.iter().filter(|reason| !held(reason)) {
        if let Some(hint) = reason.hint() {
            let text = format!("not ready, {}: {hint}", reason.name());
            tracing::warn!(target: "event", text, "warning");
        }
    }
    let reasons: Vec<&str> = now.reasons.iter().map(|reason| reason.name()).collect();
    tracing::info!(
        target: "event",
        ready = now.is_ready(),
        reasons = aequa_telemetry::log::json(&reasons),
        "readiness"
    );
    events.publish(|| EventBody::Readiness(now.clone()));
}
