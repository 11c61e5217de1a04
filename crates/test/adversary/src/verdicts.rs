//! What the nodes' verifiers said, read from their metrics.

use std::collections::BTreeMap;
use std::time::Duration;

/// Longest wait for an answer; a node under attack is slow.
const PATIENCE: Duration = Duration::from_secs(10);
/// Families looked at.
const FAMILIES: [&str; 2] = ["qbft_msg_verified_total", "qbft_verify_results_total"];

/// What the verifiers of all nodes had counted at one moment, node by node; none where one did not answer.
#[derive(Debug, Clone, Default)]
pub struct Look(Vec<Option<Verdicts>>);

impl Look {
    /// Reads the metrics of all nodes.
    pub async fn at(http: &reqwest::Client, monitoring: &[String]) -> Self {
        let nodes = monitoring.iter().map(|url| scrape(http, url));
        let texts = futures::future::join_all(nodes).await;
        Self(texts.into_iter().map(|text| text.map(|text| Verdicts::parse(&text))).collect())
    }

    /// What was counted since `before` by the nodes that answered both times, summed.
    pub fn since(&self, before: &Self) -> Verdicts {
        let mut sum = Verdicts::default();
        for pair in self.0.iter().zip(&before.0) {
            if let (Some(now), Some(before)) = pair {
                sum.add(&now.since(before));
            }
        }
        sum
    }
}

/// Counters of one or several nodes, summed: series to value.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Verdicts(BTreeMap<String, f64>);

impl Verdicts {
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

    /// What one node counted since `before`; one that was restarted in between counts as it is.
    fn since(&self, before: &Self) -> Self {
        let grown = |(series, value): (&String, &f64)| {
            let more = value - before.0.get(series).copied().unwrap_or_default();
            (more != 0.0).then(|| (series.clone(), if more > 0.0 { more } else { *value }))
        };
        Self(self.0.iter().filter_map(grown).collect())
    }

    /// Everything counted with this result, in whichever family names it: refusals only.
    pub fn refused(&self, result: &str) -> f64 {
        let of_result = |series: &str| label(series, "result") == Some(result);
        let by_family = FAMILIES.map(|family| -> f64 {
            let counted = self.0.iter().filter(|(series, _)| series.starts_with(family) && of_result(series));
            counted.map(|(_, value)| value).sum()
        });
        // The finer family has words of its own and shares some with the other.
        by_family.into_iter().fold(0.0, f64::max)
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

    #[test]
    fn a_refusal_is_found_by_the_word_of_either_family_and_counted_once() {
        let text = "qbft_msg_verified_total{result=\"replay\"} 3\n\
                    qbft_msg_verified_total{result=\"error\"} 5\n\
                    qbft_verify_results_total{result=\"replay\",type=\"prepare\"} 3\n\
                    qbft_verify_results_total{result=\"bad_justification\",type=\"new_view\"} 4\n\
                    qbft_verify_results_total{result=\"bad_justification\",type=\"view_change\"} 1\n";
        let verdicts = Verdicts::parse(text);
        let refused = ["replay", "bad_justification", "round_oob"].map(|result| verdicts.refused(result));
        assert_eq!(refused, [3.0, 5.0, 0.0]);
    }

    #[test]
    fn a_node_that_does_not_answer_adds_nothing() {
        let node =
            |old: u32| Some(Verdicts::parse(&format!("qbft_msg_verified_total{{result=\"old\"}} {old}")));
        let before = Look(vec![node(1000), node(10)]);
        let after = Look(vec![None, node(12)]);
        assert_eq!(after.since(&before).refused("old"), 2.0);
    }
}
