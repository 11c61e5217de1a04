//! The metric registry and its exposition.
//!
//! | module | what it is |
//! |---|---|
//! | `registry` | every family, declared once |
//! | `family` | series of a family by label values |
//! | `cell` | the atomics behind a series |
//! | `exposition` | how all of it is written out |

mod cell;
mod exposition;
mod family;
mod registry;

pub use cell::{BUCKETS_MS, BUCKETS_SECONDS, Cell, CounterCell, GaugeCell, HistogramCell, SummaryCell};
pub use exposition::Format;
pub use family::{Counter, Family, Gauge, Histogram, Info, Kind, Label, SERIES_MAX, Summary};
pub use registry::Metrics;

use std::time::Instant;

/// Milliseconds since `start`, with their fraction.
pub fn elapsed_ms(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1000.0
}
