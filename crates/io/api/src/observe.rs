//! What happens around every request: trace id, fence, limits, metrics, the log line. A handler that panics ends
//! the operator (ADR 14): nothing is caught here.

use crate::app::App;
use crate::backend::Backend;
use crate::clients::Client;
use crate::connections::Place;
use crate::limits::RateLimiter;
use crate::reply::{Reason, Refusal, TakenBytes, internal};
use crate::request::BodyError;
use crate::routes::{Kind, Target};
use aequa_telemetry::TraceId;
use aequa_telemetry::metrics::elapsed_ms;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

/// Carries the trace id in and out.
pub(crate) const X_TRACE_ID: HeaderName = HeaderName::from_static("x-trace-id");

/// Seconds a client is asked to wait while the node is fenced.
const FENCED_RETRY_S: u32 = 30;

/// Where a request came from, and on which listener; set by the serve loop.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    pub peer: SocketAddr,
    pub listener: SocketAddr,
    pub place: Arc<Place>,
}

/// The answer is the upstream's: its status codes are not ours to enumerate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FromUpstream;

/// The outermost layer of every route, and of what no route takes.
pub(crate) async fn observe<B: Backend>(
    State((app, target)): State<(Arc<App<B>>, Target)>,
    mut request: Request,
    next: Next,
) -> Response {
    let start = Instant::now();
    let trace_id =
        TraceId::accept_or_fresh(request.headers().get(X_TRACE_ID).and_then(|value| value.to_str().ok()));
    request.extensions_mut().insert(trace_id.clone());

    let mut response = match admit(&app, &target, &mut request) {
        Err(refusal) => refusal.into_response(),
        Ok(Arrival { place, .. }) => match place.evicted.run_until_cancelled(next.run(request)).await {
            None if place.too_slow.is_cancelled() => Refusal::from(BodyError::Slow).into_response(),
            None => evicted().into_response(),
            Some(answer) => answer,
        },
    };
    let cut_off = is_cut_off(&app, target.kind);
    if cut_off {
        response = fenced().into_response();
    }
    if let Some(refusal) = response.extensions_mut().remove::<Refusal>() {
        response = refusal.render(trace_id.as_str());
    }
    if let Ok(value) = HeaderValue::from_str(trace_id.as_str()) {
        response.headers_mut().insert(X_TRACE_ID, value);
    }
    account(&app, &target.template, &trace_id, &response, elapsed_ms(start));
    // Event streams end themselves, with a last event.
    if cut_off || target.kind.survives_fence() || target.kind == Kind::Stream {
        return response;
    }
    response.map(|body| Body::new(FenceBody { app, body }))
}

/// Lets a request pass to its handler, which then knows whose it is.
fn admit<B: Backend>(app: &App<B>, target: &Target, request: &mut Request) -> Result<Arrival, Refusal> {
    let arrival = request.extensions().get::<Arrival>().cloned();
    let arrival = arrival.ok_or_else(|| internal("a request came through no listener"))?;
    let on_loopback = arrival.listener.ip().to_canonical().is_loopback();
    app.door.guard.check(request, target, on_loopback)?;
    if is_cut_off(app, target.kind) {
        return Err(fenced());
    }
    let client = app.door.clients.asking(arrival.peer.ip(), request.headers());
    request.extensions_mut().insert(client);
    match &app.rate {
        Some(limiter) if target.kind != Kind::Probe => within_rate(limiter, client)?,
        Some(_) | None => {}
    }
    Ok(arrival)
}

fn within_rate(limiter: &RateLimiter, client: Client) -> Result<(), Refusal> {
    limiter.admit(client.network, Instant::now()).map_err(|wait| {
        let seconds = u32::try_from(wait.as_secs() + 1).unwrap_or(u32::MAX);
        let message = "more requests per second than this address may send";
        Refusal::new(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED", message).retry(seconds)
    })
}

/// The answer to a client that kept us waiting longest when somebody else came.
fn evicted() -> Refusal {
    let message = "all connections are taken, and this client kept the node waiting longest";
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "TOO_MANY_CONNECTIONS", message).retry_soon()
}

fn is_cut_off<B: Backend>(app: &App<B>, kind: Kind) -> bool {
    app.backend.fenced() && !kind.survives_fence()
}

/// The answer of a fenced node.
pub(crate) fn fenced() -> Refusal {
    let message = "the node fenced itself: members agree on another state root";
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "SELF_FENCED", message).retry(FENCED_RETRY_S)
}

fn account<B: Backend>(app: &App<B>, route: &str, trace_id: &TraceId, response: &Response, latency_ms: f64) {
    let metrics = app.backend.metrics();
    let status = response.status();
    match response.extensions().get::<FromUpstream>() {
        // Alerts match the first digit.
        Some(FromUpstream) => metrics.api_requests_total.inc([route, class(status)]),
        None => metrics.api_requests_total.inc([route, status.as_str()]),
    }
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

/// The class of a status code, of which there are nine.
fn class(status: StatusCode) -> &'static str {
    const CLASSES: [&str; 9] = ["1xx", "2xx", "3xx", "4xx", "5xx", "6xx", "7xx", "8xx", "9xx"];
    CLASSES[usize::from(status.as_u16() / 100).clamp(1, 9) - 1]
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
