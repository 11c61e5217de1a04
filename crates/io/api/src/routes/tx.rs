//! Transactions in, and where they are. These routes exist when the transaction API is on.

use super::duty::method_not_allowed;
use super::{Kind, Route};
use crate::app::{App, Shared};
use crate::backend::{
    AccountView, Admission, Answer, Backend, BackendError, MempoolView, Submission, TxStatus, TxView,
};
use crate::clients::Client;
use crate::observe::fenced;
use crate::proof::{ItemProof, item_proof};
use crate::reply::{
    ErrorBody, Refusal, TakenBytes, accepted, json, ok, retry_soon, text_error, text_error_because,
    text_failure,
};
use crate::request::{BodyError, Param, Params, Taken, hash};
use aequa_types::json::{
    AccountProofJson, JsonError, object, parse_address, parse_transaction, parse_transaction_as,
};
use aequa_types::{Transaction, TxKind};
use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::header::HeaderValue;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

pub(super) fn routes<B: Backend>() -> Vec<Route<B>> {
    vec![
        Route::new(Kind::Work, routes!(post_tx)),
        Route::new(Kind::Work, routes!(post_plain)).refusing(method_not_allowed),
        Route::new(Kind::Work, routes!(post_auction)).refusing(method_not_allowed),
        Route::new(Kind::Work, routes!(post_private)).refusing(method_not_allowed),
        Route::new(Kind::Work, routes!(read_tx)),
        Route::new(Kind::Work, routes!(account)),
        Route::new(Kind::Work, routes!(mempool)),
    ]
}

/// Answer to an admitted transaction.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Admitted {
    hash: String,
    /// ok or future.
    result: &'static str,
    sender: String,
    nonce: u64,
}

/// Submits a transaction; JSON answers.
#[utoipa::path(post, path = "/v1/tx", tag = "tx", request_body = ref("#/components/schemas/Envelope"), responses(
    (status = 202, body = Admitted),
    (status = 400, description = "TX_INVALID", body = ErrorBody),
    (status = 409, description = "TX_OLD, TX_DUP", body = ErrorBody),
    (status = 413, description = "BODY_TOO_LARGE", body = ErrorBody),
    (status = 415, description = "BAD_CONTENT_TYPE", body = ErrorBody),
    (status = 429, description = "POOL_FULL, SENDER_LIMIT", body = ErrorBody),
    (status = 503, description = "DISABLED, NOT_READY, LEFT_BEHIND, OVERLOADED, TOO_MANY_BODIES", body = ErrorBody),
))]
pub(crate) async fn post_tx<B: Backend>(State(app): Shared<B>, bytes: Taken) -> Result<Response, Refusal> {
    let transaction = parse_transaction(&bytes).map_err(|error| unreadable(&app, &error))?;
    let taken = TakenBytes(bytes.len());
    drop(bytes);
    if app.backend.fenced() {
        return Err(fenced());
    }
    let submission = submit(&app, transaction).await?;
    refuse(&submission)?;
    let mut response = json(StatusCode::ACCEPTED, &Admitted::from(&submission));
    response.extensions_mut().insert(taken);
    Ok(with_verdict(response, &submission))
}

impl From<&Submission> for Admitted {
    fn from(submission: &Submission) -> Self {
        Self {
            hash: submission.hash.to_string(),
            result: submission.result.name(),
            sender: format!("{:#x}", submission.sender),
            nonce: submission.nonce,
        }
    }
}

/// The refusal of a text that is no transaction; counted, for it never reaches the pool.
pub(super) fn unreadable<B: Backend>(app: &App<B>, error: &JsonError) -> Refusal {
    if matches!(error, JsonError::PrivateDisabled) {
        return Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "DISABLED", error.to_string());
    }
    count_invalid(app);
    Refusal::bad("TX_INVALID", error.to_string())
}

/// A batch of one.
async fn submit<B: Backend>(app: &App<B>, transaction: Transaction) -> Answer<Submission> {
    let mut submissions = app.backend.submit(vec![transaction]).await?;
    submissions.pop().ok_or_else(|| BackendError::Internal("a transaction has no outcome".into()))
}

/// An error with the words of the pool, unless it took the transaction.
pub(super) fn refuse(submission: &Submission) -> Result<(), Refusal> {
    let because = |text: &str| submission.reason.clone().unwrap_or_else(|| text.to_owned());
    let refusal = |status, code, text| Refusal::new(status, code, because(text));
    Err(match submission.result {
        Admission::Ok | Admission::Future => return Ok(()),
        Admission::Invalid => refusal(StatusCode::BAD_REQUEST, "TX_INVALID", "the transaction breaks a rule"),
        Admission::Old => refusal(StatusCode::CONFLICT, "TX_OLD", "nonce: below the next one of the account"),
        Admission::Dup => refusal(StatusCode::CONFLICT, "TX_DUP", "the transaction, or its nonce, is known"),
        Admission::Overflow => {
            refusal(StatusCode::TOO_MANY_REQUESTS, "POOL_FULL", "the pool is full").retry_soon()
        }
        Admission::SenderLimit => {
            let text = "the sender has too many pending transactions";
            refusal(StatusCode::TOO_MANY_REQUESTS, "SENDER_LIMIT", text).retry_soon()
        }
    })
}

/// Submits a transaction; the original's text answers.
#[utoipa::path(post, path = "/v1/tx/plain", tag = "tx", request_body = ref("#/components/schemas/Envelope"), responses(
    (status = 202, description = "admitted; headers X-Aequa-Tx-Hash and X-Aequa-Tx-Result"),
    (status = 400, description = "invalid json, read error, invalid tx", body = String),
    (status = 409, description = "old nonce, duplicate", body = String),
    (status = 429, description = "pool full", body = String),
    (status = 503, description = "beast disabled, overloaded", body = String),
))]
pub(crate) async fn post_plain<B: Backend>(
    State(app): Shared<B>,
    body: Result<Taken, BodyError>,
) -> Response {
    submit_text(&app, body, parse_transaction).await
}

/// Submits an auction bid; text answers.
#[utoipa::path(post, path = "/v1/tx/auction", tag = "tx", request_body = ref("#/components/schemas/Envelope"), responses(
    (status = 202, description = "admitted; headers as of /v1/tx/plain"),
    (status = 400, description = "invalid json, read error, invalid tx", body = String),
    (status = 409, description = "old nonce, duplicate", body = String),
    (status = 429, description = "pool full", body = String),
    (status = 503, description = "overloaded", body = String),
))]
pub(crate) async fn post_auction<B: Backend>(
    State(app): Shared<B>,
    body: Result<Taken, BodyError>,
) -> Response {
    let other_type = |found: &str| JsonError::Field {
        field: "type",
        problem: format!("must be auction_bid_v1 or missing, is {found}"),
    };
    let parse = |bytes: &[u8]| match parse_transaction_as(bytes, TxKind::AuctionBidV1) {
        Ok(transaction) if transaction.body.kind() == TxKind::AuctionBidV1 => Ok(transaction),
        Ok(transaction) => Err(other_type(transaction.body.kind().name())),
        Err(JsonError::PrivateDisabled) => Err(other_type("private_v1")),
        Err(error) => Err(error),
    };
    submit_text(&app, body, parse).await
}

/// Submits a private transaction: this node cannot open them.
#[utoipa::path(post, path = "/v1/tx/private", tag = "tx", request_body = ref("#/components/schemas/PrivateEnvelope"), responses(
    (status = 400, description = "invalid json, read error, invalid tx", body = String),
    (status = 503, description = "beast disabled", body = String),
))]
pub(crate) async fn post_private<B: Backend>(
    State(app): Shared<B>,
    body: Result<Taken, BodyError>,
) -> Response {
    let parse = |bytes: &[u8]| {
        let envelope = object(bytes)?;
        let kind = envelope.iter().find(|(key, _)| key == "type").map(|(_, kind)| *kind);
        Err(match kind.filter(|kind| !kind.is_null()) {
            None => JsonError::PrivateDisabled,
            Some(kind) if kind.text().is_some_and(|kind| matches!(&*kind, "" | "private_v1")) => {
                JsonError::PrivateDisabled
            }
            Some(_) => JsonError::Field { field: "type", problem: "must be private_v1 or missing".into() },
        })
    };
    submit_text(&app, body, parse).await
}

async fn submit_text<B: Backend>(
    app: &App<B>,
    body: Result<Taken, BodyError>,
    parse: impl FnOnce(&[u8]) -> Result<Transaction, JsonError>,
) -> Response {
    let bad = |text, reason: &str| text_error_because(StatusCode::BAD_REQUEST, text, reason);
    let bytes = match body {
        Ok(bytes) => bytes,
        Err(BodyError::Refused(_)) => return text_failure(BackendError::Overloaded),
        Err(error) => return bad("read error", &error.to_string()),
    };
    let transaction = match parse(&bytes) {
        Ok(transaction) => transaction,
        Err(error) if error.is_syntax() => return bad("invalid json", &error.to_string()),
        Err(JsonError::PrivateDisabled) => {
            return text_error(StatusCode::SERVICE_UNAVAILABLE, "beast disabled");
        }
        Err(error) => {
            count_invalid(app);
            return bad("invalid tx", &error.to_string());
        }
    };
    let taken = bytes.len();
    drop(bytes);
    if app.backend.fenced() {
        return fenced().into_response();
    }
    match submit(app, transaction).await {
        Ok(submission) => with_verdict(text_verdict(&submission, taken), &submission),
        Err(error) => text_failure(error),
    }
}

fn text_verdict(submission: &Submission, taken: usize) -> Response {
    let refused = |status, text| match &submission.reason {
        Some(reason) => text_error_because(status, text, reason),
        None => text_error(status, text),
    };
    match submission.result {
        Admission::Ok | Admission::Future => accepted(taken),
        Admission::Invalid => refused(StatusCode::BAD_REQUEST, "invalid tx"),
        Admission::Old => refused(StatusCode::CONFLICT, "old nonce"),
        Admission::Dup => refused(StatusCode::CONFLICT, "duplicate"),
        Admission::Overflow | Admission::SenderLimit => {
            retry_soon(refused(StatusCode::TOO_MANY_REQUESTS, "pool full"))
        }
    }
}

/// Adds hash and result in headers, whatever the verdict.
fn with_verdict(mut response: Response, submission: &Submission) -> Response {
    if let Ok(hash) = HeaderValue::from_str(&submission.hash.to_string()) {
        response.headers_mut().insert("x-aequa-tx-hash", hash);
    }
    response.headers_mut().insert("x-aequa-tx-result", HeaderValue::from_static(submission.result.name()));
    response
}

/// What cannot even be read never reaches the pool, which counts the rest.
fn count_invalid<B: Backend>(app: &App<B>) {
    app.backend.metrics().mempool_in_total.inc(["invalid"]);
}

/// A transaction's whereabouts, with the proof when asked for.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TxAnswer {
    #[serde(flatten)]
    view: TxView,
    #[serde(skip_serializing_if = "Option::is_none")]
    proof: Option<ItemProof>,
}

/// Where a transaction is.
#[utoipa::path(get, path = "/v1/tx/{hash}", tag = "tx", params(
    ("hash" = String, Path, description = "0x and 64 hex digits"),
    ("proof" = Option<u8>, Query, description = "1 adds the branch to the block's payload root"),
), responses(
    (status = 200, body = TxAnswer),
    (status = 400, description = "BAD_HASH", body = ErrorBody),
    (status = 404, description = "UNKNOWN_TX", body = ErrorBody),
))]
pub(crate) async fn read_tx<B: Backend>(
    State(app): Shared<B>,
    Extension(client): Extension<Client>,
    Param(text): Param,
    params: Params,
) -> Result<Response, Refusal> {
    let hash = hash("hash", &text)?;
    let unknown = || Refusal::not_found("UNKNOWN_TX", "this node has not seen the transaction");
    let view = app.backend.transaction(hash).await?.ok_or_else(unknown)?;
    let proof = if params.text("proof") == Some("1") { prove(&app, client, &view).await? } else { None };
    Ok(ok(&TxAnswer { view, proof }))
}

async fn prove<B: Backend>(
    app: &App<B>,
    client: Client,
    view: &TxView,
) -> Result<Option<ItemProof>, Refusal> {
    let (TxStatus::Included, Some(height), Some(index)) = (view.status, view.height, view.index) else {
        return Ok(None);
    };
    let (block, _place) = super::chain::stored(app, client, height).await?;
    Ok(item_proof(&block.block.items, index))
}

/// Nonces and pending transactions of an address, with the proof when asked for.
#[derive(Debug, Serialize)]
pub(crate) struct AccountAnswer {
    #[serde(flatten)]
    view: AccountView,
    #[serde(skip_serializing_if = "Option::is_none")]
    proof: Option<AccountProofJson>,
}

/// Nonces and pending transactions of an address.
#[utoipa::path(get, path = "/v1/accounts/{address}", tag = "tx", params(
    ("address" = String, Path),
    ("proof" = Option<u8>, Query, description = "1 adds the rows of the address in the newest certified state"),
), responses(
    (status = 200, body = ref("#/components/schemas/Account")),
    (status = 400, description = "BAD_ADDRESS", body = ErrorBody),
))]
pub(crate) async fn account<B: Backend>(
    State(app): Shared<B>,
    Param(text): Param,
    params: Params,
) -> Result<Response, Refusal> {
    let address =
        parse_address(&text).map_err(|problem| Refusal::bad("BAD_ADDRESS", format!("address: {problem}")))?;
    let view = app.backend.account(address).await?;
    let proof =
        if params.text("proof") == Some("1") { app.backend.account_proof(address).await? } else { None };
    Ok(ok(&AccountAnswer { view, proof }))
}

/// Counts and bytes of the pools by type.
#[utoipa::path(get, path = "/v1/mempool", tag = "tx", responses(
    (status = 200, description = "`{type: {pending, future, bytes}}`", body = std::collections::BTreeMap<String, crate::backend::PoolCounts>),
))]
pub(crate) async fn mempool<B: Backend>(State(app): Shared<B>) -> Result<axum::Json<MempoolView>, Refusal> {
    Ok(axum::Json(app.backend.mempool().await?))
}
