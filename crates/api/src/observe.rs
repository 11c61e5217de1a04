//! What happens around every request: trace id, fence, limits, panics, metrics, the log line.

use crate::app::{App, Shared};
use crate::backend::Backend;
use crate::guard::Asked;
use crate::reply::{Reason, Refusal, TakenBytes, internal};
use aequa_telemetry::TraceId;
use aequa_telemetry::metrics::elapsed_ms;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::FutureExt as _;
use http::{HeaderName, HeaderValue, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

/// Carries the trace id in and out.
pub(crate) const X_TRACE_ID: HeaderName = HeaderName::from_static("x-trace-id");

/// Route label of everything the proxy answers.
const PROXY: &str = "proxy";

/// Seconds a client is asked to wait while the node is fenced.
const FENCED_RETRY_S: u32 = 30;

/// Where a request came from, and on which listener; set by the serve loop.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    pub client: SocketAddr,
    pub listener: SocketAddr,
}

/// Routes that answer while the node is fenced; `/readyz` and the indexer's alias say so in their own way.
fn survives_fence(route: &str) -> bool {
    const ROUTES: [&str; 11] = [
        "/health",
        "/livez",
        "/readyz",
        "/status",
        "/metrics",
        "/v1/state-root",
        "/v1/evidence",
        "/v1/cluster",
        "/v1/checkpoints/latest",
        "/v1/checkpoints/{height}",
        "/api/state-root",
    ];
    ROUTES.contains(&route)
}

/// Routes that a rate limit must not hide from an operator.
fn survives_rate_limit(route: &str) -> bool {
    matches!(route, "/health" | "/livez" | "/readyz")
}

/// The outermost layer of both listeners.
pub(crate) async fn observe<B: Backend>(State(app): Shared<B>, mut request: Request, next: Next) -> Response {
    let start = Instant::now();
    let trace_id =
        TraceId::accept_or_fresh(request.headers().get(X_TRACE_ID).and_then(|value| value.to_str().ok()));
    let route: Box<str> =
        request.extensions().get::<MatchedPath>().map_or(PROXY, |matched| matched.as_str()).into();
    request.extensions_mut().insert(trace_id.clone());

    let mut response = match refuse_early(&app, &route, &request) {
        Some(refusal) => refusal.into_response(),
        None => AssertUnwindSafe(next.run(request))
            .catch_unwind()
            .await
            .unwrap_or_else(|_| internal("a handler panicked").into_response()),
    };
    let cut_off = is_cut_off(&app, &route);
    if cut_off {
        response = fenced().into_response();
    }
    if let Some(refusal) = response.extensions_mut().remove::<Refusal>() {
        response = refusal.render(trace_id.as_str());
    }
    if let Ok(value) = HeaderValue::from_str(trace_id.as_str()) {
        response.headers_mut().insert(X_TRACE_ID, value);
    }
    account(&app, &route, &trace_id, &response, elapsed_ms(start));
    // Event streams end themselves, with a last event.
    if cut_off || survives_fence(&route) || &*route == crate::routes::events::PATH {
        return response;
    }
    response.map(|body| Body::new(FenceBody { app, body }))
}

fn refuse_early<B: Backend>(app: &App<B>, route: &str, request: &Request) -> Option<Refusal> {
    let arrival = request.extensions().get::<Arrival>();
    let asked = Asked {
        route: (route != PROXY).then_some(route),
        on_loopback: arrival.is_some_and(|arrival| arrival.listener.ip().to_canonical().is_loopback()),
    };
    if let Err(refusal) = app.guard.check(request, asked) {
        return Some(refusal);
    }
    if is_cut_off(app, route) {
        return Some(fenced());
    }
    let limiter = app.rate.as_ref().filter(|_| !survives_rate_limit(route))?;
    let wait = limiter.admit(arrival?.client.ip(), Instant::now()).err()?;
    let seconds = u32::try_from(wait.as_secs() + 1).unwrap_or(u32::MAX);
    let message = "more requests per second than this address may send";
    Some(Refusal::new(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED", message).retry(seconds))
}

fn is_cut_off<B: Backend>(app: &App<B>, route: &str) -> bool {
    app.backend.fenced() && !survives_fence(route)
}

/// The answer of a fenced node.
pub(crate) fn fenced() -> Refusal {
    let message = "the node fenced itself: members agree on another state root";
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "SELF_FENCED", message).retry(FENCED_RETRY_S)
}

fn account<B: Backend>(app: &App<B>, route: &str, trace_id: &TraceId, response: &Response, latency_ms: f64) {
    let metrics = app.backend.metrics();
    metrics.api_requests_total.inc([route, response.status().as_str()]);
    metrics.api_latency_ms.observe([route], latency_ms);

    let code = response.status().as_u16();
    let result = match code {
        202 => "accepted",
        0..400 => "ok",
        _ => "error",
    };
    let bytes = response.extensions().get::<TakenBytes>().map(|taken| taken.0);
    let err = response.extensions().get::<Reason>().map(|reason| reason.0.as_str());
    let trace_id = trace_id.as_str();
    if response.status().is_server_error() {
        tracing::warn!(target: "event", route, code, latency_ms, result, trace_id, bytes, err, "api_request");
    } else {
        tracing::info!(target: "event", route, code, latency_ms, result, trace_id, bytes, err, "api_request");
    }
}

/// A body that breaks off when the node fences itself: no data leaves after the flag is set.
struct FenceBody<B> {
    app: Arc<App<B>>,
    body: Body,
}

impl<B: Backend> HttpBody for FenceBody<B> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.app.backend.fenced() && !self.body.is_end_stream() {
            return Poll::Ready(Some(Err(axum::Error::new("self-fenced"))));
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
