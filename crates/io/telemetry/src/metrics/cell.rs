//! The values behind a series: one or a few atomics each, never a lock.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Upper bounds of histogram buckets in seconds (contract: metrics, section 5).
pub const BUCKETS_SECONDS: [f64; 13] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// The same bounds in milliseconds.
pub const BUCKETS_MS: [f64; 13] =
    [1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10_000.0];

/// What a family stores per series. A cell nobody wrote to stays out of the exposition.
pub trait Cell: Default + Send + Sync + 'static {
    /// Whether the series was used.
    fn used(&self) -> bool;
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct CounterCell(AtomicU64);

impl CounterCell {
    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `amount`.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Relaxed);
    }

    /// The sum so far.
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Cell for CounterCell {
    fn used(&self) -> bool {
        self.value() > 0
    }
}

/// A number that goes up and down; NaN until the first write.
#[derive(Debug)]
pub struct GaugeCell(AtomicU64);

impl Default for GaugeCell {
    fn default() -> Self {
        Self(AtomicU64::new(f64::NAN.to_bits()))
    }
}

impl GaugeCell {
    /// Sets the value.
    pub fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Relaxed);
    }

    /// Adds `amount`, which may be negative; an unused gauge starts at 0.
    pub fn add(&self, amount: f64) {
        update(&self.0, |old| if old.is_nan() { amount } else { old + amount });
    }

    /// The present value; NaN when never written.
    pub fn value(&self) -> f64 {
        f64::from_bits(self.0.load(Relaxed))
    }
}

impl Cell for GaugeCell {
    fn used(&self) -> bool {
        !self.value().is_nan()
    }
}

/// Sum and count of observations.
#[derive(Debug, Default)]
pub struct SummaryCell {
    sum: AtomicU64,
    count: AtomicU64,
}

impl SummaryCell {
    /// Takes one observation; anything but a finite number is ignored.
    pub fn observe(&self, value: f64) {
        if value.is_finite() {
            update(&self.sum, |sum| sum + value);
            self.count.fetch_add(1, Relaxed);
        }
    }

    /// Sum of the observations.
    pub fn sum(&self) -> f64 {
        f64::from_bits(self.sum.load(Relaxed))
    }

    /// Number of observations.
    pub fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }
}

impl Cell for SummaryCell {
    fn used(&self) -> bool {
        self.count() > 0
    }
}

/// A summary with a count per bucket. The family decides the bounds, by its unit.
#[derive(Debug, Default)]
pub struct HistogramCell {
    summary: SummaryCell,
    buckets: [AtomicU64; BUCKETS_SECONDS.len()],
}

impl HistogramCell {
    /// Takes one observation against `bounds`.
    pub fn observe(&self, bounds: &[f64; BUCKETS_SECONDS.len()], value: f64) {
        if !value.is_finite() {
            return;
        }
        if let Some(bucket) = bounds.iter().position(|bound| value <= *bound) {
            self.buckets[bucket].fetch_add(1, Relaxed);
        }
        self.summary.observe(value);
    }

    /// Observations at or below each bound, cumulative.
    pub fn cumulative(&self) -> [u64; BUCKETS_SECONDS.len()] {
        let mut total = 0;
        std::array::from_fn(|bucket| {
            total += self.buckets[bucket].load(Relaxed);
            total
        })
    }

    /// Sum and count.
    pub fn summary(&self) -> &SummaryCell {
        &self.summary
    }
}

impl Cell for HistogramCell {
    fn used(&self) -> bool {
        self.summary.used()
    }
}

fn update(bits: &AtomicU64, change: impl Fn(f64) -> f64) {
    let mut old = bits.load(Relaxed);
    loop {
        let new = change(f64::from_bits(old)).to_bits();
        match bits.compare_exchange_weak(old, new, Relaxed, Relaxed) {
            Ok(_) => return,
            Err(seen) => old = seen,
        }
    }
}
