//! The exposition, on the monitoring listener.

use crate::app::{App, Shared};
use crate::backend::Backend;
use crate::reply::with_type;
use aequa_telemetry::metrics::Format;
use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use http::header::{ACCEPT, HeaderValue};
use http::{HeaderMap, StatusCode};
use std::sync::Arc;

pub(crate) fn router<B: Backend>() -> Router<Arc<App<B>>> {
    Router::new().route("/metrics", get(metrics))
}

/// All metrics. The request itself is counted after it.
#[utoipa::path(get, path = "/metrics", responses((status = 200, description = "Prometheus text format", body = String)))]
pub(crate) async fn metrics<B: Backend>(State(app): Shared<B>, headers: HeaderMap) -> Response {
    let accept: Vec<_> = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let format = Format::negotiate(Some(&accept.join(",")));
    let body = app.backend.metrics().render(format);
    with_type(StatusCode::OK, HeaderValue::from_static(format.content_type()), body.into())
}
