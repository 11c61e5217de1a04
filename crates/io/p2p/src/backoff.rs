//! How long to wait before trying again.

use std::time::Duration;

/// Doubling delays between two bounds, jittered so that nodes started together do not dial together.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    least: Duration,
    most: Duration,
    failures: u32,
}

impl Backoff {
    /// For members: a restarted one is back within moments.
    pub fn eager() -> Self {
        Self { least: Duration::from_millis(100), most: Duration::from_secs(2), failures: 0 }
    }

    /// For bootnodes, which owe us nothing.
    pub fn patient() -> Self {
        Self { least: Duration::from_secs(1), most: Duration::from_secs(60), failures: 0 }
    }

    /// The delay after one more failure: between three quarters of the step and the step.
    pub fn next_delay(&mut self) -> Duration {
        let step = self.least.saturating_mul(1 << self.failures.min(16)).min(self.most);
        self.failures = self.failures.saturating_add(1);
        step.mul_f64(rand::random_range(0.75..=1.0)).max(self.least)
    }

    /// It worked.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_their_bound_and_start_over_after_success() {
        let mut backoff = Backoff::patient();
        let delays: Vec<_> = (0..100).map(|_| backoff.next_delay()).collect();
        assert_eq!(delays[0], Duration::from_secs(1));
        assert!(delays.iter().all(|delay| (1.0..=60.0).contains(&delay.as_secs_f64())));
        assert!(delays[10..].iter().all(|delay| *delay >= Duration::from_secs(45)));
        backoff.reset();
        assert_eq!(backoff.next_delay(), Duration::from_secs(1));
    }
}
