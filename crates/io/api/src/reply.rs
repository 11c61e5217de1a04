//! Answers in the shapes of the two route families (contract: http, section 2).

use crate::backend::{Answer, BackendError};
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt as _, TryStreamExt as _};
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderName, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

/// On a duty that came too late: what was decided instead.
pub(crate) const X_DIGEST: HeaderName = HeaderName::from_static("x-aequa-digest");
/// Why an original route refused; its body has room for the contract's string only.
pub(crate) const X_REASON: HeaderName = HeaderName::from_static("x-aequa-reason");

/// Content type of JSON answers.
pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");
/// Content type of text answers.
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// Longest reason in a header, in bytes.
const REASON_BYTES_MAX: usize = 256;
/// What a client that met a full queue or pool is asked to wait, in seconds: about one block.
const RETRY_AFTER_S: u32 = 1;

/// Answers below this size are sent whole and with their length: most are, and some clients know no other.
const WHOLE_BYTES_MAX: usize = 32 * 1024;

/// Why a request failed, for the log line. Carried in the response's extensions.
#[derive(Debug, Clone)]
pub(crate) struct Reason(pub String);

/// Size of the body that was taken, for the log line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TakenBytes(pub usize);

/// Error body of new routes.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ErrorBody {
    /// Upper-case name of the refusal.
    pub code: String,
    /// What is wrong, naming field and limit.
    pub message: String,
    /// Trace id of the request.
    pub trace_id: String,
}

/// A refusal of a new route. The trace id is added where the response leaves.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub status: StatusCode,
    pub code: &'static str,
    pub message: String,
    pub retry_after_s: Option<u32>,
}

impl Refusal {
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after_s: None }
    }

    pub fn bad(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub fn not_found(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    pub fn retry(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    pub fn retry_soon(self) -> Self {
        self.retry(RETRY_AFTER_S)
    }

    /// The final form.
    pub fn render(self, trace_id: &str) -> Response {
        let body =
            ErrorBody { code: self.code.into(), message: self.message.clone(), trace_id: trace_id.into() };
        let mut response = json(self.status, &body);
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        response.extensions_mut().insert(Reason(self.message));
        response
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<BackendError> for Refusal {
    fn from(error: BackendError) -> Self {
        let unavailable =
            |code, message: &str| Refusal::new(StatusCode::SERVICE_UNAVAILABLE, code, message).retry_soon();
        match error {
            BackendError::Pruned => Refusal::new(StatusCode::GONE, "PRUNED", "this height is no longer kept"),
            BackendError::Invalid { reason, .. } => Refusal::bad("BAD_REQUEST", reason),
            error @ BackendError::DutyEnded { .. } => {
                Refusal::new(StatusCode::CONFLICT, "DUTY_ENDED", error.to_string())
            }
            error @ BackendError::DutyForgotten { .. } => {
                Refusal::new(StatusCode::GONE, "DUTY_FORGOTTEN", error.to_string())
            }
            BackendError::NotReady => unavailable("NOT_READY", "the node is starting or replaying"),
            error @ BackendError::LeftBehind => unavailable("LEFT_BEHIND", &error.to_string()),
            BackendError::Overloaded => unavailable("OVERLOADED", "a queue of the node is full"),
            BackendError::Internal(detail) => internal(&detail),
        }
    }
}

/// An own failure: the detail goes to the log, not to the client.
pub(crate) fn internal(detail: &str) -> Refusal {
    tracing::error!(target: "event", target = "api", text = detail, "log");
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", "internal failure")
}

/// A JSON answer.
pub(crate) fn json<T: Serialize>(status: StatusCode, value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => with_type(status, JSON, bytes.into()),
        Err(error) => internal(&error.to_string()).into_response(),
    }
}

/// 200 with a JSON body.
pub(crate) fn ok<T: Serialize>(value: &T) -> Response {
    json(StatusCode::OK, value)
}

/// 200 with `{name: […]}`, each element written when the client takes it; `next` when the list goes on there.
pub(crate) async fn list<T: Serialize>(
    name: &str,
    elements: impl Stream<Item = Answer<T>> + Send + 'static,
    next: Option<u64>,
) -> Response {
    let piece = |bytes: Vec<u8>| stream::once(async { Ok(Bytes::from(bytes)) });
    let mut separator: &[u8] = b"";
    let elements = elements.map(move |element| {
        let mut bytes = std::mem::replace(&mut separator, b",").to_vec();
        serde_json::to_writer(&mut bytes, &element?).map_err(|e| BackendError::Internal(e.to_string()))?;
        Ok(Bytes::from(bytes))
    });
    let head = piece(format!("{{\"{name}\":[").into_bytes());
    let end = next.map_or_else(|| "]}".to_owned(), |next| format!("],\"next\":{next}}}"));
    whole_or_streamed(JSON, head.chain(elements).chain(piece(end.into_bytes()))).await
}

/// 200 with a body of known length where it is small, and else with one that is made while it is sent.
pub(crate) async fn whole_or_streamed(
    content_type: HeaderValue,
    pieces: impl Stream<Item = Answer<Bytes>> + Send + 'static,
) -> Response {
    let mut pieces = Box::pin(pieces);
    let mut first = Vec::new();
    while first.len() < WHOLE_BYTES_MAX {
        match pieces.next().await {
            Some(Ok(piece)) => first.extend_from_slice(&piece),
            Some(Err(error)) => return Refusal::from(error).into_response(),
            None => return with_type(StatusCode::OK, content_type, first.into()),
        }
    }
    streamed(content_type, stream::once(async { Ok(Bytes::from(first)) }).chain(pieces))
}

/// 200 with a body that is made while it is sent. A failure on the way breaks it off.
pub(crate) fn streamed(
    content_type: HeaderValue,
    pieces: impl Stream<Item = Answer<Bytes>> + Send + 'static,
) -> Response {
    let pieces = pieces.inspect_err(|error| {
        if let BackendError::Internal(detail) = error {
            let _ = internal(detail);
        }
    });
    let mut response = Response::new(Body::from_stream(pieces));
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// 200 with text and nothing added.
pub(crate) fn plain(text: &'static str) -> Response {
    with_type(StatusCode::OK, TEXT, Bytes::from_static(text.as_bytes()))
}

/// Any body under its content type.
pub(crate) fn with_type(status: StatusCode, content_type: HeaderValue, body: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// An error of an original route: the exact string and one newline.
pub(crate) fn text_error(status: StatusCode, text: &'static str) -> Response {
    let mut response = with_type(status, TEXT, format!("{text}\n").into());
    response.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response.extensions_mut().insert(Reason(text.into()));
    response
}

/// The same, with the detail the string has no room for.
pub(crate) fn text_error_because(status: StatusCode, text: &'static str, reason: &str) -> Response {
    let mut response = text_error(status, text);
    let safe: String = reason
        .chars()
        .map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' })
        .take(REASON_BYTES_MAX)
        .collect();
    if let Ok(value) = HeaderValue::from_str(&safe) {
        response.headers_mut().insert(X_REASON, value);
    }
    response.extensions_mut().insert(Reason(format!("{text}: {reason}")));
    response
}

/// A failure of the node on an original route.
pub(crate) fn text_failure(error: BackendError) -> Response {
    match error {
        BackendError::Internal(detail) => {
            let _ = internal(&detail);
            text_error(StatusCode::INTERNAL_SERVER_ERROR, "internal error")
        }
        BackendError::Invalid { what, reason } => text_error_because(StatusCode::BAD_REQUEST, what, &reason),
        error @ BackendError::DutyEnded { stands } => {
            let mut response = text_error_because(StatusCode::CONFLICT, "too late", &error.to_string());
            if let Some(digest) = stands.and_then(|digest| HeaderValue::from_str(&digest.to_string()).ok()) {
                response.headers_mut().insert(X_DIGEST, digest);
            }
            response
        }
        error @ BackendError::DutyForgotten { .. } => {
            text_error_because(StatusCode::GONE, "too old", &error.to_string())
        }
        other @ (BackendError::Pruned
        | BackendError::NotReady
        | BackendError::LeftBehind
        | BackendError::Overloaded) => {
            let reason = other.to_string();
            retry_soon(text_error_because(StatusCode::SERVICE_UNAVAILABLE, "overloaded", &reason))
        }
    }
}

/// Asks the client to come back after about one block.
pub(crate) fn retry_soon(mut response: Response) -> Response {
    response.headers_mut().insert(RETRY_AFTER, RETRY_AFTER_S.into());
    response
}

/// 202 without a body.
pub(crate) fn accepted(taken: usize) -> Response {
    let mut response = StatusCode::ACCEPTED.into_response();
    response.extensions_mut().insert(TakenBytes(taken));
    response
}
