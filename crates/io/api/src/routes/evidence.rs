//! Evidence against operators, committed and pending.

use super::chain::BLOCK_PLACE_WITHIN;
use super::{Kind, Route};
use crate::app::Shared;
use crate::backend::Backend;
use crate::clients::Client;
use crate::reply::{ErrorBody, Refusal, ok};
use crate::request::Params;
use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use utoipa_axum::routes;

pub(super) fn routes<B: Backend>() -> Vec<Route<B>> {
    vec![Route::new(Kind::State, routes!(evidence))]
}

/// Committed and pending evidence.
#[utoipa::path(get, path = "/v1/evidence", tag = "evidence", params(
    ("from" = Option<u64>, Query, description = "first height whose block's evidence is shown; default 0"),
), responses(
    (status = 200, description = "evidence of at most 16 blocks, and all that is pending", body = ref("#/components/schemas/EvidenceView")),
    (status = 400, description = "BAD_HEIGHT", body = ErrorBody),
    (status = 503, description = "NOT_READY, TOO_MANY_BLOCKS", body = ErrorBody),
))]
pub(crate) async fn evidence<B: Backend>(
    State(app): Shared<B>,
    Extension(client): Extension<Client>,
    params: Params,
) -> Result<Response, Refusal> {
    let from = params.height("from")?.unwrap_or_default();
    // Evidence is read from whole blocks, one after the other.
    let _place = app.door.take_within(&app.door.budgets.blocks, client, 1, BLOCK_PLACE_WITHIN).await?;
    Ok(ok(&app.backend.evidence(from).await?))
}
