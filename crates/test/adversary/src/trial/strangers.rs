//! What the strangers of a trial received, and whether their neighbour was served.

use super::report::Check;
use crate::crowd::{Received, Served};
use std::collections::BTreeMap;

/// Failures that are named; the others are counted.
const NAMED_MAX: usize = 5;

/// The strangers were there, and whoever asks how a node is hears it all the same.
pub(super) fn checks(received: &BTreeMap<&'static str, Received>, served: &Served) -> Vec<Check> {
    let absent: Vec<&str> =
        received.iter().filter(|(_, received)| received.connections == 0).map(|(name, _)| *name).collect();
    let connections: u64 = received.values().map(|received| received.connections).sum();
    let failures = served.failures.len();
    let slowest = served.slowest.as_secs_f64();
    let named = served.failures.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join("; ");
    vec![
        Check {
            what: "strangers of every kind came",
            holds: absent.is_empty() && connections > 0,
            found: format!("{connections} connections of {} kinds; absent: {absent:?}", received.len()),
        },
        Check {
            what: "whoever asks beside them how a node is hears it",
            holds: failures == 0 && served.asked > 0,
            found: format!(
                "asked {} times, {failures} failed, the slowest took {slowest:.1} s {named}",
                served.asked
            ),
        },
    ]
}

/// What each kind received, as lines of text.
pub(super) fn lines(received: &BTreeMap<&'static str, Received>) -> Vec<String> {
    let answers = |received: &Received| {
        let texts: Vec<String> =
            received.answers.iter().map(|(status, number)| format!("{number} x {status}")).collect();
        texts.join(", ")
    };
    let line = |(name, received): (&&str, &Received)| {
        format!("strangers, {name}: {} connections {}", received.connections, answers(received))
    };
    received.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn absent_strangers_and_a_neighbour_that_was_not_served_fail_the_trial() {
        let judge = |connections: u64, asked: u64, failures: &[&str]| {
            let received = [("idle", Received { connections, ..Received::default() })].into();
            let failures = failures.iter().map(|text| (*text).to_owned()).collect();
            let served = Served { asked, failures, slowest: Duration::ZERO };
            checks(&received, &served).iter().map(|check| check.holds).collect::<Vec<_>>()
        };
        assert_eq!(judge(1, 9, &[]), [true, true]);
        assert_eq!(judge(0, 9, &[]), [false, true]);
        assert_eq!(judge(1, 9, &["/health: 503"]), [true, false]);
        assert_eq!(judge(1, 0, &[]), [true, false], "nobody asked");
    }
}
