//! Server-sent events (contract: http, section 4.1).
//!
//! A stream first replays stored blocks, when asked to resume, and then follows the live channel:
//!
//! ```text
//!  Last-Event-ID / from_height ──► Replay(next) ──no block at next, subscribed before asking──► Live
//!  otherwise ──────────────────────────────────────────────────────────────────────────────────► Live
//! ```
//!
//! A reader that falls [`crate::backend::EVENT_QUEUE`] events behind gets `lagged` and is closed; the
//! channel never waits for it. When the node fences, one `fence` event ends the stream.

use super::read;
use crate::app::{App, Shared};
use crate::backend::{Backend, BackendError, Event, EventBody, Topic};
use crate::reply::{ErrorBody, Refusal};
use crate::request::{Params, digits, height};
use aequa_types::json::{CertificateJson, HeaderJson};
use aequa_types::{CertifiedBlock, Height};
use axum::Router;
use axum::extract::State;
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures::stream;
use http::header::{CONNECTION, HeaderValue};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, broadcast};

/// The route.
pub(crate) const PATH: &str = "/v1/events";
/// Time between comment lines: shorter than the idle timeout of any common proxy.
pub const HEARTBEAT: Duration = Duration::from_secs(15);

pub(crate) fn router<B: Backend>() -> Router<Arc<App<B>>> {
    Router::new().route(PATH, read(events))
}

/// Streams events.
#[utoipa::path(get, path = "/v1/events", params(
    ("topics" = Option<String>, Query, description = "comma list of block, tx, duty, checkpoint, evidence, readiness, fence; default block"),
    ("from_height" = Option<u64>, Query, description = "replay stored blocks from here"),
    ("Last-Event-ID" = Option<String>, Header, description = "resume after this event"),
), responses(
    (status = 200, description = "`id: <height>-<n>`, `event: <topic>`, `data: <JSON>`", content_type = "text/event-stream", body = String),
    (status = 400, description = "BAD_REQUEST, BAD_HEIGHT", body = ErrorBody),
    (status = 410, description = "PRUNED", body = ErrorBody),
    (status = 503, description = "TOO_MANY_STREAMS", body = ErrorBody),
))]
pub(crate) async fn events<B: Backend>(
    State(app): Shared<B>,
    params: Params,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let topics = topics(&params)?;
    let permit = Arc::clone(&app.streams).try_acquire_owned().map_err(|_| {
        let message = format!("at most {} event streams are open at once", crate::app::STREAMS_MAX);
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "TOO_MANY_STREAMS", message).retry_soon()
    })?;
    // Subscribed before anything is asked, so that nothing falls between.
    let live = app.backend.events();
    let phase = match resume_at(&params, &headers)?.filter(|_| topics.contains(&Topic::Block)) {
        None => Phase::Live { live, blocks_from: Height(0) },
        Some(next) => match app.backend.block(next).await {
            Err(BackendError::Pruned) => return Err(BackendError::Pruned.into()),
            _ => Phase::Replay { next },
        },
    };
    let stream = EventStream { app, topics, phase, _permit: permit };
    let keep_alive = KeepAlive::new().interval(HEARTBEAT);
    let mut response =
        Sse::new(stream::unfold(stream, EventStream::next)).keep_alive(keep_alive).into_response();
    // The end of the stream is the end of the connection: a reader need not guess.
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(response)
}

fn topics(params: &Params) -> Result<BTreeSet<Topic>, Refusal> {
    params
        .text("topics")
        .unwrap_or("block")
        .split(',')
        .map(|name| {
            Topic::from_name(name).ok_or_else(|| {
                let known = Topic::ALL.map(Topic::name).join(", ");
                Refusal::bad("BAD_REQUEST", format!("topics: must be a comma list of {known}"))
            })
        })
        .collect()
}

/// The first block to replay. The id of an event of height h says that block h was seen.
fn resume_at(params: &Params, headers: &HeaderMap) -> Result<Option<Height>, Refusal> {
    if let Some(id) = headers.get("last-event-id") {
        let seen = id.to_str().ok().and_then(|id| id.split_once('-'));
        return match seen.and_then(|(height, n)| digits(n).and(digits(height))) {
            Some(seen) => Ok(Some(height("Last-Event-ID", &seen.to_string())?.next())),
            None => Err(Refusal::bad("BAD_REQUEST", "Last-Event-ID: must be <height>-<n>")),
        };
    }
    Ok(params.height("from_height")?.map(|from| from.max(Height(1))))
}

struct EventStream<B> {
    app: Arc<App<B>>,
    topics: BTreeSet<Topic>,
    phase: Phase,
    _permit: OwnedSemaphorePermit,
}

enum Phase {
    /// Stored blocks from `next` upwards.
    Replay {
        next: Height,
    },
    /// The channel; blocks below `blocks_from` were replayed.
    Live {
        live: broadcast::Receiver<Arc<Event>>,
        blocks_from: Height,
    },
    Closed,
}

type Item = Result<sse::Event, Infallible>;

impl<B: Backend> EventStream<B> {
    async fn next(mut self) -> Option<(Item, Self)> {
        let event = loop {
            if matches!(self.phase, Phase::Closed) || self.app.stopping.is_cancelled() {
                return None;
            }
            if self.app.backend.fenced() {
                break self.last_words().await;
            }
            if let Some(event) = self.step().await? {
                break event;
            }
        };
        Some((Ok(event), self))
    }

    /// One step; `Some(None)` when it brought nothing to send, `None` when the stream is over.
    async fn step(&mut self) -> Option<Option<sse::Event>> {
        match std::mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Closed => None,
            Phase::Replay { next } => Some(self.replay(next).await),
            Phase::Live { mut live, blocks_from } => {
                let stopping = self.app.stopping.clone();
                let received = tokio::select! {
                    () = stopping.cancelled() => return None,
                    received = live.recv() => received,
                };
                match received {
                    Ok(event) => {
                        self.phase = Phase::Live { live, blocks_from };
                        Some(self.deliver(&event, blocks_from))
                    }
                    Err(RecvError::Lagged(_)) => Some(Some(lagged())),
                    Err(RecvError::Closed) => None,
                }
            }
        }
    }

    async fn replay(&mut self, next: Height) -> Option<sse::Event> {
        // Subscribed before asking: a block that is not there yet will be announced.
        let live = self.app.backend.events();
        match self.app.backend.block(next).await {
            Ok(Some(block)) => {
                self.phase = Phase::Replay { next: next.next() };
                Some(block_event(&block))
            }
            Ok(None) => {
                self.phase = Phase::Live { live, blocks_from: next };
                None
            }
            Err(_) => Some(lagged()),
        }
    }

    fn deliver(&mut self, event: &Event, blocks_from: Height) -> Option<sse::Event> {
        let topic = event.body.topic();
        if topic == Topic::Fence {
            self.phase = Phase::Closed;
            return Some(encode(event));
        }
        // Whoever set the flag sends the event too; data must not overtake it.
        if self.app.backend.fenced() {
            return None;
        }
        let replayed = topic == Topic::Block && event.height < blocks_from;
        (self.topics.contains(&topic) && !replayed).then(|| encode(event))
    }

    /// The fence as the node's status tells it, when the flag is seen before the event.
    async fn last_words(&mut self) -> sse::Event {
        self.phase = Phase::Closed;
        let fence = self.app.backend.status().await.fence;
        let data = serde_json::to_value(fence).unwrap_or_default();
        sse::Event::default().event(Topic::Fence.name()).data(data.to_string())
    }
}

fn lagged() -> sse::Event {
    sse::Event::default().event("lagged").data("{}")
}

fn encode(event: &Event) -> sse::Event {
    let data = match &event.body {
        EventBody::Block(block) => return block_event(block),
        EventBody::Tx(view) => serde_json::to_value(view),
        EventBody::Duty(view) => serde_json::to_value(view),
        EventBody::Checkpoint(checkpoint) => serde_json::to_value(checkpoint),
        EventBody::Evidence(evidence) => serde_json::to_value(evidence),
        EventBody::Readiness(readiness) => {
            Ok(json!({"ready": readiness.is_ready(), "reasons": readiness.reasons}))
        }
        EventBody::Fence(fence) => serde_json::to_value(fence),
    };
    named(event.body.topic(), event.height, event.n, &data.unwrap_or_default())
}

/// Header and certificate; the items are at `/v1/blocks/{height}`.
fn block_event(block: &CertifiedBlock) -> sse::Event {
    let header = &block.block.header;
    let data = json!({
        "height": header.height,
        "digest": header.digest(),
        "header": HeaderJson::from(header),
        "certificate": CertificateJson::from(&block.certificate),
    });
    named(Topic::Block, header.height, 0, &data)
}

fn named(topic: Topic, height: Height, n: u64, data: &Value) -> sse::Event {
    sse::Event::default().id(format!("{height}-{n}")).event(topic.name()).data(data.to_string())
}
