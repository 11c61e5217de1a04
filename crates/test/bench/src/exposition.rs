//! Metrics of a node as it tells them, and what was counted between two looks.

use std::collections::BTreeMap;

/// Series and their values.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Exposition(BTreeMap<String, f64>);

impl Exposition {
    /// Reads the text form. Lines that are no sample are none of ours.
    pub fn parse(text: &str) -> Self {
        let sample = |line: &str| {
            let (series, value) = line.rsplit_once(' ').filter(|_| !line.starts_with('#'))?;
            Some((series.to_owned(), value.parse().ok()?))
        };
        Self(text.lines().filter_map(sample).collect())
    }

    /// What was counted since `before`.
    pub fn since(&self, before: &Self) -> Self {
        let grown = |(series, value): (&String, &f64)| {
            (series.clone(), value - before.0.get(series).copied().unwrap_or_default())
        };
        Self(self.0.iter().map(grown).collect())
    }

    /// Several nodes as one.
    pub fn sum<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut sum = Self::default();
        for (series, value) in all.into_iter().flat_map(|one| &one.0) {
            *sum.0.entry(series.clone()).or_default() += value;
        }
        sum
    }

    /// All series of a family that have this label, summed; an empty label is on all of them.
    pub fn total(&self, family: &str, label: &str) -> f64 {
        self.series(family).filter(|(labels, _)| labels.contains(label)).map(|(_, value)| value).sum()
    }

    /// Mean of what a summary or a histogram saw.
    pub fn mean(&self, family: &str) -> Option<f64> {
        let mean = self.total(&format!("{family}_sum"), "") / self.total(&format!("{family}_count"), "");
        mean.is_finite().then_some(mean)
    }

    /// The value below which this part of what a histogram saw lies, as if it lay evenly within its bucket.
    pub fn quantile(&self, family: &str, part: f64) -> Option<f64> {
        let mut buckets: Vec<(f64, f64)> = self
            .series(&format!("{family}_bucket"))
            .filter_map(|(le, seen)| Some((bound(le)?, seen)))
            .collect();
        buckets.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        let wanted = buckets.last().map(|(_, all)| all * part).filter(|wanted| *wanted > 0.0)?;
        let at = buckets.iter().position(|(_, seen)| *seen >= wanted)?;
        let (upper, seen) = buckets[at];
        let (lower, before) = if at == 0 { (0.0, 0.0) } else { buckets[at - 1] };
        // Beyond the last bound nothing is known but that it is beyond.
        let within =
            if upper.is_finite() { (upper - lower) * (wanted - before) / (seen - before) } else { 0.0 };
        Some(lower + within)
    }

    /// Labels and value of each series of exactly this name.
    fn series(&self, name: &str) -> impl Iterator<Item = (&str, f64)> {
        self.0.iter().filter_map(move |(series, value)| {
            let rest = series.strip_prefix(name)?;
            (rest.is_empty() || rest.starts_with('{')).then_some((rest, *value))
        })
    }
}

/// Upper bound of a bucket.
fn bound(labels: &str) -> Option<f64> {
    labels.split_once("le=\"")?.1.split('"').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(seen: [u32; 3]) -> Exposition {
        let [one, two, all] = seen;
        Exposition::parse(&format!(
            "# TYPE h histogram\nh_bucket{{le=\"1\"}} {one}\nh_bucket{{le=\"2.5\"}} {two}\n\
             h_bucket{{le=\"+Inf\"}} {all}\nh_sum 30\nh_count {all}\n"
        ))
    }

    #[test]
    fn totals_are_of_one_family_and_one_label() {
        let text = "sent{direction=\"rx\"} 5\nsent{direction=\"tx\",topic=\"a\"} 7\n\
                    sent{direction=\"tx\",topic=\"b\"} 1\nsent_more 9\n";
        let node = Exposition::parse(text);
        assert_eq!(node.total("sent", "direction=\"tx\""), 8.0);
        assert_eq!(node.total("sent", ""), 13.0);
        assert_eq!(Exposition::sum([&node, &node]).total("sent_more", ""), 18.0);
        assert_eq!(node.since(&node).total("sent", ""), 0.0);
        assert_eq!(node.since(&Exposition::default()), node, "what was not there counts from 0");
    }

    #[test]
    fn a_quantile_lies_within_its_bucket() {
        let seen = histogram([10, 20, 20]);
        assert_eq!(seen.quantile("h", 0.25), Some(0.5));
        assert_eq!(seen.quantile("h", 0.5), Some(1.0));
        assert_eq!(seen.quantile("h", 0.75), Some(1.75));
        assert_eq!(seen.mean("h"), Some(1.5));
    }

    #[test]
    fn beyond_the_last_bound_only_the_bound_is_known_and_of_nothing_nothing() {
        assert_eq!(histogram([0, 0, 4]).quantile("h", 0.99), Some(2.5));
        assert_eq!(histogram([0, 0, 0]).quantile("h", 0.5), None);
        assert_eq!(Exposition::default().quantile("h", 0.5), None);
        assert_eq!(Exposition::default().mean("h"), None);
    }
}
