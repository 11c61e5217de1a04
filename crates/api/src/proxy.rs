//! Everything no route takes goes to the upstream (contract: http, section 6).
//!
//! Method, path, query, headers and body pass as they are, in both directions and as they come; only
//! hop-by-hop headers are removed, `X-Forwarded-For` is appended and `Host` is the upstream's. An
//! upgrade that the upstream accepts becomes a tunnel.

use crate::app::{App, Shared};
use crate::backend::Backend;
use crate::error::ApiError;
use crate::observe::{Arrival, X_TRACE_ID};
use crate::reply::{text_error, text_error_because};
use aequa_telemetry::TraceId;
use aequa_telemetry::log::public_url;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::header::{CONNECTION, HOST, UPGRADE};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use hyper::upgrade::OnUpgrade;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::time::Duration;

/// How long connecting may take: the upstream is a neighbour, not the world.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Headers between two neighbours only (RFC 9110, section 7.6.1, and the older ones in use).
const HOP_BY_HOP: [&str; 9] = [
    "connection",
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
    client: Client<HttpConnector, Body>,
}

impl Proxy {
    /// A proxy to `base`, whose path is put before every request's.
    pub fn new(base: Uri) -> Result<Self, ApiError> {
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
        Ok(Self { base, client: Client::builder(TokioExecutor::new()).build(connector) })
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
        Some(proxy) => forward(proxy, &app, request).await,
        None => text_error(StatusCode::NOT_FOUND, "404 page not found"),
    }
}

async fn forward<B: Backend>(proxy: &Proxy, app: &App<B>, mut request: Request) -> Response {
    let Ok(target) = proxy.target(request.uri()) else {
        return text_error(StatusCode::BAD_GATEWAY, "bad upstream");
    };
    let wants_upgrade = upgrade_protocol(request.headers());
    let client_side = wants_upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
    prepare(&mut request, wants_upgrade.as_ref());
    *request.uri_mut() = target;
    *request.version_mut() = http::Version::HTTP_11;

    let mut response = match proxy.client.request(request).await {
        Ok(response) => response,
        Err(error) => {
            return text_error_because(StatusCode::BAD_GATEWAY, "upstream error", &chain(&error));
        }
    };
    let upgraded = (response.status() == StatusCode::SWITCHING_PROTOCOLS)
        .then(|| upgrade_protocol(response.headers()))
        .flatten();
    strip_hop_by_hop(response.headers_mut());
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let (Some(protocol), Some(client_side)) = (upgraded, client_side) else {
            return text_error_because(StatusCode::BAD_GATEWAY, "upstream error", "unasked upgrade");
        };
        let Ok(permit) = app.streams.clone().try_acquire_owned() else {
            return text_error_because(StatusCode::BAD_GATEWAY, "upstream error", "too many tunnels");
        };
        put_upgrade(response.headers_mut(), &protocol);
        let upstream_side = hyper::upgrade::on(&mut response);
        let stopping = app.stopping.clone();
        tokio::spawn(async move {
            let _permit = permit;
            stopping.run_until_cancelled(tunnel(client_side, upstream_side)).await;
        });
    }
    response.map(Body::new)
}

fn prepare(request: &mut Request, upgrade: Option<&HeaderValue>) {
    let client = request.extensions().get::<Arrival>().map(|arrival| arrival.client.ip().to_string());
    let trace_id = request.extensions().get::<TraceId>().cloned();
    let headers = request.headers_mut();
    strip_hop_by_hop(headers);
    headers.remove(HOST);
    if let Some(protocol) = upgrade {
        put_upgrade(headers, protocol);
    }
    if let Some(client) = client {
        let before = headers.get_all(X_FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
        let all = before.chain([client.as_str()]).collect::<Vec<_>>().join(", ");
        if let Ok(value) = HeaderValue::from_str(&all) {
            headers.insert(X_FORWARDED_FOR, value);
        }
    }
    if let Some(value) = trace_id.and_then(|id| HeaderValue::from_str(id.as_str()).ok()) {
        headers.insert(X_TRACE_ID, value);
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

/// The protocol of an upgrade that `Connection` announces.
fn upgrade_protocol(headers: &HeaderMap) -> Option<HeaderValue> {
    let announced = connection_options(headers).any(|option| option.eq_ignore_ascii_case("upgrade"));
    headers.get(UPGRADE).filter(|_| announced).cloned()
}

fn put_upgrade(headers: &mut HeaderMap, protocol: &HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol.clone());
}

/// Copies both ways until one side ends.
async fn tunnel(client_side: OnUpgrade, upstream_side: OnUpgrade) {
    if let Ok((client, upstream)) = tokio::try_join!(client_side, upstream_side) {
        let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(upstream)).await;
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
            Proxy::new(base.parse().unwrap()).unwrap().target(&uri.parse().unwrap()).unwrap().to_string()
        };
        assert_eq!(target("http://h:1", "/a/b?c=d"), "http://h:1/a/b?c=d");
        assert_eq!(target("http://h:1/p/", "/a?x"), "http://h:1/p/a?x");
        assert_eq!(target("http://h/p/q", "http://other/a"), "http://h/p/q/a");
    }

    #[tokio::test]
    async fn unusable_upstreams_are_refused_at_start() {
        for bad in ["https://h/secret", "/only/path", "http://user:secret@h", "http://h/?q=secret"] {
            let error = Proxy::new(bad.parse().unwrap()).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
