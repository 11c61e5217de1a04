//! Requests per second and address, those that do the work of many for as many.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Most addresses remembered; beyond it those at rest are forgotten, and while there are none, new ones wait.
const ADDRESSES_MAX: usize = 4096;

/// A token bucket per address holding one second's worth.
#[derive(Debug)]
pub(crate) struct RateLimiter {
    per_second: f64,
    buckets: Mutex<HashMap<IpAddr, Bucket>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl RateLimiter {
    /// A limiter, or none for 0.
    pub fn new(per_second: u32) -> Option<Self> {
        (per_second > 0).then(|| Self { per_second: per_second.into(), buckets: Mutex::default() })
    }

    /// Takes a token; an error says how long until there is one.
    pub fn admit(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let mut buckets = self.buckets.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if buckets.len() >= ADDRESSES_MAX && !buckets.contains_key(&address) {
            buckets.retain(|_, bucket| self.filled(bucket, now).tokens < self.per_second);
            if buckets.len() >= ADDRESSES_MAX {
                return Err(Duration::from_secs(1));
            }
        }
        let bucket = buckets.entry(address).or_insert(Bucket { tokens: self.per_second, at: now });
        *bucket = self.filled(bucket, now);
        if bucket.tokens < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - bucket.tokens) / self.per_second));
        }
        bucket.tokens -= 1.0;
        Ok(())
    }

    /// Takes more tokens for a request that was admitted and does the work of many. Who has fewer owes them, and
    /// waits until they are there.
    pub fn charge(&self, address: IpAddr, tokens: usize, now: Instant) {
        let mut buckets = self.buckets.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(bucket) = buckets.get_mut(&address) {
            *bucket = self.filled(bucket, now);
            bucket.tokens -= tokens as f64;
        }
    }

    fn filled(&self, bucket: &Bucket, now: Instant) -> Bucket {
        let gained = now.saturating_duration_since(bucket.at).as_secs_f64() * self.per_second;
        Bucket { tokens: (bucket.tokens + gained).min(self.per_second), at: now }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_gets_its_rate_and_recovers() {
        let limiter = RateLimiter::new(3).unwrap();
        let (now, address) = (Instant::now(), IpAddr::from([127, 0, 0, 1]));
        for _ in 0..3 {
            assert_eq!(limiter.admit(address, now), Ok(()));
        }
        let wait = limiter.admit(address, now).unwrap_err();
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(1));
        assert_eq!(limiter.admit(IpAddr::from([127, 0, 0, 2]), now), Ok(()));
        assert_eq!(limiter.admit(address, now + Duration::from_secs(1)), Ok(()));
        assert!(RateLimiter::new(0).is_none());
    }

    #[test]
    fn a_request_that_does_the_work_of_many_is_paid_before_the_next() {
        let limiter = RateLimiter::new(10).unwrap();
        let (now, address) = (Instant::now(), IpAddr::from([127, 0, 0, 1]));
        assert_eq!(limiter.admit(address, now), Ok(()));
        limiter.charge(address, 999, now);
        let wait = limiter.admit(address, now).unwrap_err();
        assert_eq!(wait.as_secs(), 99, "a thousand at ten per second, less what was there");
        assert!(limiter.admit(address, now + Duration::from_secs(98)).is_err());
        assert_eq!(limiter.admit(address, now + Duration::from_secs(100)), Ok(()));
    }

    #[test]
    fn memory_stays_bounded_under_a_flood_of_addresses() {
        let limiter = RateLimiter::new(1).unwrap();
        let now = Instant::now();
        for address in 0..2 * ADDRESSES_MAX as u32 {
            let _ = limiter.admit(IpAddr::from(address.to_be_bytes()), now);
        }
        assert!(limiter.buckets.lock().unwrap().len() <= ADDRESSES_MAX);
    }
}
