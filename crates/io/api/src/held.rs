//! A body that keeps something until it is sent or given up.

use axum::body::Body;
use bytes::Bytes;
use http_body::Body as HttpBody;
use http_body_util::BodyExt as _;

/// The same body; `held` is dropped with it: a place, a mark that a connection is busy.
pub(crate) fn holding<T>(body: Body, held: T) -> impl HttpBody<Data = Bytes, Error = axum::Error> {
    body.map_err(move |error| {
        let _held = &held;
        error
    })
}
