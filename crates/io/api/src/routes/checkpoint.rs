//! Checkpoints: what a quorum says about a block and the state after it.

use super::{Kind, Route};
use crate::app::Shared;
use crate::backend::Backend;
use crate::reply::{ErrorBody, Refusal, ok};
use crate::request::{Param, height};
use aequa_types::Height;
use axum::extract::State;
use axum::response::Response;
use utoipa_axum::routes;

pub(super) fn routes<B: Backend>() -> Vec<Route<B>> {
    vec![Route::new(Kind::State, routes!(latest)), Route::new(Kind::State, routes!(checkpoint))]
}

/// The last stable checkpoint.
#[utoipa::path(get, path = "/v1/checkpoints/latest", tag = "chain", responses(
    (status = 200, description = "as /v1/checkpoints/{height}", body = ref("#/components/schemas/Checkpoint")),
    (status = 404, description = "UNKNOWN_HEIGHT: none is stable yet", body = ErrorBody),
    (status = 410, description = "PRUNED", body = ErrorBody),
))]
pub(crate) async fn latest<B: Backend>(State(app): Shared<B>) -> Result<Response, Refusal> {
    let stable = app.backend.stable_checkpoint();
    answer(&*app.backend, stable.map_or(Height(0), |stable| stable.height)).await
}

/// The checkpoint of a height that is a multiple of the cluster's checkpoint interval.
#[utoipa::path(get, path = "/v1/checkpoints/{height}", tag = "chain", params(("height" = u64, Path)), responses(
    (status = 200, description = "the checkpoint", body = ref("#/components/schemas/Checkpoint")),
    (status = 400, description = "BAD_HEIGHT", body = ErrorBody),
    (status = 404, description = "UNKNOWN_HEIGHT: not stable yet", body = ErrorBody),
    (status = 410, description = "PRUNED", body = ErrorBody),
))]
pub(crate) async fn checkpoint<B: Backend>(
    State(app): Shared<B>,
    Param(text): Param,
) -> Result<Response, Refusal> {
    let (height, interval) = (height("height", &text)?, app.backend.checkpoint_interval());
    if !height.0.is_multiple_of(interval) {
        let rule =
            format!("height: must be a multiple of {interval}, the checkpoint interval of the cluster");
        return Err(Refusal::bad("BAD_HEIGHT", rule));
    }
    answer(&*app.backend, height).await
}

async fn answer<B: Backend>(backend: &B, height: Height) -> Result<Response, Refusal> {
    let found = match height {
        Height(0) => None,
        _ => backend.checkpoint(height).await?,
    };
    let unknown =
        || Refusal::not_found("UNKNOWN_HEIGHT", format!("no stable checkpoint at height {height} yet"));
    Ok(ok(&found.ok_or_else(unknown)?))
}
