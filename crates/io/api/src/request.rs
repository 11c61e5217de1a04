//! Reading requests: bodies, queries, path parameters.

use crate::activity::BYTES_PER_S_MIN;
use crate::app::App;
use crate::backend::Backend;
use crate::budget::{BODY_PLACE_BYTES, Permit};
use crate::clients::Client;
use crate::door::Door;
use crate::observe::Arrival;
use crate::reply::{Refusal, internal};
use aequa_types::json::decimal;
use aequa_types::limits::HEIGHT_MAX;
use aequa_types::{Digest, Height, Slot};
use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use std::convert::Infallible;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// Largest request body on `/v1/*`: the largest transaction envelope.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// Longest time a body may take: 1 MiB at 70 kB/s.
pub const BODY_TIME_MAX: Duration = Duration::from_secs(15);
/// Bytes of a body that need no place: what wallets and validator clients send, 16 MiB for all connections.
pub const BODY_BYTES_FREE: usize = 16 * 1024;

/// Why a body did not arrive.
#[derive(Debug)]
pub(crate) enum BodyError {
    TooLarge,
    Slow,
    /// There was no place for it.
    Refused(Refusal),
    Broken(String),
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BodyError::TooLarge => write!(f, "body exceeds {BODY_BYTES_MAX} bytes"),
            BodyError::Slow => {
                let seconds = BODY_TIME_MAX.as_secs();
                write!(f, "body did not arrive within {seconds} s, or at less than {BYTES_PER_S_MIN} bytes/s")
            }
            BodyError::Refused(refusal) => f.write_str(&refusal.message),
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
            BodyError::Refused(refusal) => refusal,
            BodyError::Broken(_) => Refusal::bad("READ_ERROR", message),
        }
    }
}

impl IntoResponse for BodyError {
    fn into_response(self) -> Response {
        Refusal::from(self).into_response()
    }
}

/// A body that arrived whole, within [`BODY_BYTES_MAX`] and [`BODY_TIME_MAX`], and the places it takes.
#[derive(Debug)]
pub(crate) struct Taken {
    bytes: Vec<u8>,
    _places: Vec<Permit>,
}

impl Deref for Taken {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl<B: Backend> FromRequest<Arc<App<B>>> for Taken {
    type Rejection = BodyError;

    async fn from_request(request: Request, app: &Arc<App<B>>) -> Result<Self, BodyError> {
        let extensions = request.extensions();
        let (Some(arrival), Some(client)) = (extensions.get::<Arrival>(), extensions.get::<Client>()) else {
            return Err(BodyError::Refused(internal("a request came through no listener")));
        };
        let (place, client) = (Arc::clone(&arrival.place), *client);
        let taking = take_body(request.into_body(), &app.door, client, Instant::now() + BODY_TIME_MAX);
        place.too_slow.run_until_cancelled(taking).await.unwrap_or(Err(BodyError::Slow))
    }
}

async fn take_body(
    mut body: Body,
    door: &Door,
    client: Client,
    deadline: Instant,
) -> Result<Taken, BodyError> {
    let declared = body.size_hint().upper().and_then(|bytes| usize::try_from(bytes).ok());
    let bytes_max = declared.unwrap_or(BODY_BYTES_MAX).min(BODY_BYTES_MAX);
    let (mut bytes, mut places) = (Vec::new(), Vec::new());
    while let Some(frame) = timeout_at(deadline, body.frame()).await.map_err(|_| BodyError::Slow)? {
        let frame = frame.map_err(|error| BodyError::Broken(error.to_string()))?;
        let Ok(data) = frame.into_data() else { continue };
        let arrived = bytes.len() + data.len();
        if arrived > bytes_max {
            return Err(BodyError::TooLarge);
        }
        // Only what has arrived takes places, so that no slow client holds those of others.
        while BODY_BYTES_FREE + places.len() * BODY_PLACE_BYTES < arrived {
            let patience = deadline.saturating_duration_since(Instant::now());
            let place = door.take_within(&door.budgets.bodies, client, 1, patience).await;
            places.push(place.map_err(BodyError::Refused)?);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Taken { bytes, _places: places })
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

    /// A slot, when given; as large as a height may be.
    pub fn slot(&self, key: &'static str) -> Result<Option<Slot>, Refusal> {
        Ok(self.height(key)?.map(|number| Slot(number.0)))
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
    use crate::backend::Options;
    use crate::clients::X_FORWARDED_FOR;
    use crate::guard::Guard;
    use aequa_telemetry::Metrics;
    use aequa_telemetry::metrics::Format;
    use bytes::Bytes;
    use futures::FutureExt as _;
    use futures::stream::{self, StreamExt as _};
    use http::HeaderMap;
    use std::net::Ipv4Addr;

    fn door() -> Arc<Door> {
        Door::new("api", Arc::new(Metrics::new()), Guard::new(&[]), &Options::default())
    }

    /// A client behind a proxy on this machine.
    fn client(n: u32) -> Client {
        let mut headers = HeaderMap::new();
        let address = Ipv4Addr::from_bits(n + (10 << 24)).to_string();
        headers.insert(X_FORWARDED_FOR, address.parse().unwrap());
        door().clients.asking(Ipv4Addr::LOCALHOST.into(), &headers)
    }

    /// A body of so many bytes that says nothing of its length.
    fn body(bytes: usize) -> Body {
        let piece =
            move |at: usize| Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; (bytes - at).min(10_000)]));
        Body::from_stream(stream::iter((0..bytes).step_by(10_000).map(piece)))
    }

    /// A body whose end does not come.
    fn endless(bytes: usize) -> Body {
        let piece = Ok::<_, std::io::Error>(Bytes::from(vec![b'x'; bytes]));
        Body::from_stream(stream::iter([piece]).chain(stream::pending()))
    }

    async fn read(door: &Door, n: u32, body: Body) -> Result<Taken, BodyError> {
        take_body(body, door, client(n), Instant::now() + BODY_TIME_MAX).await
    }

    /// Largest bodies of one client, as many as find room at once.
    fn large_bodies(door: &Door, n: u32) -> Vec<Taken> {
        let read = || read(door, n, body(BODY_BYTES_MAX)).now_or_never();
        std::iter::from_fn(read).collect::<Result<_, _>>().unwrap()
    }

    #[tokio::test]
    async fn large_bodies_of_a_client_wait_for_its_own_and_not_for_those_of_others() {
        let door = door();
        let mut held = large_bodies(&door, 1);
        assert_eq!(held.len(), 8);
        assert_eq!(read(&door, 1, body(BODY_BYTES_FREE)).await.unwrap().len(), BODY_BYTES_FREE);
        assert_eq!(read(&door, 2, body(BODY_BYTES_MAX)).await.unwrap().len(), BODY_BYTES_MAX);
        let mut waiting = std::pin::pin!(read(&door, 1, body(BODY_BYTES_MAX)));
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        held.pop();
        assert_eq!(waiting.await.unwrap().len(), BODY_BYTES_MAX);
        assert!(matches!(read(&door, 2, body(BODY_BYTES_MAX + 1)).await, Err(BodyError::TooLarge)));
    }

    #[tokio::test]
    async fn slow_bodies_hold_no_more_room_than_they_fill() {
        let door = door();
        // As many as may be connected, each with a little more than is free.
        let slow = (0..1024).map(|n| Box::pin(read(&door, n, endless(BODY_BYTES_FREE + 1))));
        let mut slow: Vec<_> = slow.collect();
        for body in &mut slow {
            assert!(futures::poll!(body.as_mut()).is_pending());
        }
        assert_eq!(read(&door, 0, body(BODY_BYTES_MAX)).await.unwrap().len(), BODY_BYTES_MAX);
    }

    #[tokio::test]
    async fn a_large_body_that_finds_no_room_is_refused_by_name_and_counted() {
        let door = door();
        let held: Vec<_> = (0..5).flat_map(|n| large_bodies(&door, n)).collect();
        assert_eq!(held.len() * BODY_BYTES_MAX, 24 << 20, "a quarter is left for this machine");
        let late = take_body(body(BODY_BYTES_MAX), &door, client(9), Instant::now()).await;
        let refused = Refusal::from(late.unwrap_err());
        assert_eq!((refused.status, refused.code), (StatusCode::SERVICE_UNAVAILABLE, "TOO_MANY_BODIES"));
        let counted = r#"api_turned_away_total{reason="bodies",service="api"} 1"#;
        assert!(door.metrics.render(Format::Text).contains(counted));
    }
}
