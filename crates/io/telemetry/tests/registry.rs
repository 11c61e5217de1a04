//! The registry against the contract's tables and the golden file.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

use aequa_telemetry::Metrics;
use aequa_telemetry::log::EVENTS;
use aequa_telemetry::metrics::{Format, Kind};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// Compares with the checked-in file; `UPDATE_GOLDEN=1` rewrites it instead.
fn assert_golden(name: &str, actual: &str) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(data(name), actual).unwrap();
    }
    let expected = std::fs::read_to_string(data(name)).unwrap();
    assert_eq!(actual, expected, "{name} is stale; a deliberate change is taken over with UPDATE_GOLDEN=1");
}

#[test]
fn families_types_and_label_keys_are_the_golden_ones() {
    assert_golden("metrics.golden", &(Metrics::new().declarations().join("\n") + "\n"));
}

#[test]
fn events_and_field_keys_are_the_golden_ones() {
    let mut lines: Vec<_> =
        EVENTS.iter().map(|info| format!("{} {}", info.name, info.fields.join(","))).collect();
    lines.sort();
    lines.dedup_by(|a, b| a.split(' ').next() == b.split(' ').next());
    assert_eq!(lines.len(), EVENTS.len(), "an event is declared twice");
    assert_golden("events.golden", &(lines.join("\n") + "\n"));
}

/// The sources of all crates, without the two tables.
fn sources() -> String {
    let crates = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
    let (mut folders, mut text) = (vec![crates], String::new());
    while let Some(folder) = folders.pop() {
        for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let is_other = ["tests", "tests.rs", "metrics/registry.rs", "log/events.rs"]
                .iter()
                .any(|name| path.ends_with(name));
            match path.extension() {
                _ if is_other => {}
                Some(ending) if ending == "rs" => text.push_str(&std::fs::read_to_string(path).unwrap()),
                _ if path.is_dir() => folders.push(path),
                _ => {}
            }
        }
    }
    text
}

#[test]
fn what_is_declared_is_fed_or_says_what_will_feed_it() {
    let sources = sources();
    let words: BTreeSet<_> = sources
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
        .collect();
    for info in Metrics::new().infos() {
        // These two have helpers in the registry itself.
        let fed = words.contains(info.name) || ["dvt_up", "qbft_msg_verified_total"].contains(&info.name);
        assert_eq!(info.later.is_none(), fed, "{}", info.name);
    }
    for info in EVENTS {
        // A message is the last word of its macro; the lines about lines are written without one.
        let quoted = format!("\"{}\"", info.name);
        let mut told =
            sources.split(quoted.as_str()).skip(1).map(|rest| rest.trim_start_matches(',').trim_start());
        let caused = told.any(|rest| rest.starts_with(')') || rest.starts_with("&pairs"));
        assert_eq!(info.later.is_none(), caused, "{}", info.name);
    }
}

/// One row of the contract: type, either-or labels, and label → (values, open).
#[derive(Debug, PartialEq, Eq)]
struct Row {
    kind: Kind,
    either: bool,
    labels: BTreeMap<String, (Vec<String>, bool)>,
}

#[test]
fn the_registry_declares_exactly_the_families_of_the_contract() {
    let contract = std::fs::read_to_string(data("contract_metrics.txt")).unwrap();
    let contract: BTreeMap<_, _> = contract
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(contract_row)
        .collect();
    let declared: BTreeMap<_, _> = Metrics::new()
        .infos()
        .into_iter()
        .map(|info| {
            let labels = info
                .labels
                .iter()
                .map(|label| {
                    let mut values: Vec<_> = label.values.iter().map(ToString::to_string).collect();
                    values.sort();
                    (label.key.to_owned(), (values, label.open))
                })
                .collect();
            (info.name.to_owned(), Row { kind: info.kind, either: info.either, labels })
        })
        .collect();
    let names = |rows: &BTreeMap<String, Row>| rows.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&declared), names(&contract));
    for (name, row) in &contract {
        assert_eq!(&declared[name], row, "{name}");
    }
}

fn contract_row(line: &str) -> (String, Row) {
    let mut cells = line.split('|').map(str::trim);
    let name = cells.next().unwrap().to_owned();
    let kind = match cells.next().unwrap() {
        "C" => Kind::Counter,
        "G" => Kind::Gauge,
        "S" => Kind::Summary,
        "histogram" => Kind::Histogram,
        other => panic!("{name}: type {other}"),
    };
    let parts: Vec<_> =
        cells.next().unwrap_or_default().split("; ").filter(|part| !part.is_empty()).collect();
    let labels = parts
        .iter()
        .filter(|part| **part != "either")
        .map(|part| {
            let (key, values) = part.split_once(": ").unwrap_or((part, "open"));
            let open = values.split(", ").any(|value| value == "open");
            let mut values: Vec<_> =
                values.split(", ").filter(|value| *value != "open").map(str::to_owned).collect();
            values.sort();
            (key.to_owned(), (values, open))
        })
        .collect();
    (name, Row { kind, either: parts.contains(&"either"), labels })
}

#[test]
fn closed_labels_have_at_most_twenty_values_and_help_is_one_line() {
    for info in Metrics::new().infos() {
        assert!(!info.help.is_empty() && !info.help.contains('\n'), "{}", info.name);
        for label in info.labels {
            assert!(label.values.len() <= 20, "{} {}", info.name, label.key);
        }
        assert!(info.kind != Kind::Counter || info.name.ends_with("_total"), "{}", info.name);
    }
}

#[test]
fn a_new_registry_shows_only_that_the_process_is_up() {
    let text = Metrics::new().render(Format::Text);
    assert_eq!(text, "# HELP dvt_up 1 while the process serves\n# TYPE dvt_up gauge\ndvt_up 1\n");
}

#[test]
fn series_come_by_type_then_name_then_labels_with_sorted_keys() {
    let metrics = Metrics::new();
    metrics.swarm_consensus_round_duration_seconds.observe([], 0.3);
    metrics.api_latency_ms.observe(["/health"], 0.25);
    metrics.api_latency_ms.observe(["/health"], 1.5);
    metrics.mempool_size.set([], 3.0);
    metrics.p2p_msgs_total.inc(["aequa/qbft/v1", "tx", "ok"]);
    metrics.p2p_msgs_total.inc(["aequa/qbft/v1", "rx", "ok"]);
    metrics.api_requests_total.inc(["/health", "200"]);
    metrics.api_requests_total.add(["/health", "200"], 1 << 60);
    let samples: Vec<_> = metrics
        .render(Format::Text)
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    let mut expected = vec![
        r#"api_requests_total{code="200",route="/health"} 1152921504606846977"#,
        r#"p2p_msgs_total{direction="rx",result="ok",topic="aequa/qbft/v1"} 1"#,
        r#"p2p_msgs_total{direction="tx",result="ok",topic="aequa/qbft/v1"} 1"#,
        "dvt_up 1",
        "mempool_size 3",
        r#"api_latency_ms_sum{route="/health"} 1.75"#,
        r#"api_latency_ms_count{route="/health"} 2"#,
    ];
    let bucket = |bound: &str, count: u8| {
        format!("swarm_consensus_round_duration_seconds_bucket{{le=\"{bound}\"}} {count}")
    };
    let below =
        ["0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25"].map(|bound| bucket(bound, 0));
    let above = ["0.5", "1", "2.5", "5", "10", "+Inf"].map(|bound| bucket(bound, 1));
    expected.extend(below.iter().chain(&above).map(String::as_str));
    expected.push("swarm_consensus_round_duration_seconds_sum 0.3");
    expected.push("swarm_consensus_round_duration_seconds_count 1");
    assert_eq!(samples, expected);
}

#[test]
fn verification_has_exactly_one_label_per_series() {
    let metrics = Metrics::new();
    metrics.qbft_verified("prepare");
    metrics.qbft_refused("replay");
    let text = metrics.render(Format::Text);
    assert!(text.contains("qbft_msg_verified_total{result=\"replay\"} 1\n"), "{text}");
    assert!(text.contains("qbft_msg_verified_total{type=\"prepare\"} 1\n"), "{text}");
}

#[test]
fn label_values_are_escaped() {
    let metrics = Metrics::new();
    metrics.resilience_breaker_state.set(["a\"b\\c\nd"], 2.0);
    let text = metrics.render(Format::Text);
    assert!(text.contains(r#"resilience_breaker_state{target="a\"b\\c\nd"} 2"#), "{text}");
}

#[test]
fn a_prepared_handle_does_not_make_the_series_appear() {
    let metrics = Metrics::new();
    let handle = metrics.p2p_msgs_total.with(["t", "rx", "ok"]);
    assert!(!metrics.render(Format::Text).contains("p2p_msgs_total"));
    handle.inc();
    assert_eq!(metrics.p2p_msgs_total.value(["t", "rx", "ok"]), 1);
    assert_eq!(metrics.moved(), ["dvt_up", "p2p_msgs_total"]);
}

#[test]
fn a_family_never_grows_beyond_its_limit() {
    let metrics = Metrics::new();
    for n in 0..2 * aequa_telemetry::metrics::SERIES_MAX {
        metrics.tss_e2e_requests_total.inc([&n.to_string()]);
    }
    let series = metrics.render(Format::Text).lines().filter(|line| line.starts_with("tss_e2e")).count();
    assert_eq!(series, aequa_telemetry::metrics::SERIES_MAX);
}

#[test]
fn gauges_go_down_again_and_take_no_exponent() {
    let metrics = Metrics::new();
    metrics.mempool_size.add([], 2.0);
    metrics.mempool_size.add([], -2.0);
    metrics.dfba_clearing_price.set([], 1e18);
    let text = metrics.render(Format::Text);
    assert!(text.contains("\nmempool_size 0\n"), "{text}");
    assert!(text.contains("\ndfba_clearing_price 1000000000000000000\n"), "{text}");
}

#[test]
fn concurrent_observations_are_all_counted() {
    let metrics = Metrics::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..1000 {
                    metrics.consensus_proc_ms.observe(["duty"], 0.5);
                }
            });
        }
    });
    let text = metrics.render(Format::Text);
    assert!(text.contains("consensus_proc_ms_sum{kind=\"duty\"} 2000\n"), "{text}");
    assert!(text.contains("consensus_proc_ms_count{kind=\"duty\"} 4000\n"), "{text}");
}

#[test]
fn openmetrics_is_given_only_when_asked_for() {
    let open = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let text = "text/plain; version=0.0.4; charset=utf-8";
    for (accept, expected) in [
        (None, text),
        (Some("*/*"), text),
        (Some("text/plain"), text),
        (Some("application/openmetrics-text;q=0"), text),
        (Some("application/openmetrics-text;q=0.1, text/plain;q=0.9"), text),
        (Some("application/openmetrics-text"), open),
        (Some("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"), open),
    ] {
        assert_eq!(Format::negotiate(accept).content_type(), expected, "{accept:?}");
    }
    let metrics = Metrics::new();
    metrics.api_requests_total.inc(["/health", "200"]);
    let rendered = metrics.render(Format::OpenMetrics);
    assert!(rendered.contains("# TYPE api_requests counter\napi_requests_total{"), "{rendered}");
    assert!(rendered.ends_with("# EOF\n"), "{rendered}");
}
