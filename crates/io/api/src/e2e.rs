//! The test endpoints (contract: http, section 7): only in builds with the feature `e2e`.
//!
//! They let a test program speak to a node as if it were the network. Reading is done here, strictly; what a
//! message means and whether it holds is the node's business, and goes through the checks of every other
//! message.

use crate::app::{App, bare_router};
use crate::backend::{Backend, Options};
use crate::door::Door;
use crate::error::ApiError;
use crate::guard::Guard;
use crate::observe::X_TRACE_ID;
use crate::reply::{plain, text_error_because};
use crate::request::{BodyError, Taken};
use crate::routes::Route;
use crate::server::Listener;
use aequa_telemetry::metrics::elapsed_ms;
use aequa_telemetry::{Metrics, TraceId};
use aequa_types::json::{Raw, object};
use axum::Json;
use axum::extract::{Extension, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, any, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::future::BoxFuture;
use http::StatusCode;
use serde_json::json;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;
use tokio_util::sync::CancellationToken;

/// What a node does with the test endpoints.
pub trait TestBackend: Send + Sync + 'static {
    /// A message of the original's form; true when it was verified and given to its instance.
    fn qbft(&self, message: Injected) -> BoxFuture<'_, bool>;

    /// Runs a made-up peer through the gates; the verdict when one refuses.
    fn judge_peer(&self, id: String) -> BoxFuture<'_, Result<(), &'static str>>;
}

/// A consensus message in the fields of the original. Absent fields are empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Injected {
    /// Name or index of the author.
    pub from: String,
    /// Height of the block domain.
    pub height: u64,
    /// Round; votes count from 1.
    pub round: u64,
    /// The original's word for the kind of message.
    pub kind: String,
    /// The complete SSZ message of our wire, when given.
    pub payload: Vec<u8>,
    /// The digest, or what it is the SHA-256 of.
    pub id: String,
    /// Signature of the author.
    pub sig: Vec<u8>,
    /// Joins log lines.
    pub trace_id: TraceId,
}

/// The running test listeners. Dropping it lets them run; [`TestServer::stop`] ends them.
#[derive(Debug)]
pub struct TestServer {
    qbft: Listener,
    tss: Listener,
    p2p: Listener,
}

/// Where the test listeners are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestAddresses {
    /// Messages are taken.
    pub qbft: String,
    /// Whether the process is there.
    pub tss: String,
    /// Peers are judged.
    pub p2p: String,
}

impl TestServer {
    /// Binds the listeners and serves them.
    pub async fn start<B: Backend>(
        backend: Arc<B>,
        tests: Arc<dyn TestBackend>,
        addresses: &TestAddresses,
    ) -> Result<Self, ApiError> {
        let door =
            |service| Door::new(service, Arc::clone(backend.metrics()), Guard::new(&[]), &Options::default());
        let route = |path, answers: MethodRouter<Arc<App<B>>>| {
            Route::of_tests(path, answers.layer(Extension(Arc::clone(&tests))))
        };
        let routes = vec![route("/e2e/qbft", post(inject))];
        let messages = door("e2e_qbft");
        let router = bare_router(Arc::clone(&backend), Arc::clone(&messages), routes);
        let qbft = Listener::start(messages, &addresses.qbft, router, CancellationToken::new()).await?;
        let signing = door("e2e_tss");
        let routes = vec![route("/health", any(|| async { plain("ok") }))];
        let metrics = Arc::clone(backend.metrics());
        let router = bare_router(Arc::clone(&backend), Arc::clone(&signing), routes)
            .layer(from_fn_with_state(metrics, count_tss));
        let tss = Listener::start(signing, &addresses.tss, router, CancellationToken::new()).await?;
        let routes = vec![route("/e2e/p2p/connect", post(judge)), route("/e2e/p2p/disconnect", post(judge))];
        let peers = door("e2e_p2p");
        let router = bare_router(Arc::clone(&backend), Arc::clone(&peers), routes);
        let p2p = Listener::start(peers, &addresses.p2p, router, CancellationToken::new()).await?;
        Ok(Self { qbft, tss, p2p })
    }

    /// Where messages are taken.
    pub fn qbft(&self) -> SocketAddr {
        self.qbft.address()
    }

    /// Where it is asked whether the process is there.
    pub fn tss(&self) -> SocketAddr {
        self.tss.address()
    }

    /// Where peers are judged.
    pub fn p2p(&self) -> SocketAddr {
        self.p2p.address()
    }

    /// Takes no more requests and closes.
    pub async fn stop(self) {
        tokio::join!(self.qbft.stop(), self.tss.stop(), self.p2p.stop());
    }
}

type Tests = Extension<Arc<dyn TestBackend>>;

/// Counts every request on the port of signing, those that no route takes too.
async fn count_tss(State(metrics): State<Arc<Metrics>>, request: Request, next: Next) -> Response {
    let start = Instant::now();
    let response = next.run(request).await;
    let (code, latency_ms) = (response.status(), elapsed_ms(start));
    metrics.tss_e2e_requests_total.inc([code.as_str()]);
    metrics.tss_e2e_latency_ms.observe([], latency_ms);
    let trace_id = response.headers().get(X_TRACE_ID).and_then(|value| value.to_str().ok()).unwrap_or("");
    tracing::info!(target: "event", code = code.as_u16(), latency_ms, trace_id, "tss_attack");
    response
}

async fn inject(
    Extension(tests): Tests,
    Extension(trace_id): Extension<TraceId>,
    body: Result<Taken, BodyError>,
) -> Response {
    let read = body.map_err(|error| error.to_string());
    let message = match read.and_then(|body| Injected::of(Fields::of(&body)?, trace_id)) {
        Ok(message) => message,
        Err(reason) => return bad_json(&reason),
    };
    let status = if tests.qbft(message).await { StatusCode::OK } else { StatusCode::ACCEPTED };
    status.into_response()
}

/// A made-up peer has no connection to keep: coming and leaving are both a look at the gates.
async fn judge(Extension(tests): Tests, body: Result<Taken, BodyError>) -> Response {
    let read = body.map_err(|error| error.to_string());
    let id = match read.and_then(|body| Fields::of(&body)?.text("id")) {
        Ok(id) => id,
        Err(reason) => return bad_json(&reason),
    };
    match tests.judge_peer(id).await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(verdict) => (StatusCode::FORBIDDEN, Json(json!({ "result": verdict }))).into_response(),
    }
}

fn bad_json(reason: &str) -> Response {
    text_error_because(StatusCode::BAD_REQUEST, "bad json", reason)
}

/// The fields of an object under lower-case names: the original's decoder did not tell cases apart.
struct Fields<'a>(BTreeMap<String, Raw<'a>>);

impl<'a> Fields<'a> {
    fn of(body: &'a [u8]) -> Result<Self, String> {
        let mut fields = BTreeMap::new();
        for (key, value) in object(body).map_err(|error| error.to_string())? {
            let key = key.to_ascii_lowercase();
            if fields.contains_key(&key) {
                return Err(format!("{key}: given twice"));
            }
            fields.insert(key, value);
        }
        Ok(Self(fields))
    }

    /// The value of a field that is there and not null.
    fn take(&mut self, key: &str) -> Option<Raw<'a>> {
        self.0.remove(key).filter(|value| !value.is_null())
    }

    fn text(&mut self, key: &str) -> Result<String, String> {
        let Some(value) = self.take(key) else { return Ok(String::new()) };
        value.text().map(Into::into).ok_or_else(|| format!("{key}: must be a string"))
    }

    fn number(&mut self, key: &str) -> Result<u64, String> {
        let Some(value) = self.take(key) else { return Ok(0) };
        value.integer().ok_or_else(|| format!("{key}: must be an integer from 0 to {}", u64::MAX))
    }

    fn bytes(&mut self, key: &str) -> Result<Vec<u8>, String> {
        STANDARD.decode(self.text(key)?).map_err(|error| format!("{key}: no base64: {error}"))
    }
}

impl Injected {
    fn of(mut fields: Fields<'_>, request: TraceId) -> Result<Self, String> {
        let trace_id = TraceId::accept(&fields.text("traceid")?).unwrap_or(request);
        Ok(Self {
            from: fields.text("from")?,
            height: fields.number("height")?,
            round: fields.number("round")?,
            kind: fields.text("type")?,
            payload: fields.bytes("payload")?,
            id: fields.text("id")?,
            sig: fields.bytes("sig")?,
            trace_id,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Injected, String> {
        Injected::of(Fields::of(text.as_bytes())?, TraceId::accept("request").unwrap())
    }

    #[test]
    fn keys_are_read_in_any_case_and_absent_ones_are_empty() {
        let text = r#"{"FROM":"2","height":"7","Round":1,"tYpe":"prepare","payload":"AQI=","Id":"x","TRACEID":"t","sig":"/w=="}"#;
        let expected = Injected {
            from: "2".into(),
            height: 7,
            round: 1,
            kind: "prepare".into(),
            payload: vec![1, 2],
            id: "x".into(),
            sig: vec![255],
            trace_id: TraceId::accept("t").unwrap(),
        };
        assert_eq!(parse(text), Ok(expected));
        let empty = parse(r#"{"unknown":[1],"Sig":null}"#).unwrap();
        assert_eq!((empty.from.as_str(), empty.height, empty.sig.len()), ("", 0, 0));
        assert_eq!(empty.trace_id.as_str(), "request");
    }

    #[test]
    fn what_is_no_such_object_is_bad_json() {
        for bad in [
            "",
            "[]",
            "{",
            "{} {}",
            r#"{"from":1}"#,
            r#"{"height":-1}"#,
            r#"{"height":1.5}"#,
            r#"{"height":"1e3"}"#,
            r#"{"height":18446744073709551616}"#,
            r#"{"round":true}"#,
            r#"{"payload":"AQ"}"#,
            r#"{"sig":"!"}"#,
            r#"{"ID":"a","id":"b"}"#,
            r#"{"id":"a","id":"b"}"#,
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
