//! Everything no route takes goes to the upstream (contract: http, section 6).
//!
//! Method, path, query, headers and body pass as they are, in both directions and as they come; only
//! hop-by-hop headers are removed, `X-Forwarded-For` and `Via` are appended and `Host` is the upstream's. A
//! `websocket` upgrade that the upstream accepts becomes a tunnel; no other protocol is upgraded to, for a tunnel
//! carries what no rule here has seen.

use crate::activity::{Activity, Busy, SILENCE_MAX};
use crate::app::{App, Shared};
use crate::backend::Backend;
use crate::budget::Permit;
use crate::clients::{Client as Asking, X_FORWARDED_FOR};
use crate::error::ApiError;
use crate::held::holding;
use crate::observe::{Arrival, FromUpstream, X_TRACE_ID};
use crate::paths::{OwnPaths, PathRefusal};
use crate::reply::{Refusal, internal, text_error, text_error_because};
use aequa_telemetry::TraceId;
use aequa_telemetry::log::public_url;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use http::header::{CONNECTION, HOST, UPGRADE, VIA};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use hyper::upgrade::OnUpgrade;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// How long connecting may take: the upstream is a neighbour, not the world.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// How long the upstream may let a whole request wait for the head of its answer.
const HEAD_WITHIN: Duration = Duration::from_secs(30);
/// Most idle connections kept to the upstream.
pub(crate) const IDLE_UPSTREAM_MAX: usize = 32;
/// How often a tunnel looks at its clock.
const TUNNEL_LOOK_EVERY: Duration = Duration::from_secs(1);

/// The one protocol a connection may be upgraded to.
const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");

/// Headers between two neighbours only (RFC 9110, section 7.6.1, and the older ones in use).
const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A client of one upstream.
#[derive(Debug, Clone)]
pub(crate) struct Proxy {
    base: Uri,
    own: OwnPaths,
    client: Client<HttpConnector, Body>,
}

impl Proxy {
    /// A proxy to `base`, whose path is put before every request's, for all paths but the own ones.
    pub fn new(base: Uri, own: OwnPaths) -> Result<Self, ApiError> {
        let unusable = |reason| Err(ApiError::Upstream { url: public_url(&base.to_string()), reason });
        if base.scheme() != Some(&Scheme::HTTP) {
            return unusable("the scheme must be http");
        }
        if base.authority().is_none_or(|authority| authority.as_str().contains('@')) {
            return unusable("there must be a host, and no user name");
        }
        if base.query().is_some() {
            return unusable("there must be no query");
        }
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_WITHIN));
        connector.set_nodelay(true);
        let mut client = Client::builder(TokioExecutor::new());
        let client = client.pool_max_idle_per_host(IDLE_UPSTREAM_MAX).build(connector);
        Ok(Self { base, own, client })
    }

    fn target(&self, uri: &Uri) -> Result<Uri, http::Error> {
        let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
        let mut parts = self.base.clone().into_parts();
        let joined = format!("{}{path}", self.base.path().trim_end_matches('/'));
        parts.path_and_query = Some(joined.parse()?);
        Ok(Uri::from_parts(parts)?)
    }
}

/// The route of last resort.
pub(crate) async fn fallback<B: Backend>(State(app): Shared<B>, request: Request) -> Response {
    match &app.proxy {
        Some(proxy) => forward(proxy, &app, request).await.unwrap_or_else(Refusal::into_response),
        None => text_error(StatusCode::NOT_FOUND, "404 page not found"),
    }
}

async fn forward<B: Backend>(
    proxy: &Proxy,
    app: &Arc<App<B>>,
    mut request: Request,
) -> Result<Response, Refusal> {
    match proxy.own.check(request.uri().path()) {
        Ok(()) => {}
        Err(PathRefusal::Climbs) => {
            return Err(Refusal::bad("BAD_PATH", "the path must have no segment . or .."));
        }
        Err(PathRefusal::Own(plain)) => {
            let reason = format!("this is {plain}, spelled otherwise");
            return Ok(text_error_because(StatusCode::NOT_FOUND, "404 page not found", &reason));
        }
    }
    let Ok(target) = proxy.target(request.uri()) else {
        return Ok(text_error(StatusCode::BAD_GATEWAY, "bad upstream"));
    };
    let wants_tunnel = request.method() == Method::GET && asks_for_websocket(request.headers());
    let client_side = wants_tunnel.then(|| hyper::upgrade::on(&mut request));
    let visit = Visit::begin(app, &request, wants_tunnel)?;
    prepare(&mut request, &visit.arrival, &app.door.guard.via(), wants_tunnel);
    *request.uri_mut() = target;
    *request.version_mut() = http::Version::HTTP_11;

    let answered = tokio::select! {
        answered = proxy.client.request(request) => answered,
        () = silence(&visit.arrival.place.activity) => {
            let reason = format!("no response head within {} s", HEAD_WITHIN.as_secs());
            return Ok(text_error_because(StatusCode::GATEWAY_TIMEOUT, "upstream timeout", &reason));
        }
    };
    let failed = |reason: &str| Ok(text_error_because(StatusCode::BAD_GATEWAY, "upstream error", reason));
    let mut response = match answered {
        Ok(response) => response,
        Err(error) => return failed(&chain(&error)),
    };
    let accepts_tunnel = asks_for_websocket(response.headers());
    strip_hop_by_hop(response.headers_mut());
    response.extensions_mut().insert(FromUpstream);
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(response.map(|body| Body::new(holding(Body::new(body), visit))));
    }
    let Some(client_side) = client_side.filter(|_| accepts_tunnel) else {
        return failed("unasked upgrade");
    };
    put_upgrade(response.headers_mut());
    let upstream_side = hyper::upgrade::on(&mut response);
    let stopping = app.stopping.clone();
    let tunnel = tunnel(Arc::clone(app), client_side, upstream_side, visit);
    tokio::spawn(async move { stopping.run_until_cancelled(tunnel).await });
    Ok(response.map(Body::new))
}

/// A request at the upstream: its place in a budget, and that of its connection, which a tunnel outlives.
struct Visit {
    arrival: Arrival,
    _busy: Busy,
    _permit: Permit,
}

impl Visit {
    fn begin<B: Backend>(app: &App<B>, request: &Request, wants_tunnel: bool) -> Result<Self, Refusal> {
        let extensions = request.extensions();
        let (Some(arrival), Some(client)) = (extensions.get::<Arrival>(), extensions.get::<Asking>()) else {
            return Err(internal("a request came through no listener"));
        };
        let budgets = &app.door.budgets;
        let budget = if wants_tunnel { &budgets.tunnels } else { &budgets.proxied };
        let permit = app.door.take(budget, *client)?;
        let busy = arrival.place.activity.begin();
        arrival.place.activity.keep_place();
        Ok(Self { arrival: arrival.clone(), _busy: busy, _permit: permit })
    }
}

/// Ends when the upstream has been silent for too long: counted from the last byte of the request.
async fn silence(activity: &Activity) {
    let begun = Instant::now();
    loop {
        let deadline = activity.moved().max(begun) + HEAD_WITHIN;
        if Instant::now() >= deadline {
            return;
        }
        tokio::time::sleep_until(deadline.into()).await;
    }
}

fn prepare(request: &mut Request, arrival: &Arrival, via: &str, wants_tunnel: bool) {
    let trace_id = request.extensions().get::<TraceId>().cloned();
    let headers = request.headers_mut();
    strip_hop_by_hop(headers);
    headers.remove(HOST);
    if wants_tunnel {
        put_upgrade(headers);
    }
    append(headers, X_FORWARDED_FOR, &arrival.peer.ip().to_canonical().to_string());
    append(headers, VIA, via);
    if let Some(value) = trace_id.and_then(|id| HeaderValue::from_str(id.as_str()).ok()) {
        headers.insert(X_TRACE_ID, value);
    }
}

/// Adds an entry to a list that may be spread over several headers.
fn append(headers: &mut HeaderMap, name: HeaderName, entry: &str) {
    let before = headers.get_all(&name).iter().filter_map(|value| value.to_str().ok());
    let all = before.chain([entry]).collect::<Vec<_>>().join(", ");
    if let Ok(value) = HeaderValue::from_str(&all) {
        headers.insert(name, value);
    }
}

/// Removes the fixed hop-by-hop headers and those `Connection` names.
fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = connection_options(headers).filter_map(|name| name.parse().ok()).collect();
    for name in named {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

fn connection_options(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(str::trim))
}

/// Whether `Connection` announces an upgrade to this one protocol.
fn asks_for_websocket(headers: &HeaderMap) -> bool {
    let announced = connection_options(headers).any(|option| option.eq_ignore_ascii_case("upgrade"));
    let mut protocols = headers.get_all(UPGRADE).iter();
    let first =
        protocols.next().is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(WEBSOCKET.as_bytes()));
    announced && first && protocols.next().is_none()
}

fn put_upgrade(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, WEBSOCKET);
}

/// Copies both ways until one side ends, both are silent, or the node fences itself.
async fn tunnel<B: Backend>(
    app: Arc<App<B>>,
    client_side: OnUpgrade,
    upstream_side: OnUpgrade,
    visit: Visit,
) {
    let Ok((client, upstream)) = tokio::try_join!(client_side, upstream_side) else { return };
    let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
    let copied = tokio::io::copy_bidirectional(&mut client, &mut upstream);
    let activity = &visit.arrival.place.activity;
    let mut clock = tokio::time::interval(TUNNEL_LOOK_EVERY);
    let over = poll_fn(|context| {
        while clock.poll_tick(context).is_ready() {}
        let is_over = app.backend.fenced() || activity.moved().elapsed() >= SILENCE_MAX;
        if is_over { Poll::Ready(()) } else { Poll::Pending }
    });
    tokio::select! {
        // Looked at before anything is copied: no byte passes after the fence.
        biased;
        () = over => {}
        _ = copied => {}
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_upstreams_path_is_put_before_and_the_query_kept() {
        let target = |base: &str, uri: &str| {
            Proxy::new(base.parse().unwrap(), OwnPaths::named([""]))
                .unwrap()
                .target(&uri.parse().unwrap())
                .unwrap()
                .to_string()
        };
        assert_eq!(target("http://h:1", "/a/b?c=d"), "http://h:1/a/b?c=d");
        assert_eq!(target("http://h:1/p/", "/a?x"), "http://h:1/p/a?x");
        assert_eq!(target("http://h/p/q", "http://other/a"), "http://h/p/q/a");
    }

    #[tokio::test]
    async fn unusable_upstreams_are_refused_at_start() {
        for bad in ["https://h/secret", "/only/path", "http://user:secret@h", "http://h/?q=secret"] {
            let error = Proxy::new(bad.parse().unwrap(), OwnPaths::named([""])).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
