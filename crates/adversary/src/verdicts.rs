//! What the nodes' verifiers said, read from their metrics.

use std::collections::BTreeMap;
use std::time::Duration;

/// Longest wait for an answer; a node under attack is slow.
const PATIENCE: Duration = Duration::from_secs(10);
/// Families looked at.
const FAMILIES: [&str; 2] = ["qbft_msg_verified_total", "qbft_verify_results_total"];

/// Counters of one or several nodes, summed: series to value.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Verdicts(BTreeMap<String, f64>);

impl Verdicts {
    /// Reads and adds up the metrics of all nodes that answer.
    pub async fn of(http: &reqwest::Client, monitoring: &[String]) -> Self {
        let mut sum = Self::default();
        for url in monitoring {
            if let Some(text) = scrape(http, url).await {
                sum.add(&Self::parse(&text));
            }
        }
        sum
    }

    /// The series of interest of one exposition.
    pub fn parse(text: &str) -> Self {
        let of_interest = |line: &&str| FAMILIES.iter().any(|family| line.starts_with(family));
        let sample = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            Some((series.to_owned(), value.parse().ok()?))
        };
        Self(text.lines().filter(of_interest).filter_map(sample).collect())
    }

    /// Adds other counters.
    pub fn add(&mut self, other: &Self) {
        for (series, value) in &other.0 {
            *self.0.entry(series.clone()).or_default() += value;
        }
    }

    /// What was counted since `before`; a node that was restarted in between counts as it is.
    pub fn since(&self, before: &Self) -> Self {
        let grown = |(series, value): (&String, &f64)| {
            let more = value - before.0.get(series).copied().unwrap_or_default();
            (more != 0.0).then(|| (series.clone(), if more > 0.0 { more } else { *value }))
        };
        Self(self.0.iter().filter_map(grown).collect())
    }

    /// `qbft_msg_verified_total`: refusals by result, and everything that passed as `passed`.
    pub fn coarse(&self) -> BTreeMap<String, f64> {
        let mut by_result = BTreeMap::new();
        for (series, value) in self.0.iter().filter(|(series, _)| series.starts_with(FAMILIES[0])) {
            let result = label(series, "result").unwrap_or("passed");
            *by_result.entry(result.to_owned()).or_default() += value;
        }
        by_result
    }

    /// `qbft_verify_results_total` as `type/result`, without what passed.
    pub fn fine(&self) -> BTreeMap<String, f64> {
        let refused = self.0.iter().filter(|(series, _)| series.starts_with(FAMILIES[1]));
        let named = refused.filter_map(|(series, value)| {
            let (kind, result) = (label(series, "type")?, label(series, "result")?);
            (result != "ok").then(|| (format!("{kind}/{result}"), *value))
        });
        named.collect()
    }
}

/// The text of `/metrics`; none when the node does not answer.
pub(crate) async fn scrape(http: &reqwest::Client, url: &str) -> Option<String> {
    let answer = http.get(format!("{url}/metrics")).timeout(PATIENCE).send().await.ok()?;
    answer.text().await.ok()
}

fn label<'a>(series: &'a str, key: &str) -> Option<&'a str> {
    series.split_once(&format!("{key}=\""))?.1.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_subtracted_and_grouped() {
        let before = Verdicts::parse("qbft_msg_verified_total{type=\"prepare\"} 4\nother 1\n");
        let text = "# HELP qbft_msg_verified_total x\n\
                    qbft_msg_verified_total{result=\"old\"} 2\n\
                    qbft_msg_verified_total{type=\"commit\"} 1\n\
                    qbft_msg_verified_total{type=\"prepare\"} 9\n\
                    qbft_verify_results_total{result=\"ok\",type=\"prepare\"} 9\n\
                    qbft_verify_results_total{result=\"old\",type=\"commit\"} 2\n";
        let delta = Verdicts::parse(text).since(&before);
        assert_eq!(delta.coarse(), BTreeMap::from([("old".into(), 2.0), ("passed".into(), 6.0)]));
        assert_eq!(delta.fine(), BTreeMap::from([("commit/old".into(), 2.0)]));
    }
}
