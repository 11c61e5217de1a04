//! A family: one name, one type, fixed label keys, and its series.

use super::cell::{BUCKETS_MS, BUCKETS_SECONDS, Cell, CounterCell, GaugeCell, HistogramCell, SummaryCell};
use parking_lot::RwLock;
use std::sync::Arc;

/// Most series of one family: 20 values for each of two labels (contract: metrics, rule 8), and the
/// cross product of routes and status codes fits too. More is a label that should not be one.
pub const SERIES_MAX: usize = 400;

/// The four types, in the order of the exposition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Sum and count.
    Summary,
    /// Sum, count and buckets.
    Histogram,
}

impl Kind {
    /// Name in `# TYPE`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Summary => "summary",
            Kind::Histogram => "histogram",
        }
    }
}

/// One label key and what it may say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    /// The key.
    pub key: &'static str,
    /// The values known.
    pub values: &'static [&'static str],
    /// Whether further values may be used.
    pub open: bool,
}

/// Declaration of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Info {
    /// Name in the exposition.
    pub name: &'static str,
    /// Type.
    pub kind: Kind,
    /// One line of help.
    pub help: &'static str,
    /// Labels, in the order handles take them.
    pub labels: &'static [Label],
    /// Whether a series carries exactly one of the labels and not all of them.
    pub either: bool,
    /// What will feed it, when nothing does yet.
    pub later: Option<&'static str>,
}

/// The series of one family. `N` is the number of labels.
#[derive(Debug)]
pub struct Family<C, const N: usize> {
    info: &'static Info,
    series: RwLock<Vec<Series<C, N>>>,
}

/// Label values in the order of declaration, and the cell.
type Series<C, const N: usize> = ([Box<str>; N], Arc<C>);

/// A family of counters with `N` labels.
pub type Counter<const N: usize> = Family<CounterCell, N>;
/// A family of gauges with `N` labels.
pub type Gauge<const N: usize> = Family<GaugeCell, N>;
/// A family of summaries with `N` labels.
pub type Summary<const N: usize> = Family<SummaryCell, N>;
/// A family of histograms with `N` labels.
pub type Histogram<const N: usize> = Family<HistogramCell, N>;

impl<C: Cell, const N: usize> Family<C, N> {
    pub(super) fn new(info: &'static Info) -> Self {
        Self { info, series: RwLock::new(Vec::new()) }
    }

    /// The declaration.
    pub fn info(&self) -> &'static Info {
        self.info
    }

    /// The cell of a label set, to be kept where a path is hot. Asking does not make the series
    /// appear; writing to it does.
    ///
    /// A value outside a closed list, or a series beyond [`SERIES_MAX`], gets a cell that nobody
    /// reads: a programming error must not grow the exposition. Debug builds assert instead.
    pub fn with(&self, values: [&str; N]) -> Arc<C> {
        if let Some(cell) = find(&self.series.read(), values) {
            return cell;
        }
        let declared = self.is_declared(values);
        debug_assert!(declared, "{}: undeclared label value in {values:?}", self.info.name);
        let mut series = self.series.write();
        if let Some(cell) = find(&series, values) {
            return cell;
        }
        let cell = Arc::new(C::default());
        if declared && series.len() < SERIES_MAX {
            series.push((values.map(Into::into), Arc::clone(&cell)));
        }
        cell
    }

    /// The series that were used: `key="value"` parts by key, and the cell, ordered by label string.
    pub(super) fn used(&self) -> Vec<(String, Arc<C>)> {
        let mut used: Vec<_> = self
            .series
            .read()
            .iter()
            .filter(|(_, cell)| cell.used())
            .map(|(values, cell)| (self.label_string(values), Arc::clone(cell)))
            .collect();
        used.sort_by(|a, b| a.0.cmp(&b.0));
        used
    }

    fn is_declared(&self, values: [&str; N]) -> bool {
        self.info.labels.iter().zip(values).all(|(label, value)| {
            label.open || label.values.contains(&value) || (self.info.either && value.is_empty())
        })
    }

    fn label_string(&self, values: &[Box<str>; N]) -> String {
        let mut parts: Vec<_> = self
            .info
            .labels
            .iter()
            .zip(values)
            .filter(|(_, value)| !(self.info.either && value.is_empty()))
            .map(|(label, value)| format!("{}=\"{}\"", label.key, escape(value)))
            .collect();
        parts.sort();
        parts.join(",")
    }
}

fn find<C, const N: usize>(series: &[Series<C, N>], values: [&str; N]) -> Option<Arc<C>> {
    series
        .iter()
        .find(|(known, _)| known.iter().zip(values).all(|(known, value)| **known == *value))
        .map(|(_, cell)| Arc::clone(cell))
}

/// Escapes a label value as the text format demands.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

impl<const N: usize> Counter<N> {
    /// Adds one to the series of these label values.
    pub fn inc(&self, values: [&str; N]) {
        self.with(values).inc();
    }

    /// Adds `amount` to the series of these label values.
    pub fn add(&self, values: [&str; N], amount: u64) {
        self.with(values).add(amount);
    }

    /// The sum so far; 0 when the series was never used.
    pub fn value(&self, values: [&str; N]) -> u64 {
        find(&self.series.read(), values).map_or(0, |cell| cell.value())
    }
}

impl<const N: usize> Gauge<N> {
    /// Sets the series of these label values.
    pub fn set(&self, values: [&str; N], value: f64) {
        self.with(values).set(value);
    }

    /// Adds `amount`, which may be negative.
    pub fn add(&self, values: [&str; N], amount: f64) {
        self.with(values).add(amount);
    }

    /// The present value; `None` when never written.
    pub fn value(&self, values: [&str; N]) -> Option<f64> {
        find(&self.series.read(), values).filter(|cell| cell.used()).map(|cell| cell.value())
    }
}

impl<const N: usize> Summary<N> {
    /// Takes one observation, in the unit the name ends with.
    pub fn observe(&self, values: [&str; N], value: f64) {
        self.with(values).observe(value);
    }

    /// Number of observations; 0 when the series was never used.
    pub fn count(&self, values: [&str; N]) -> u64 {
        find(&self.series.read(), values).map_or(0, |cell| cell.count())
    }
}

impl<const N: usize> Histogram<N> {
    /// Takes one observation, in the unit the name ends with.
    pub fn observe(&self, values: [&str; N], value: f64) {
        self.with(values).observe(self.bounds(), value);
    }

    /// Number of observations; 0 when the series was never used.
    pub fn count(&self, values: [&str; N]) -> u64 {
        find(&self.series.read(), values).map_or(0, |cell| cell.summary().count())
    }

    pub(super) fn bounds(&self) -> &'static [f64; BUCKETS_SECONDS.len()] {
        if self.info.name.ends_with("_ms") { &BUCKETS_MS } else { &BUCKETS_SECONDS }
    }
}
