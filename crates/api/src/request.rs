//! Reading requests: bodies, queries, path parameters, JSON.

use crate::reply::Refusal;
use aequa_types::limits::HEIGHT_MAX;
use aequa_types::{Digest, Height};
use axum::body::Body;
use axum::extract::{FromRequestParts, Path, Query};
use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

/// Largest request body on `/v1/*`: the largest transaction envelope.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// Longest time a body may take: 1 MiB at 70 kB/s.
pub const BODY_TIME_MAX: Duration = Duration::from_secs(15);
/// Deepest JSON nesting; deeper costs stack and says nothing.
pub const JSON_DEPTH_MAX: usize = 32;

/// Why a body did not arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BodyError {
    TooLarge,
    Slow,
    Broken(String),
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BodyError::TooLarge => write!(f, "body exceeds {BODY_BYTES_MAX} bytes"),
            BodyError::Slow => write!(f, "body did not arrive within {} s", BODY_TIME_MAX.as_secs()),
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
            BodyError::Broken(_) => Refusal::bad("READ_ERROR", message),
        }
    }
}

/// The whole body, within [`BODY_BYTES_MAX`] and [`BODY_TIME_MAX`].
pub(crate) async fn read_body(body: Body) -> Result<Bytes, BodyError> {
    let collect = Limited::new(body, BODY_BYTES_MAX).collect();
    match tokio::time::timeout(BODY_TIME_MAX, collect).await {
        Err(_) => Err(BodyError::Slow),
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge),
        Ok(Err(error)) => Err(BodyError::Broken(error.to_string())),
    }
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
        digits(text)
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

/// A u64 of digits only.
pub(crate) fn digits(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

/// A height; no chain gets above [`HEIGHT_MAX`].
pub(crate) fn height(field: &str, text: &str) -> Result<Height, Refusal> {
    digits(text).filter(|height| *height <= HEIGHT_MAX).map(Height).ok_or_else(|| {
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

/// Reads JSON strictly: no duplicate keys, nothing after the value, at most [`JSON_DEPTH_MAX`] deep.
pub(crate) fn strict_json(bytes: &[u8]) -> Result<Value, String> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { depth: 0 }.deserialize(&mut json).map_err(|error| error.to_string())?;
    json.end().map_err(|error| error.to_string())?;
    Ok(value)
}

/// A value below `depth` arrays and objects.
struct Strict {
    depth: usize,
}

impl Strict {
    fn deeper<E: serde::de::Error>(&self) -> Result<usize, E> {
        if self.depth >= JSON_DEPTH_MAX {
            return Err(E::custom(format_args!("nested deeper than {JSON_DEPTH_MAX} levels")));
        }
        Ok(self.depth + 1)
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let depth = self.deeper()?;
        let mut values = Vec::new();
        while let Some(value) = seq.next_element_seed(Strict { depth })? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let depth = self.deeper()?;
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if object.contains_key(&key) {
                return Err(A::Error::custom("duplicate key"));
            }
            let value = map.next_value_seed(Strict { depth })?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn json_is_strict() {
        assert_eq!(strict_json(br#"{"a":[1,-2,0.5,"x",null,true]}"#).unwrap()["a"][0], 1);
        for bad in [
            r#"{"a":1,"a":1}"#,
            r#"{"x":{"a":1,"a":2}}"#,
            "{} {}",
            "{}x",
            "",
            "{",
            "[1,]",
            "1e999",
            "\u{feff}{}",
        ] {
            assert!(strict_json(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn json_may_be_32_levels_deep_and_not_33() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(strict_json(nested(JSON_DEPTH_MAX).as_bytes()).is_ok());
        assert!(strict_json(nested(JSON_DEPTH_MAX + 1).as_bytes()).is_err());
        assert!(strict_json(nested(100_000).as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn what_strict_json_takes_means_what_serde_json_reads(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(value) = strict_json(&bytes) {
                prop_assert_eq!(value, serde_json::from_slice::<Value>(&bytes).unwrap());
            }
        }

        #[test]
        fn a_number_is_taken_exactly_when_it_is_its_own_decimal_form(text in "[0-9+.eEx -]{0,21}") {
            let expected = text.parse::<u64>().ok().filter(|_| !text.starts_with('+'));
            prop_assert_eq!(digits(&text), expected);
        }
    }
}
