//! Many transactions in one request: what one request costs is shared by all of them.
//!
//! Each line is read, checked and admitted as by `/v1/tx`, in the order of the lines, and has its own answer. A
//! batch costs its client what its lines would have cost: a token of the rate limit for each, and places among
//! the transactions that may be with the node at one time.

use super::tx::{Admitted, refuse, unreadable};
use super::{Kind, Route};
use crate::app::{App, Shared};
use crate::backend::{Answer, Backend, BackendError, Submission};
use crate::clients::Client;
use crate::guard::is_lines;
use crate::observe::fenced;
use crate::reply::{ErrorBody, Refusal, TakenBytes, internal, ok};
use crate::request::Taken;
use aequa_types::Transaction;
use aequa_types::json::{BatchForm, JsonError, parse_transactions};
use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use std::time::{Duration, Instant};
use utoipa::ToSchema;
use utoipa_axum::routes;

/// How long a batch waits for places: as long as a client that is told to come back would.
const PLACES_WITHIN: Duration = Duration::from_secs(5);

pub(super) fn routes<B: Backend>() -> Vec<Route<B>> {
    vec![Route::new(Kind::Work, routes!(post_txs)).taking_lines()]
}

/// What became of one transaction of a batch: the status and the body `/v1/tx` would have answered with. The trace
/// id is the one of the request.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum LineAnswer {
    /// It was admitted.
    Admitted {
        /// 202.
        #[schema(minimum = 200, maximum = 299)]
        status: u16,
        #[serde(flatten)]
        admitted: Admitted,
    },
    /// It was not.
    Refused {
        /// 400, 409, 429 or 503.
        #[schema(minimum = 400, maximum = 599)]
        status: u16,
        /// Upper-case name of the refusal.
        code: &'static str,
        /// What is wrong, naming field and limit.
        message: String,
    },
}

impl From<Result<Admitted, Refusal>> for LineAnswer {
    fn from(outcome: Result<Admitted, Refusal>) -> Self {
        match outcome {
            Ok(admitted) => LineAnswer::Admitted { status: StatusCode::ACCEPTED.as_u16(), admitted },
            Err(Refusal { status, code, message, retry_after_s: _ }) => {
                LineAnswer::Refused { status: status.as_u16(), code, message }
            }
        }
    }
}

/// Submits up to 1,000 transactions, as a JSON array or one on each line. Each has its own answer, in their order.
#[utoipa::path(post, path = "/v1/txs", tag = "tx", request_body(content(
    (ref("#/components/schemas/Batch") = "application/json"),
    (ref("#/components/schemas/BatchLines") = "application/x-ndjson"),
)), responses(
    (status = 200, description = "one answer for each transaction, in their order", body = Vec<LineAnswer>),
    (status = 400, description = "TXS_INVALID: no JSON array, no transaction, or more than 1,000", body = ErrorBody),
    (status = 413, description = "BODY_TOO_LARGE", body = ErrorBody),
    (status = 415, description = "BAD_CONTENT_TYPE: must be application/json or application/x-ndjson", body = ErrorBody),
    (status = 503, description = "NOT_READY, LEFT_BEHIND, OVERLOADED, TOO_MANY_BODIES, TOO_MANY_TXS", body = ErrorBody),
))]
pub(crate) async fn post_txs<B: Backend>(
    State(app): Shared<B>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    bytes: Taken,
) -> Result<Response, Refusal> {
    let form = if is_lines(&headers) { BatchForm::Lines } else { BatchForm::Array };
    let taken = TakenBytes(bytes.len());
    // The body keeps its places until it is answered: what was made of it is as large.
    let (_bytes, parsed) = parse(bytes, form).await?;
    let lines = parsed.map_err(|error| Refusal::bad("TXS_INVALID", error.to_string()))?;
    if let Some(limiter) = &app.rate {
        limiter.charge(client.network, lines.len() - 1, Instant::now());
    }
    let budget = &app.door.budgets.batched;
    let _places = app.door.take_within(budget, client, lines.len(), PLACES_WITHIN).await?;
    if app.backend.fenced() {
        return Err(fenced());
    }
    let mut response = ok(&submit(&app, lines).await?);
    response.extensions_mut().insert(taken);
    Ok(response)
}

/// What was read of a batch.
type Lines = Vec<Result<Transaction, JsonError>>;

/// Reads a batch where it keeps no other request waiting.
async fn parse(bytes: Taken, form: BatchForm) -> Result<(Taken, Result<Lines, JsonError>), Refusal> {
    let parse = move || {
        let parsed = parse_transactions(&bytes, form);
        (bytes, parsed)
    };
    tokio::task::spawn_blocking(parse).await.map_err(|error| internal(&error.to_string()))
}

/// Submits what could be read; the answer to each line stands at its place.
async fn submit<B: Backend>(app: &App<B>, lines: Lines) -> Answer<Vec<LineAnswer>> {
    let mut transactions = Vec::with_capacity(lines.len());
    let mut read = Vec::with_capacity(lines.len());
    for line in lines {
        read.push(line.map(|transaction| transactions.push(transaction)).map_err(|e| unreadable(app, &e)));
    }
    let mut submissions = match transactions.is_empty() {
        true => Vec::new(),
        false => app.backend.submit(transactions).await?,
    }
    .into_iter();
    let mut outcome = |()| submissions.next().ok_or_else(|| BackendError::Internal("no outcome".into()));
    let answer = |line: Result<(), Refusal>| {
        Ok(match line.map(&mut outcome) {
            Ok(submission) => LineAnswer::from(admitted(&submission?)),
            Err(refusal) => LineAnswer::from(Err(refusal)),
        })
    };
    read.into_iter().map(answer).collect()
}

fn admitted(submission: &Submission) -> Result<Admitted, Refusal> {
    refuse(submission)?;
    Ok(Admitted::from(submission))
}
