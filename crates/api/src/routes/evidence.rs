//! Evidence against operators, committed and pending.

use super::read;
use crate::app::{App, Shared};
use crate::backend::Backend;
use crate::reply::{ErrorBody, Refusal, ok};
use crate::request::Params;
use axum::Router;
use axum::extract::State;
use axum::response::Response;
use std::sync::Arc;

pub(crate) fn router<B: Backend>() -> Router<Arc<App<B>>> {
    Router::new().route("/v1/evidence", read(evidence))
}

/// Committed and pending evidence.
#[utoipa::path(get, path = "/v1/evidence", params(
    ("from" = Option<u64>, Query, description = "first height whose block's evidence is shown; default 0"),
), responses(
    (status = 200, description = "evidence of at most 16 blocks, and all that is pending", body = ref("#/components/schemas/EvidenceView")),
    (status = 400, description = "BAD_HEIGHT", body = ErrorBody),
    (status = 503, description = "NOT_READY", body = ErrorBody),
))]
pub(crate) async fn evidence<B: Backend>(State(app): Shared<B>, params: Params) -> Result<Response, Refusal> {
    let from = params.height("from")?.unwrap_or_default();
    Ok(ok(&app.backend.evidence(from).await?))
}
