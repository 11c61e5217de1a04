//! Reading requests: bodies, queries, path parameters.

use crate::backend::BackendError;
use crate::reply::Refusal;
use aequa_types::json::decimal;
use aequa_types::limits::HEIGHT_MAX;
use aequa_types::{Digest, Height};
use axum::body::Body;
use axum::extract::{FromRequestParts, Path, Query};
use http::StatusCode;
use http::request::Parts;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use std::convert::Infallible;
use std::fmt;
use std::ops::Deref;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

/// Largest request body on `/v1/*`: the largest transaction envelope.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// Longest time a body may take: 1 MiB at 70 kB/s.
pub const BODY_TIME_MAX: Duration = Duration::from_secs(15);
/// Bytes of a body that need no place: what wallets and validator clients send, 16 MiB for all connections.
pub const BODY_BYTES_FREE: usize = 16 * 1024;
/// Bytes of all larger bodies that are held at one time; further ones wait until they find room. Only what has
/// arrived takes room, so that no slow client holds that of others.
pub const BODIES_BYTES_MAX: usize = 32 << 20;

/// Room for large bodies, in KiB. Memory is the process's, so both listeners share it.
static BODIES: Semaphore = Semaphore::const_new(BODIES_BYTES_MAX / 1024);
/// KiB of room that are taken at a time.
const ROOM_STEP: usize = 16;

/// Why a body did not arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BodyError {
    TooLarge,
    Slow,
    Crowded,
    Broken(String),
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BodyError::TooLarge => write!(f, "body exceeds {BODY_BYTES_MAX} bytes"),
            BodyError::Slow => write!(f, "body did not arrive within {} s", BODY_TIME_MAX.as_secs()),
            BodyError::Crowded => {
                write!(f, "bodies above {BODY_BYTES_FREE} bytes already use {BODIES_BYTES_MAX} bytes")
            }
            BodyError::Broken(detail) => write!(f, "body did not arrive: {detail}"),
        }
    }
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        let message = error.to_string();
        match error {
            BodyError::TooLarge => Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE", message),
            BodyError::Slow => Refusal::new(StatusCode::REQUEST_TIMEOUT, "BODY_TIMEOUT", message),
            BodyError::Crowded => BackendError::Overloaded.into(),
            BodyError::Broken(_) => Refusal::bad("READ_ERROR", message),
        }
    }
}

/// A body that arrived, and the room it takes.
#[derive(Debug)]
pub(crate) struct Taken {
    bytes: Vec<u8>,
    room: Option<SemaphorePermit<'static>>,
}

impl Taken {
    /// Takes the room that so many bytes need beyond those that are free.
    async fn make_room(&mut self, bytes: usize, deadline: Instant) -> Result<(), BodyError> {
        let held = self.room.as_ref().map_or(0, SemaphorePermit::num_permits);
        let needed = bytes.saturating_sub(BODY_BYTES_FREE).div_ceil(1024).next_multiple_of(ROOM_STEP);
        if needed > held {
            let more = BODIES.acquire_many(u32::try_from(needed - held).unwrap_or(u32::MAX));
            let more = timeout_at(deadline, more).await.map_err(|_| BodyError::Crowded)?;
            let more = more.map_err(|_| BodyError::Crowded)?;
            match &mut self.room {
                Some(room) => room.merge(more),
                none => *none = Some(more),
            }
        }
        Ok(())
    }
}

impl Deref for Taken {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The whole body, within [`BODY_BYTES_MAX`] and [`BODY_TIME_MAX`].
pub(crate) async fn read_body(mut body: Body) -> Result<Taken, BodyError> {
    let declared = body.size_hint().upper().and_then(|bytes| usize::try_from(bytes).ok());
    let bytes_max = declared.unwrap_or(BODY_BYTES_MAX).min(BODY_BYTES_MAX);
    let deadline = Instant::now() + BODY_TIME_MAX;
    let mut taken = Taken { bytes: Vec::new(), room: None };
    while let Some(frame) = timeout_at(deadline, body.frame()).await.map_err(|_| BodyError::Slow)? {
        let frame = frame.map_err(|error| BodyError::Broken(error.to_string()))?;
        let Ok(data) = frame.into_data() else { continue };
        let bytes = taken.bytes.len() + data.len();
        if bytes > bytes_max {
            return Err(BodyError::TooLarge);
        }
        taken.make_room(bytes, deadline).await?;
        taken.bytes.extend_from_slice(&data);
    }
    Ok(taken)
}

/// The query, decoded. A key given twice counts as its first value.
pub(crate) struct Params(Vec<(String, String)>);

impl Params {
    pub fn text(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// A height, when given.
    pub fn height(&self, key: &'static str) -> Result<Option<Height>, Refusal> {
        self.text(key).map(|text| height(key, text)).transpose()
    }

    /// `limit`, 1 to `max`.
    pub fn limit(&self, default: usize, max: usize) -> Result<usize, Refusal> {
        let Some(text) = self.text("limit") else { return Ok(default) };
        decimal(text)
            .and_then(|limit| usize::try_from(limit).ok())
            .filter(|limit| (1..=max).contains(limit))
            .ok_or_else(|| Refusal::bad("BAD_REQUEST", format!("limit: must be an integer from 1 to {max}")))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(Query::try_from_uri(&parts.uri).map(|Query(pairs)| pairs).unwrap_or_default()))
    }
}

/// The one path parameter of a route; empty when it is not UTF-8, which no parameter may be.
pub(crate) struct Param(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Param {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        Ok(Self(Path::from_request_parts(parts, state).await.map(|Path(text)| text).unwrap_or_default()))
    }
}

/// A height; no chain gets above [`HEIGHT_MAX`].
pub(crate) fn height(field: &str, text: &str) -> Result<Height, Refusal> {
    decimal(text).filter(|height| *height <= HEIGHT_MAX).map(Height).ok_or_else(|| {
        Refusal::bad("BAD_HEIGHT", format!("{field}: must be a decimal integer from 0 to {HEIGHT_MAX}"))
    })
}

/// 32 bytes as 0x and 64 hex digits.
pub(crate) fn hash(field: &str, text: &str) -> Result<Digest, Refusal> {
    text.strip_prefix("0x")
        .filter(|digits| digits.len() == 64)
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| Refusal::bad("BAD_HASH", format!("{field}: must be 0x and 64 hex digits")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use futures::stream::{self, StreamExt as _};

    /// A body of so many bytes that says nothing of its length.
    fn body(bytes: usize) -> Body {
        let piece =
            move |at: usize| Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; (bytes - at).min(10_000)]));
        Body::from_stream(stream::iter((0..bytes).step_by(10_000).map(piece)))
    }

    #[tokio::test]
    async fn large_bodies_wait_for_room_and_small_ones_do_not() {
        let mut held = Vec::new();
        for _ in 0..BODIES_BYTES_MAX / BODY_BYTES_MAX {
            held.push(read_body(body(BODY_BYTES_MAX)).await.unwrap());
        }
        assert_eq!(read_body(body(BODY_BYTES_FREE)).await.unwrap().len(), BODY_BYTES_FREE);
        let mut waiting = std::pin::pin!(read_body(body(BODY_BYTES_MAX)));
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        held.pop();
        assert_eq!(waiting.await.unwrap().len(), BODY_BYTES_MAX);
        assert_eq!(read_body(body(BODY_BYTES_MAX + 1)).await.unwrap_err(), BodyError::TooLarge);
        drop(held);
        // As many as may be connected, each with a little more than is free.
        let slow = (0..1024).map(|_| {
            let piece = Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; BODY_BYTES_FREE + 1]));
            Box::pin(read_body(Body::from_stream(stream::iter([piece]).chain(stream::pending()))))
        });
        let mut slow: Vec<_> = slow.collect();
        for body in &mut slow {
            assert!(futures::poll!(body.as_mut()).is_pending());
        }
        assert_eq!(read_body(body(BODY_BYTES_MAX)).await.unwrap().len(), BODY_BYTES_MAX);
    }
}
