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
//! channel never waits for it. An event is written once and its bytes are shared by all streams; a
//! replay holds one header at a time. When the node fences, one `fence` event ends the stream.

use super::{Kind, Route};
use crate::app::{App, Shared};
use crate::backend::{Answer, Backend, BackendError, Event, EventBody, Topic};
use crate::budget::Permit;
use crate::clients::Client;
use crate::observe::Arrival;
use crate::reply::{ErrorBody, Refusal, streamed};
use crate::request::{Params, height};
use aequa_types::json::{CertificateJson, HeaderJson, decimal};
use aequa_types::{CertifiedHeader, Height};
use axum::extract::{Extension, State};
use axum::response::Response;
use bytes::Bytes;
use futures::stream;
use http::HeaderMap;
use http::header::{CACHE_CONTROL, CONNECTION, HeaderValue};
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, timeout_at};
use utoipa_axum::routes;

/// Time between comment lines: shorter than the idle timeout of any common proxy.
pub const HEARTBEAT: Duration = Duration::from_secs(15);

pub(super) fn routes<B: Backend>() -> Vec<Route<B>> {
    vec![Route::new(Kind::Stream, routes!(events))]
}

/// Streams events.
#[utoipa::path(get, path = "/v1/events", tag = "events", params(
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
    Extension(client): Extension<Client>,
    Extension(arrival): Extension<Arrival>,
    params: Params,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let topics = topics(&params)?;
    let permit = app.door.take(&app.door.budgets.streams, client)?;
    arrival.place.activity.keep_place();
    // Subscribed before anything is asked, so that nothing falls between.
    let live = app.backend.events();
    let phase = match resume_at(&params, &headers)?.filter(|_| topics.contains(&Topic::Block)) {
        None => Phase::Live { live, blocks_from: Height(0) },
        Some(next) => match app.backend.certified_header(next).await {
            Err(BackendError::Pruned) => return Err(BackendError::Pruned.into()),
            _ => Phase::Replay { next },
        },
    };
    let stream = EventStream { app, topics, phase, heartbeat: Instant::now() + HEARTBEAT, _permit: permit };
    let frames = stream::unfold(stream, EventStream::next);
    let mut response = streamed(HeaderValue::from_static("text/event-stream"), frames);
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // The end of the stream is the end of the connection: a reader need not guess.
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
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
    // A browser that has seen no id yet sends an empty one.
    if let Some(id) = headers.get("last-event-id").filter(|id| !id.is_empty()) {
        let seen = id.to_str().ok().and_then(|id| id.split_once('-'));
        return match seen.and_then(|(height, n)| decimal(n).and(decimal(height))) {
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
    /// When a comment is due if nothing is sent before: events of other topics are no sign of life.
    heartbeat: Instant,
    _permit: Permit,
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

impl<B: Backend> EventStream<B> {
    async fn next(mut self) -> Option<(Answer<Bytes>, Self)> {
        let frame = loop {
            if matches!(self.phase, Phase::Closed) || self.app.stopping.is_cancelled() {
                return None;
            }
            if self.app.backend.fenced() {
                break self.last_words().await;
            }
            if let Some(frame) = self.step().await? {
                break frame;
            }
        };
        self.heartbeat = Instant::now() + HEARTBEAT;
        Some((Ok(frame), self))
    }

    /// One step; `Some(None)` when it brought nothing to send, `None` when the stream is over.
    async fn step(&mut self) -> Option<Option<Bytes>> {
        match std::mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Closed => None,
            Phase::Replay { next } => Some(self.replay(next).await),
            Phase::Live { mut live, blocks_from } => {
                let stopping = self.app.stopping.clone();
                let received = tokio::select! {
                    () = stopping.cancelled() => return None,
                    received = timeout_at(self.heartbeat, live.recv()) => received,
                };
                match received {
                    Err(_silence) => {
                        self.phase = Phase::Live { live, blocks_from };
                        Some(Some(Bytes::from_static(b":\n\n")))
                    }
                    Ok(Ok(event)) => {
                        self.phase = Phase::Live { live, blocks_from };
                        Some(self.deliver(&event, blocks_from))
                    }
                    Ok(Err(RecvError::Lagged(_))) => Some(Some(lagged())),
                    Ok(Err(RecvError::Closed)) => None,
                }
            }
        }
    }

    async fn replay(&mut self, next: Height) -> Option<Bytes> {
        // Subscribed before asking: a block that is not there yet will be announced.
        let live = self.app.backend.events();
        match self.app.backend.certified_header(next).await {
            Ok(Some(certified)) => {
                self.phase = Phase::Replay { next: next.next() };
                Some(frame(Topic::Block, Some((next, 0)), &block_data(&certified)))
            }
            Ok(None) => {
                self.phase = Phase::Live { live, blocks_from: next };
                None
            }
            Err(_) => Some(lagged()),
        }
    }

    fn deliver(&mut self, event: &Event, blocks_from: Height) -> Option<Bytes> {
        let topic = event.body.topic();
        if topic == Topic::Fence {
            self.phase = Phase::Closed;
            return Some(shared(event));
        }
        // Whoever set the flag sends the event too; data must not overtake it.
        if self.app.backend.fenced() {
            return None;
        }
        let replayed = topic == Topic::Block && event.height < blocks_from;
        (self.topics.contains(&topic) && !replayed).then(|| shared(event))
    }

    /// The fence as the node's status tells it, when the flag is seen before the event.
    async fn last_words(&mut self) -> Bytes {
        self.phase = Phase::Closed;
        frame(Topic::Fence, None, &self.app.backend.status().await.fence)
    }
}

fn lagged() -> Bytes {
    Bytes::from_static(b"event: lagged\ndata: {}\n\n")
}

/// The event as it is sent: all streams send the same bytes.
fn shared(event: &Event) -> Bytes {
    event.frame.get_or_init(|| encode(event)).clone()
}

fn encode(event: &Event) -> Bytes {
    let (topic, id) = (event.body.topic(), Some((event.height, event.n)));
    match &event.body {
        EventBody::Block(certified) => frame(topic, id, &block_data(certified)),
        EventBody::Tx(view) => frame(topic, id, view),
        EventBody::Duty(view) => frame(topic, id, view),
        EventBody::Checkpoint(checkpoint) => frame(topic, id, checkpoint),
        EventBody::Evidence(evidence) => frame(topic, id, evidence),
        EventBody::Readiness(readiness) => {
            frame(topic, id, &json!({"ready": readiness.is_ready(), "reasons": readiness.reasons}))
        }
        EventBody::Fence(fence) => frame(topic, id, fence),
    }
}

/// Header and certificate; the items are at `/v1/blocks/{height}`.
fn block_data(certified: &CertifiedHeader) -> impl Serialize + use<> {
    let header = &certified.header;
    json!({
        "height": header.height,
        "digest": header.digest(),
        "header": HeaderJson::from(header),
        "certificate": CertificateJson::from(&certified.certificate),
    })
}

/// One event of a stream. JSON has no line breaks, so one data line holds it.
fn frame(topic: Topic, id: Option<(Height, u64)>, data: &impl Serialize) -> Bytes {
    let mut bytes = id.map(|(height, n)| format!("id: {height}-{n}\n")).unwrap_or_default().into_bytes();
    bytes.extend_from_slice(format!("event: {}\ndata: ", topic.name()).as_bytes());
    if serde_json::to_writer(&mut bytes, data).is_err() {
        bytes.extend_from_slice(b"null");
    }
    bytes.extend_from_slice(b"\n\n");
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Readiness;

    #[test]
    fn all_streams_send_the_same_bytes_of_an_event() {
        let event = Event::new(Height(7), 3, EventBody::Readiness(Readiness::default()));
        let (one, other) = (shared(&event), shared(&event));
        assert_eq!(&one[..], b"id: 7-3\nevent: readiness\ndata: {\"ready\":true,\"reasons\":[]}\n\n");
        assert_eq!(one.as_ptr(), other.as_ptr());
    }
}
