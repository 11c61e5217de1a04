//! Duties: the original's POST, and what became of them.

use super::{Kind, Route};
use crate::app::Shared;
use crate::backend::{Backend, BackendError, DutyPage, DutyQuery, DutyRequest};
use crate::observe::fenced;
use crate::reply::{Refusal, accepted, list, ok, text_error, text_error_because, text_failure};
use crate::request::{BodyError, Params, Taken};
use aequa_telemetry::TraceId;
use aequa_types::json::{Raw, canonical, object};
use aequa_types::limits::{DUTY_VALUE_BYTES_MAX, HEIGHT_MAX};
use aequa_types::{DutyId, DutyKind, Round, Slot, ValueBytes};
use axum::extract::{Extension, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::MethodFilter;
use futures::stream::{self, StreamExt as _};
use http::StatusCode;
use std::sync::Arc;
use utoipa_axum::router::UtoipaMethodRouterExt as _;
use utoipa_axum::routes;

/// Highest round a duty may name; the original's bound. The number has no meaning any more.
pub const DUTY_ROUND_MAX: u64 = 1 << 40;
/// Most duties in one list.
pub const DUTIES_MAX: usize = 100;
/// Duties in a list when nobody says how many.
const DUTIES_DEFAULT: usize = 20;

pub(super) fn routes<B: Backend>() -> Vec<Route<B>> {
    // GET answers HEAD too; the original did not.
    let duty =
        routes!(read_duty, post_duty).map(|methods| methods.on(MethodFilter::HEAD, method_not_allowed));
    vec![Route::new(Kind::Work, duty).refusing(method_not_allowed)]
}

pub(super) async fn method_not_allowed() -> Response {
    text_error(StatusCode::METHOD_NOT_ALLOWED, "method not allowed")
}

/// Hands a duty to consensus.
#[utoipa::path(post, path = "/v1/duty", tag = "duty", request_body = ref("#/components/schemas/DutyBody"), responses(
    (status = 202, description = "taken, or known already"),
    (status = 400, description = "empty, read error, invalid json, invalid type, height out of range, round out of range", body = String),
    (status = 409, description = "too late; X-Aequa-Digest names what was decided, if anything was", body = String),
    (status = 410, description = "too old: at or below the slots that are remembered", body = String),
    (status = 503, description = "overloaded", body = String),
))]
pub(crate) async fn post_duty<B: Backend>(
    State(app): Shared<B>,
    Extension(trace_id): Extension<TraceId>,
    body: Result<Taken, BodyError>,
) -> Response {
    let bad = |text, reason: &str| text_error_because(StatusCode::BAD_REQUEST, text, reason);
    let bytes = match body {
        Ok(bytes) if bytes.is_empty() => return text_error(StatusCode::BAD_REQUEST, "empty"),
        Ok(bytes) => bytes,
        Err(BodyError::Refused(_)) => return text_failure(BackendError::Overloaded),
        Err(error) => return bad("read error", &error.to_string()),
    };
    let duty = match parse(&bytes, &trace_id) {
        Ok(duty) => duty,
        Err((text, reason)) => return bad(text, &reason),
    };
    let taken = bytes.len();
    drop(bytes);
    if app.backend.fenced() {
        return fenced().into_response();
    }
    match app.backend.submit_duty(duty).await {
        Ok(()) => accepted(taken),
        Err(error) => text_failure(error),
    }
}

/// In the contract's order: JSON and field types, type, height, round.
fn parse(bytes: &[u8], trace_id: &TraceId) -> Result<DutyRequest, (&'static str, String)> {
    let json = |reason: String| ("invalid json", reason);
    let body = object(bytes).map_err(|error| json(error.to_string()))?;
    let field = |name: &str| body.iter().find(|(key, _)| key == name).map(|(_, value)| *value);
    let given = |name: &str| field(name).filter(|value| !value.is_null());
    let kind = match given("type") {
        None => "".into(),
        Some(kind) => kind.text().ok_or_else(|| json("type: must be a string".into()))?,
    };
    let number = |name: &str| match given(name) {
        None => Ok(0),
        Some(value) => value.integer().ok_or_else(|| {
            json(format!("{name}: must be an integer from 0 to {}, without leading zeros", u64::MAX))
        }),
    };
    let (height, round) = (number("height")?, number("round")?);
    let payload = field("payload").map_or("null", Raw::as_str);
    let payload = canonical(payload.as_bytes()).map_err(|error| json(format!("payload: {error}")))?;
    if payload.len() > DUTY_VALUE_BYTES_MAX {
        let bytes = payload.len();
        return Err(json(format!("payload: has {bytes} bytes, the limit is {DUTY_VALUE_BYTES_MAX}")));
    }

    let kind = DutyKind::named(&kind)
        .ok_or_else(|| ("invalid type", "type: must be attester, proposer or sync".to_owned()))?;
    if height > HEIGHT_MAX {
        return Err(("height out of range", format!("height: must be at most {HEIGHT_MAX}")));
    }
    if round > DUTY_ROUND_MAX {
        return Err(("round out of range", format!("round: must be at most {DUTY_ROUND_MAX}")));
    }
    let id = DutyId { kind, slot: Slot(height) };
    let (round, payload) = (Round(round), ValueBytes(payload.into()));
    Ok(DutyRequest { id, round, payload, trace_id: trace_id.to_string() })
}

/// One duty by type and height, those of one slot, or the newest ones.
#[utoipa::path(get, path = "/v1/duty", tag = "duty", params(
    ("type" = Option<String>, Query, description = "attester, proposer or sync"),
    ("height" = Option<u64>, Query, description = "slot; with type one duty is returned, without it a list"),
    ("limit" = Option<u64>, Query, description = "1 to 100, default 20"),
    ("before" = Option<u64>, Query, description = "only slots below"),
), responses(
    (status = 200, description = "one duty with type and height; else `{duties: […]}`, and `next` to be asked for as `before` when the search has not come to its end", body = ref("#/components/schemas/DutyAnswer")),
    (status = 400, description = "BAD_REQUEST", body = crate::reply::ErrorBody),
    (status = 404, description = "UNKNOWN_DUTY", body = crate::reply::ErrorBody),
))]
pub(crate) async fn read_duty<B: Backend>(
    State(app): Shared<B>,
    params: Params,
) -> Result<Response, Refusal> {
    let bad = |message: &str| Refusal::bad("BAD_REQUEST", message);
    let as_bad_request = |refusal: Refusal| Refusal { code: "BAD_REQUEST", ..refusal };
    let kind = params
        .text("type")
        .map(|name| DutyKind::named(name).ok_or_else(|| bad("type: must be attester, proposer or sync")))
        .transpose()?;
    let slot = params.slot("height").map_err(as_bad_request)?;
    let before = params.slot("before").map_err(as_bad_request)?;
    let limit = params.limit(DUTIES_DEFAULT, DUTIES_MAX)?;
    let DutyPage { duties, next } = match (kind, slot) {
        (Some(kind), Some(slot)) => {
            let duty = app.backend.duty(DutyId { kind, slot }).await?;
            let unknown = || Refusal::not_found("UNKNOWN_DUTY", format!("no {} duty at {slot}", kind.name()));
            return Ok(ok(&duty.ok_or_else(unknown)?));
        }
        (None, Some(slot)) => {
            let duties = DutyKind::ALL.map(|kind| DutyId { kind, slot }).to_vec();
            DutyPage { duties, next: None }
        }
        (_, None) => app.backend.duties(DutyQuery { kind, before, limit }).await?,
    };
    // Each is read when the client takes it: a list of the largest values is never whole in memory.
    let duties = stream::iter(duties).filter_map(move |duty| {
        let app = Arc::clone(&app);
        async move { app.backend.duty(duty).await.transpose() }
    });
    Ok(list("duties", duties, next.map(|slot| slot.0)).await)
}
