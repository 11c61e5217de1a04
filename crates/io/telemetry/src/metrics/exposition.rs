//! How the registry is written out (contract: metrics, section 2).

use super::Metrics;
use super::cell::{CounterCell, GaugeCell, HistogramCell, SummaryCell};
use super::family::{Counter, Gauge, Histogram, Info, Kind, Summary};
use std::fmt::Write as _;

/// The two formats a scraper may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text format, the default.
    Text,
    /// OpenMetrics 1.0, only when asked for.
    OpenMetrics,
}

impl Format {
    /// Picks the format for an `Accept` header: OpenMetrics when it is named and not less wanted than
    /// plain text.
    pub fn negotiate(accept: Option<&str>) -> Self {
        let weight = |wanted: &str| {
            accept.unwrap_or_default().split(',').filter_map(|range| quality(range, wanted)).fold(None, max)
        };
        match (weight("application/openmetrics-text"), weight("text/plain")) {
            (Some(open), text) if open > 0.0 && text.is_none_or(|text| open >= text) => Self::OpenMetrics,
            _ => Self::Text,
        }
    }

    /// Value of `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

fn max(best: Option<f32>, next: f32) -> Option<f32> {
    Some(best.map_or(next, |best| best.max(next)))
}

/// The weight of `wanted` in one media range of an `Accept` header.
fn quality(range: &str, wanted: &str) -> Option<f32> {
    let mut parts = range.split(';').map(str::trim);
    if !parts.next()?.eq_ignore_ascii_case(wanted) {
        return None;
    }
    let q = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
    Some(q.map_or(1.0, |q| q.parse().unwrap_or(0.0)))
}

impl Metrics {
    /// The exposition: counters, gauges, summaries, histograms; each by name, then by label string.
    /// A family appears with its first series.
    pub fn render(&self, format: Format) -> String {
        let mut families = self.families();
        families.sort_by_key(|family| (family.info().kind, family.info().name));
        let mut out = String::with_capacity(16 * 1024);
        for family in families {
            family.render(&mut out, format);
        }
        if format == Format::OpenMetrics {
            out.push_str("# EOF\n");
        }
        out
    }

    /// `family type label,keys` of every family, sorted: what the golden file holds.
    pub fn declarations(&self) -> Vec<String> {
        let mut lines: Vec<_> = self
            .families()
            .iter()
            .map(|family| {
                let info = family.info();
                let mut keys: Vec<_> = info.labels.iter().map(|label| label.key).collect();
                keys.sort_unstable();
                let keys = keys.join(if info.either { "|" } else { "," });
                format!("{} {} {keys}", info.name, info.kind.name()).trim_end().to_owned()
            })
            .collect();
        lines.sort();
        lines
    }

    /// Every declaration, in the order of the registry file.
    pub fn infos(&self) -> Vec<&'static Info> {
        self.families().iter().map(|family| family.info()).collect()
    }

    /// The families that have at least one series.
    pub fn moved(&self) -> Vec<&'static str> {
        let mut text = String::new();
        let mut moved = Vec::new();
        for family in self.families() {
            text.clear();
            family.render(&mut text, Format::Text);
            if !text.is_empty() {
                moved.push(family.info().name);
            }
        }
        moved
    }
}

/// A family that can write itself out.
pub trait Rendered: Sync {
    /// The declaration.
    fn info(&self) -> &'static Info;
    /// Appends HELP, TYPE and the used series; nothing when there are none.
    fn render(&self, out: &mut String, format: Format);
}

fn render_series<C>(
    out: &mut String,
    info: &Info,
    format: Format,
    series: Vec<(String, std::sync::Arc<C>)>,
    mut one: impl FnMut(&mut String, &str, &C),
) {
    if series.is_empty() {
        return;
    }
    // OpenMetrics names a counter family without the suffix of its samples.
    let name = match (format, info.kind) {
        (Format::OpenMetrics, Kind::Counter) => info.name.strip_suffix("_total").unwrap_or(info.name),
        _ => info.name,
    };
    let _ = writeln!(out, "# HELP {name} {}", info.help.replace('\\', "\\\\").replace('\n', "\\n"));
    let _ = writeln!(out, "# TYPE {name} {}", info.kind.name());
    for (labels, cell) in series {
        one(out, &labels, &cell);
    }
}

/// One sample line; `labels` are the inner parts without braces.
fn sample(out: &mut String, name: &str, suffix: &str, labels: &str, value: impl std::fmt::Display) {
    let _ = if labels.is_empty() {
        writeln!(out, "{name}{suffix} {value}")
    } else {
        writeln!(out, "{name}{suffix}{{{labels}}} {value}")
    };
}

impl<const N: usize> Rendered for Counter<N> {
    fn info(&self) -> &'static Info {
        self.info()
    }

    fn render(&self, out: &mut String, format: Format) {
        render_series(out, self.info(), format, self.used(), |out, labels, cell: &CounterCell| {
            sample(out, self.info().name, "", labels, cell.value());
        });
    }
}

impl<const N: usize> Rendered for Gauge<N> {
    fn info(&self) -> &'static Info {
        self.info()
    }

    fn render(&self, out: &mut String, format: Format) {
        render_series(out, self.info(), format, self.used(), |out, labels, cell: &GaugeCell| {
            sample(out, self.info().name, "", labels, cell.value());
        });
    }
}

impl<const N: usize> Rendered for Summary<N> {
    fn info(&self) -> &'static Info {
        self.info()
    }

    fn render(&self, out: &mut String, format: Format) {
        render_series(out, self.info(), format, self.used(), |out, labels, cell: &SummaryCell| {
            sample(out, self.info().name, "_sum", labels, cell.sum());
            sample(out, self.info().name, "_count", labels, cell.count());
        });
    }
}

impl<const N: usize> Rendered for Histogram<N> {
    fn info(&self) -> &'static Info {
        self.info()
    }

    fn render(&self, out: &mut String, format: Format) {
        render_series(out, self.info(), format, self.used(), |out, labels, cell: &HistogramCell| {
            let name = self.info().name;
            let comma = if labels.is_empty() { "" } else { "," };
            // The count is read first: a bucket must never exceed it.
            let count = cell.summary().count();
            for (bound, seen) in self.bounds().iter().zip(cell.cumulative()) {
                sample(out, name, "_bucket", &format!("{labels}{comma}le=\"{bound}\""), seen.min(count));
            }
            sample(out, name, "_bucket", &format!("{labels}{comma}le=\"+Inf\""), count);
            sample(out, name, "_sum", labels, cell.summary().sum());
            sample(out, name, "_count", labels, count);
        });
    }
}
