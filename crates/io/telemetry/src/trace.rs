//! Trace ids: what ties the lines and messages of one request together.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

/// Longest trace id in bytes: any common tracing system fits, and a log line stays a line.
pub const TRACE_ID_BYTES_MAX: usize = 128;

/// A trace id that is safe to write anywhere. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TraceId(Arc<str>);

impl TraceId {
    /// Takes an id from outside, if it is 1–128 characters of `[A-Za-z0-9._:-]`.
    pub fn accept(text: &str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'-');
        let fits = (1..=TRACE_ID_BYTES_MAX).contains(&text.len());
        (fits && text.bytes().all(allowed)).then(|| Self(text.into()))
    }

    /// Makes one: unix nanoseconds in decimal, never the same twice in one process.
    pub fn fresh() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let now = u64::try_from(now).unwrap_or(u64::MAX - 1);
        let last = LAST.fetch_update(Relaxed, Relaxed, |last| Some(now.max(last.wrapping_add(1))));
        let id = now.max(last.unwrap_or_default().wrapping_add(1));
        Self(id.to_string().into())
    }

    /// The id from outside when it is acceptable, a fresh one otherwise.
    pub fn accept_or_fresh(text: Option<&str>) -> Self {
        text.and_then(Self::accept).unwrap_or_else(Self::fresh)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_short_plain_ids_are_taken_from_outside() {
        for good in
            ["a", "Zz09._:-", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", &"x".repeat(128)]
        {
            assert_eq!(TraceId::accept(good).unwrap().as_str(), good);
        }
        for bad in ["", "a b", "a\nb", "a\"b", "é", "a/b", &"x".repeat(129)] {
            assert_eq!(TraceId::accept(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn fresh_ids_are_decimal_and_differ() {
        let ids: std::collections::HashSet<_> = (0..1000).map(|_| TraceId::fresh()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.as_str().bytes().all(|byte| byte.is_ascii_digit())));
    }
}
