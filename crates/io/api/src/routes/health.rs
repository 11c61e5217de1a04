//! Liveness, readiness, status: on both listeners, fenced or not.

use super::{Kind, Route};
use crate::app::{App, Shared};
use crate::backend::{Backend, NotReady, Readiness, Status};
use crate::reply::{json, ok, plain};
use aequa_telemetry::TraceId;
use axum::Json;
use axum::extract::{Extension, State};
use axum::response::Response;
use axum::routing::any;
use http::StatusCode;
use serde::Serialize;
use std::time::Duration;
use utoipa::ToSchema;
use utoipa_axum::routes;

/// How long the event loop may take to show that it lives.
pub const LIVE_WITHIN: Duration = Duration::from_secs(1);

pub(super) fn routes<B: Backend>() -> Vec<Route<B>> {
    vec![
        Route::new(Kind::Probe, routes!(health)).answering(any(health)),
        Route::new(Kind::Probe, routes!(livez)),
        Route::new(Kind::Probe, routes!(readyz)),
        Route::new(Kind::State, routes!(status)),
    ]
}

/// Answer of `/livez`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Live {
    /// The event loop answered.
    live: bool,
}

/// Answer of `/readyz` when ready.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Ready {
    /// No reason against it.
    ready: bool,
}

/// Answer of `/readyz` when not ready.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NotReadyBody {
    code: String,
    /// Every reason that holds now.
    reasons: Vec<NotReady>,
    /// What some of them mean, and what helps.
    hints: Vec<&'static str>,
    message: String,
    trace_id: String,
}

/// The process runs: any method.
#[utoipa::path(method(get, put, post, delete, options, head, patch, trace), path = "/health", tag = "health", responses((status = 200, description = "`ok`", body = String)))]
pub(crate) async fn health() -> Response {
    plain("ok")
}

/// The event loop answers within a second.
#[utoipa::path(get, path = "/livez", tag = "health", responses((status = 200, body = Live), (status = 503, body = Live)))]
pub(crate) async fn livez<B: Backend>(State(app): Shared<B>) -> Response {
    let live = is_live(&app).await;
    let status = if live { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(status, &Live { live })
}

/// The node may be sent work.
#[utoipa::path(get, path = "/readyz", tag = "health", responses((status = 200, body = Ready), (status = 503, body = NotReadyBody)))]
pub(crate) async fn readyz<B: Backend>(
    State(app): Shared<B>,
    Extension(trace_id): Extension<TraceId>,
) -> Response {
    let readiness = readiness(&app);
    if readiness.is_ready() {
        return ok(&Ready { ready: true });
    }
    let names: Vec<_> = readiness.reasons.iter().map(|reason| reason.name()).collect();
    let body = NotReadyBody {
        code: "NOT_READY".into(),
        message: format!("not ready: {}", names.join(", ")),
        hints: readiness.reasons.iter().filter_map(|reason| reason.hint()).collect(),
        reasons: readiness.reasons,
        trace_id: trace_id.to_string(),
    };
    json(StatusCode::SERVICE_UNAVAILABLE, &body)
}

/// The node's view of itself.
#[utoipa::path(get, path = "/status", tag = "health", responses((status = 200, body = Status)))]
pub(crate) async fn status<B: Backend>(State(app): Shared<B>) -> Json<Status> {
    let readiness = readiness(&app);
    let mut status = app.backend.status().await;
    status.live = is_live(&app).await;
    status.ready = readiness.is_ready();
    status.reasons = readiness.reasons;
    Json(status)
}

async fn is_live<B: Backend>(app: &App<B>) -> bool {
    tokio::time::timeout(LIVE_WITHIN, app.backend.live()).await.unwrap_or(false)
}

/// The backend's reasons, and the fence whether it lists it or not.
fn readiness<B: Backend>(app: &App<B>) -> Readiness {
    let mut readiness = app.backend.readiness();
    if app.backend.fenced() && !readiness.reasons.contains(&NotReady::Fenced) {
        readiness.reasons.push(NotReady::Fenced);
    }
    readiness
}
