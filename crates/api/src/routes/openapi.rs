//! `/openapi.json`, generated from the handlers.

use super::{chain, duty, events, evidence, health, metrics, read, tx};
use crate::app::App;
use crate::backend::Backend;
use crate::reply::ok;
use axum::Router;
use axum::response::Response;
use std::sync::Arc;
use utoipa::OpenApi;

pub(crate) fn router<B: Backend>() -> Router<Arc<App<B>>> {
    Router::new().route("/openapi.json", read(document))
}

/// Every route of both listeners. Transaction routes exist with `--enable-tx-api`.
#[derive(OpenApi)]
#[openapi(
    info(title = "Aequa node", description = "REST API of one operator's node.", license(name = "BUSL-1.1")),
    paths(
        health::health,
        health::livez,
        health::readyz,
        health::status,
        metrics::metrics,
        duty::post_duty,
        duty::read_duty,
        tx::post_tx,
        tx::post_plain,
        tx::post_auction,
        tx::post_private,
        tx::read_tx,
        tx::account,
        tx::mempool,
        chain::headers,
        chain::latest,
        chain::block,
        chain::certificate,
        chain::cluster,
        chain::state_root,
        chain::indexer_state_root,
        evidence::evidence,
        events::events,
        document,
    )
)]
pub struct ApiDoc;

/// This document.
#[utoipa::path(get, path = "/openapi.json", responses((status = 200, body = Object)))]
pub(crate) async fn document() -> Response {
    ok(&ApiDoc::openapi())
}
