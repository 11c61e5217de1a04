//! Duties: the original's POST, and what became of them.

use crate::app::{App, Shared};
use crate::backend::{Backend, DutyQuery, DutyRequest, DutyView};
use crate::observe::fenced;
use crate::reply::{Refusal, accepted, ok, text_error, text_error_because, text_failure};
use crate::request::{Params, read_body, strict_json};
use aequa_telemetry::TraceId;
use aequa_types::limits::HEIGHT_MAX;
use aequa_types::{Domain, Height, Round};
use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodFilter, get};
use http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use std::sync::Arc;
use utoipa::ToSchema;

/// Highest round a duty may name; the original's bound. The number has no meaning any more.
pub const DUTY_ROUND_MAX: u64 = 1 << 40;
/// Most duties in one list.
pub const DUTIES_MAX: usize = 100;
/// Duties in a list when nobody says how many.
const DUTIES_DEFAULT: usize = 20;

pub(crate) fn router<B: Backend>() -> Router<Arc<App<B>>> {
    // `get` answers HEAD too; the original did not.
    let methods = get(read_duty).post(post_duty).on(MethodFilter::HEAD, method_not_allowed);
    Router::new().route("/v1/duty", methods.fallback(method_not_allowed))
}

pub(super) async fn method_not_allowed() -> Response {
    text_error(StatusCode::METHOD_NOT_ALLOWED, "method not allowed")
}

/// Body of a duty.
#[derive(Debug, ToSchema)]
#[allow(dead_code, reason = "names the fields for the OpenAPI document; the handler reads them strictly")]
pub(crate) struct DutyBody {
    /// attester, proposer or sync.
    #[schema(rename = "type")]
    kind: String,
    /// The slot, at most 2^62.
    height: u64,
    /// At most 2^40; without meaning.
    round: u64,
    /// This node's candidate value.
    #[schema(value_type = Object)]
    payload: Value,
}

/// Hands a duty to consensus.
#[utoipa::path(post, path = "/v1/duty", request_body = DutyBody, responses(
    (status = 202, description = "taken, or known already"),
    (status = 400, description = "empty, read error, invalid json, invalid type, height out of range, round out of range", body = String),
    (status = 503, description = "overloaded", body = String),
))]
pub(crate) async fn post_duty<B: Backend>(
    State(app): Shared<B>,
    Extension(trace_id): Extension<TraceId>,
    body: Body,
) -> Response {
    let bad = |text, reason: &str| text_error_because(StatusCode::BAD_REQUEST, text, reason);
    let bytes = match read_body(body).await {
        Ok(bytes) if bytes.is_empty() => return text_error(StatusCode::BAD_REQUEST, "empty"),
        Ok(bytes) => bytes,
        Err(error) => return bad("read error", &error.to_string()),
    };
    let duty = match parse(&bytes, &trace_id) {
        Ok(duty) => duty,
        Err((text, reason)) => return bad(text, &reason),
    };
    if app.backend.fenced() {
        return fenced().into_response();
    }
    match app.backend.submit_duty(duty).await {
        Ok(()) => accepted(bytes.len()),
        Err(error) => text_failure(error),
    }
}

/// In the contract's order: JSON and field types, type, height, round.
fn parse(bytes: &[u8], trace_id: &TraceId) -> Result<DutyRequest, (&'static str, String)> {
    let json = |reason: String| ("invalid json", reason);
    let mut body = match strict_json(bytes).map_err(json)? {
        Value::Object(body) => body,
        _ => return Err(json("the body must be an object".into())),
    };
    let kind = match body.get("type") {
        None | Some(Value::Null) => "",
        Some(Value::String(kind)) => kind,
        Some(_) => return Err(json("type: must be a string".into())),
    };
    let height = number(&body, "height").map_err(json)?;
    let round = number(&body, "round").map_err(json)?;

    let domain = Domain::duty(kind)
        .ok_or_else(|| ("invalid type", "type: must be attester, proposer or sync".to_owned()))?;
    if height > HEIGHT_MAX {
        return Err(("height out of range", format!("height: must be at most {HEIGHT_MAX}")));
    }
    if round > DUTY_ROUND_MAX {
        return Err(("round out of range", format!("round: must be at most {DUTY_ROUND_MAX}")));
    }
    let payload = body.remove("payload").unwrap_or(Value::Null);
    let (height, round) = (Height(height), Round(round));
    Ok(DutyRequest { domain, height, round, payload, trace_id: trace_id.to_string() })
}

/// A u64 as number or decimal string; 0 when absent.
fn number(body: &serde_json::Map<String, Value>, field: &str) -> Result<u64, String> {
    match body.get(field) {
        None | Some(Value::Null) => Some(0),
        Some(Value::Number(number)) => number.as_u64(),
        Some(Value::String(text)) => crate::request::digits(text),
        Some(_) => None,
    }
    .ok_or_else(|| format!("{field}: must be an integer from 0 to {}", u64::MAX))
}

/// A list of duties.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Duties {
    /// Newest first.
    duties: Vec<DutyView>,
}

/// One duty by type and height, or the newest ones.
#[utoipa::path(get, path = "/v1/duty", params(
    ("type" = Option<String>, Query, description = "attester, proposer or sync"),
    ("height" = Option<u64>, Query, description = "slot; with it, one duty is returned"),
    ("limit" = Option<u64>, Query, description = "1 to 100, default 20"),
    ("before" = Option<u64>, Query, description = "only slots below"),
), responses(
    (status = 200, description = "one duty, or `{duties: […]}` without height", body = DutyView),
    (status = 400, description = "BAD_REQUEST", body = crate::reply::ErrorBody),
    (status = 404, description = "UNKNOWN_DUTY", body = crate::reply::ErrorBody),
))]
pub(crate) async fn read_duty<B: Backend>(
    State(app): Shared<B>,
    params: Params,
) -> Result<Response, Refusal> {
    let bad = |message: &str| Refusal::bad("BAD_REQUEST", message);
    let as_bad_request = |refusal: Refusal| Refusal { code: "BAD_REQUEST", ..refusal };
    let domain = params
        .text("type")
        .map(|name| Domain::duty(name).ok_or_else(|| bad("type: must be attester, proposer or sync")))
        .transpose()?;
    if let Some(height) = params.height("height").map_err(as_bad_request)? {
        let domain = domain.ok_or_else(|| bad("type: is required with height"))?;
        let duty = app.backend.duty(domain, height).await?;
        let unknown = || Refusal::not_found("UNKNOWN_DUTY", format!("no {} duty at {height}", domain.name()));
        return Ok(ok(&duty.ok_or_else(unknown)?));
    }
    let before = params.height("before").map_err(as_bad_request)?;
    let limit = params.limit(DUTIES_DEFAULT, DUTIES_MAX)?;
    let duties = app.backend.duties(DutyQuery { domain, before, limit }).await?;
    Ok(ok(&Duties { duties }))
}
