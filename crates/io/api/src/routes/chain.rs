//! Blocks, certificates, state roots, the cluster.

use super::{Kind, Route};
use crate::app::{App, Shared};
use crate::backend::{Backend, BackendError, StateRootView};
use crate::block_pieces::BlockPieces;
use crate::budget::Permit;
use crate::clients::Client;
use crate::reply::{ErrorBody, JSON, Refusal, internal, json, ok, whole_or_streamed, with_type};
use crate::request::{Param, Params, height};
use aequa_types::json::{CertificateJson, HeaderJson, decimal};
use aequa_types::{CertifiedBlock, CertifiedHeader, Digest, Header, Height};
use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use http::header::{ACCEPT, HeaderValue};
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::{Value, json as object};
use ssz::Encode as _;
use std::sync::Arc;
use std::time::Duration;
use utoipa_axum::routes;

/// Most headers in one answer.
pub const HEADERS_MAX: usize = 100;
/// Headers when nobody says how many.
const HEADERS_DEFAULT: usize = 20;

/// How long a reader waits for a place among the blocks being shown.
pub(super) const BLOCK_PLACE_WITHIN: Duration = Duration::from_secs(5);

/// Canonical SSZ.
const OCTETS: &str = "application/octet-stream";

pub(super) fn routes<B: Backend>() -> Vec<Route<B>> {
    vec![
        Route::new(Kind::Work, routes!(headers)),
        Route::new(Kind::Work, routes!(latest)),
        Route::new(Kind::Work, routes!(block)),
        Route::new(Kind::Work, routes!(certificate)),
        Route::new(Kind::State, routes!(cluster)),
        Route::new(Kind::State, routes!(state_root)),
        Route::new(Kind::State, routes!(indexer_state_root)),
    ]
}

/// A list of headers.
#[derive(Debug, Serialize)]
pub(crate) struct Headers {
    /// Ascending.
    headers: Vec<HeaderEntry>,
}

/// A header and its digest.
#[derive(Debug, Serialize)]
pub(crate) struct HeaderEntry {
    height: Height,
    /// Hash root of the header: what was decided.
    digest: Digest,
    header: HeaderJson,
}

impl From<&Header> for HeaderEntry {
    fn from(header: &Header) -> Self {
        Self { height: header.height, digest: header.digest(), header: header.into() }
    }
}

/// Headers, ascending.
#[utoipa::path(get, path = "/v1/blocks", tag = "chain", params(
    ("from" = Option<u64>, Query, description = "first height; without it, the newest headers"),
    ("limit" = Option<u64>, Query, description = "1 to 100, default 20"),
), responses(
    (status = 200, body = ref("#/components/schemas/Headers")),
    (status = 400, description = "BAD_HEIGHT, BAD_REQUEST", body = ErrorBody),
    (status = 410, description = "PRUNED", body = ErrorBody),
))]
pub(crate) async fn headers<B: Backend>(State(app): Shared<B>, params: Params) -> Result<Response, Refusal> {
    let limit = params.limit(HEADERS_DEFAULT, HEADERS_MAX)?;
    let newest = || Height((app.backend.latest_height().0 + 1).saturating_sub(limit as u64));
    let from = params.height("from")?.unwrap_or_else(newest).max(Height(1));
    let headers = app.backend.headers(from, limit).await?;
    Ok(ok(&Headers { headers: headers.iter().take(limit).map(HeaderEntry::from).collect() }))
}

/// The last decided block.
#[utoipa::path(get, path = "/v1/blocks/latest", tag = "chain", responses(
    (status = 200, description = "as /v1/blocks/{height}", body = ref("#/components/schemas/Block")),
    (status = 404, description = "UNKNOWN_HEIGHT: no block yet", body = ErrorBody),
))]
pub(crate) async fn latest<B: Backend>(
    State(app): Shared<B>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    block_answer(stored(&app, client, app.backend.latest_height()).await?, &headers).await
}

/// A block with its certificate.
#[utoipa::path(get, path = "/v1/blocks/{height}", tag = "chain", params(("height" = u64, Path)), responses(
    (status = 200, description = "the certified block; as SSZ when Accept names application/octet-stream", body = ref("#/components/schemas/Block")),
    (status = 400, description = "BAD_HEIGHT", body = ErrorBody),
    (status = 404, description = "UNKNOWN_HEIGHT", body = ErrorBody),
    (status = 410, description = "PRUNED", body = ErrorBody),
))]
pub(crate) async fn block<B: Backend>(
    State(app): Shared<B>,
    Extension(client): Extension<Client>,
    Param(text): Param,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    block_answer(stored(&app, client, height("height", &text)?).await?, &headers).await
}

/// A block and its place among those being shown.
pub(super) type Shown = (Arc<CertifiedBlock>, Permit);

/// The block goes out piece by piece, and keeps its place until the last one is sent.
async fn block_answer((block, place): Shown, headers: &HeaderMap) -> Result<Response, Refusal> {
    if wants_octets(headers) {
        let bytes = Bytes::from(block.as_ssz_bytes());
        let pieces = stream::once(async move { Ok(bytes) }).inspect(move |_| _ = &place);
        return Ok(whole_or_streamed(HeaderValue::from_static(OCTETS), pieces).await);
    }
    let pieces = BlockPieces::new(block).map_err(|error| internal(&error.to_string()))?;
    let pieces = stream::iter(pieces).inspect(move |_| _ = &place);
    let pieces = pieces.map(|piece| piece.map_err(|error| BackendError::Internal(error.to_string())));
    Ok(whole_or_streamed(JSON, pieces).await)
}

fn wants_octets(headers: &HeaderMap) -> bool {
    headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|range| range.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(OCTETS))
}

/// A stored block, once there is a place for it.
pub(super) async fn stored<B: Backend>(
    app: &App<B>,
    client: Client,
    height: Height,
) -> Result<Shown, Refusal> {
    let place = app.door.take_within(&app.door.budgets.blocks, client, 1, BLOCK_PLACE_WITHIN).await?;
    let block = match height {
        Height(0) => None,
        _ => app.backend.block(height).await?,
    };
    Ok((block.ok_or_else(|| unknown(height))?, place))
}

fn unknown(height: Height) -> Refusal {
    Refusal::not_found("UNKNOWN_HEIGHT", format!("no block at height {height} yet"))
}

/// The proof that a block was decided.
#[utoipa::path(get, path = "/v1/blocks/{height}/certificate", tag = "chain", params(("height" = u64, Path)), responses(
    (status = 200, description = "the certificate", body = ref("#/components/schemas/Certificate")),
    (status = 400, description = "BAD_HEIGHT", body = ErrorBody),
    (status = 404, description = "UNKNOWN_HEIGHT", body = ErrorBody),
    (status = 410, description = "PRUNED", body = ErrorBody),
))]
pub(crate) async fn certificate<B: Backend>(
    State(app): Shared<B>,
    Param(text): Param,
) -> Result<Response, Refusal> {
    let height = height("height", &text)?;
    let certified = match height {
        Height(0) => None,
        _ => app.backend.certified_header(height).await?,
    };
    let CertifiedHeader { certificate, .. } = certified.ok_or_else(|| unknown(height))?;
    Ok(ok(&CertificateJson::from(&certificate)))
}

/// Public parts of the cluster lock.
#[utoipa::path(get, path = "/v1/cluster", tag = "chain", responses((status = 200, body = ref("#/components/schemas/Cluster"))))]
pub(crate) async fn cluster<B: Backend>(State(app): Shared<B>) -> Response {
    with_type(StatusCode::OK, JSON, app.backend.cluster())
}

/// State root after a height.
#[utoipa::path(get, path = "/v1/state-root", tag = "chain", params(("height" = u64, Query)), responses(
    (status = 200, body = StateRootView),
    (status = 400, description = "BAD_HEIGHT", body = ErrorBody),
    (status = 404, description = "UNKNOWN_HEIGHT", body = ErrorBody),
    (status = 410, description = "PRUNED", body = ErrorBody),
    (status = 503, description = "NOT_READY", body = ErrorBody),
))]
pub(crate) async fn state_root<B: Backend>(
    State(app): Shared<B>,
    params: Params,
) -> Result<Response, Refusal> {
    let height = params.text("height").and_then(state_height).ok_or_else(|| {
        Refusal::bad("BAD_HEIGHT", format!("height: must be a decimal integer from 0 to {}", i64::MAX))
    })?;
    let unknown = || Refusal::not_found("UNKNOWN_HEIGHT", format!("no state root at height {height} yet"));
    Ok(ok(&app.backend.state_root(height).await?.ok_or_else(unknown)?))
}

/// Heights of state roots go to 2^63 − 1, as the indexer's did.
fn state_height(text: &str) -> Option<Height> {
    decimal(text).filter(|height| *height <= i64::MAX as u64).map(Height)
}

/// The indexer's alias, in the indexer's words.
#[utoipa::path(get, path = "/api/state-root", tag = "chain", params(("ledger" = u64, Query)), responses(
    (status = 200, description = "root without 0x", body = ref("#/components/schemas/IndexerRoot")),
    (status = 400, description = "no number", body = ref("#/components/schemas/IndexerError")),
    (status = 404, description = "unknown or pruned", body = ref("#/components/schemas/IndexerError")),
    (status = 503, description = "SELF_FENCED, NOT_READY", body = ref("#/components/schemas/IndexerError")),
))]
pub(crate) async fn indexer_state_root<B: Backend>(State(app): Shared<B>, params: Params) -> Response {
    let error = |status, body: Value| json(status, &body);
    if app.backend.fenced() {
        let text = "Node self-fenced: Byzantine divergence detected";
        return error(StatusCode::SERVICE_UNAVAILABLE, object!({"error": text, "code": "SELF_FENCED"}));
    }
    let Some(height) = params.text("ledger").and_then(state_height) else {
        let text = "ledger query parameter is required and must be a number";
        return error(StatusCode::BAD_REQUEST, object!({"error": text}));
    };
    match app.backend.state_root(height).await {
        Ok(Some(view)) => {
            json(StatusCode::OK, &object!({"ledger": height, "root": format!("{:x}", view.root)}))
        }
        Ok(None) | Err(BackendError::Pruned) => {
            let text = format!("No state root found for ledger {height}");
            error(StatusCode::NOT_FOUND, object!({"error": text}))
        }
        Err(_) => {
            error(StatusCode::SERVICE_UNAVAILABLE, object!({"error": "not ready", "code": "NOT_READY"}))
        }
    }
}
