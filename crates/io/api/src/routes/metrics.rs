//! The exposition, on the monitoring listener.

use super::{Kind, Route};
use crate::app::Shared;
use crate::backend::Backend;
use crate::reply::with_type;
use aequa_telemetry::metrics::Format;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use http::header::{ACCEPT, HeaderValue};
use http::{HeaderMap, StatusCode};
use utoipa_axum::routes;

pub(super) fn routes<B: Backend>() -> Vec<Route<B>> {
    vec![Route::new(Kind::Probe, routes!(metrics)).answering(get(metrics))]
}

/// All metrics. The request itself is counted after it.
#[utoipa::path(get, path = "/metrics", tag = "metrics", responses((status = 200, description = "Prometheus text format", body = String)))]
pub(crate) async fn metrics<B: Backend>(State(app): Shared<B>, headers: HeaderMap) -> Response {
    let accept: Vec<_> = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let format = Format::negotiate(Some(&accept.join(",")));
    let body = app.backend.metrics().render(format);
    with_type(StatusCode::OK, HeaderValue::from_static(format.content_type()), body.into())
}
