use super::*;
use parking_lot::{Condvar, Mutex};
use serde_json::Value;
use std::io;

/// An output tests can read.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What `write` logs at `level`, line by line.
fn logged(format: Format, level: Level, write: impl FnOnce()) -> Vec<String> {
    let output = Shared::default();
    let (layer, guard) = layer(output.clone(), format, level).unwrap();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), write);
    guard.flush();
    let bytes = output.0.lock().clone();
    String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
}

fn json_lines(level: Level, write: impl FnOnce()) -> Vec<Value> {
    logged(Format::Json, level, write).iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn an_event_is_one_json_object_with_ts_level_and_msg_first() {
    let lines = logged(Format::Json, Level::Info, || {
        let (height, err) = (7u64, None::<&str>);
        tracing::info!(target: "event", height, "type" = "prepare", latency_ms = 0.25, ok = true, err, "x");
    });
    let (ts, rest) = lines[0].strip_prefix("{\"ts\":\"").unwrap().split_once('"').unwrap();
    assert_eq!(rest, r#","level":"info","msg":"x","height":7,"type":"prepare","latency_ms":0.25,"ok":true}"#);
    assert_eq!(
        (ts.len(), &ts[10..11], &ts[19..20], &ts[29..]),
        (30, "T", ".", "Z"),
        "nanoseconds, UTC: {ts}"
    );
    ts.parse::<jiff::Timestamp>().unwrap();
}

#[test]
fn text_from_outside_can_forge_neither_line_nor_field() {
    let evil = "a\"}\n{\"msg\":\"forged\",\"x\":\"\u{7}";
    let lines = json_lines(Level::Info, || {
        tracing::info!(target: "event", peer = evil, shown = %evil, debugged = ?evil, array = %"[1]", "x");
    });
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["peer"], evil);
    assert_eq!(lines[0]["shown"], evil);
    assert_eq!(lines[0]["array"], "[1]", "text that looks like JSON stays text");
    assert_eq!(lines[0]["msg"], "x");
}

#[test]
fn no_line_of_either_format_speaks_to_a_terminal() {
    let evil = "\u{1b}[2J\u{9b}31m\u{202e}\r\u{7f}\n";
    let own = vec![evil.to_owned()];
    for format in [Format::Json, Format::Text] {
        let lines = logged(format, Level::Info, || {
            tracing::info!(target: "event", peer = evil, shown = %evil, debugged = ?evil, own = json(&own), "x");
            tracing::warn!(target: "library", "{evil}");
        });
        assert_eq!(lines.len(), 2);
        for line in lines {
            assert!(!line.contains(|c: char| c.is_control() || c == '\u{202e}'), "{line:?}");
            assert!(line.contains("\\u009b31m\\u202e"), "{line:?}");
        }
    }
}

#[test]
fn the_head_of_a_line_cannot_be_overwritten_by_a_field() {
    let lines = logged(Format::Json, Level::Info, || {
        tracing::info!(target: "event", ts = "now", level = "none", msg = "forged", "x");
    });
    assert!(lines[0].ends_with(r#""level":"info","msg":"x"}"#), "{}", lines[0]);
}

#[test]
fn text_is_cut_at_256_bytes_of_whole_characters_and_own_json_is_not() {
    let (long, wide, own) = ("x".repeat(300), "é".repeat(129), vec!["y".repeat(300)]);
    let lines = json_lines(Level::Info, || {
        tracing::info!(target: "event", long, wide, own = json(&own), "x");
    });
    assert_eq!(lines[0]["long"].as_str().unwrap().len(), 256);
    assert_eq!(lines[0]["wide"].as_str().unwrap().len(), 256);
    assert_eq!(lines[0]["own"][0].as_str().unwrap().len(), 300);
}

#[test]
fn an_error_is_its_whole_chain_in_one_line() {
    let chain = LogErrorWithSource(LogError::AlreadySet);
    let lines = json_lines(Level::Info, || {
        tracing::error!(target: "event", err = &chain as &(dyn std::error::Error + 'static), "fatal");
    });
    assert_eq!(lines[0]["err"], "outer: logging is already set up");
    assert_eq!(lines[0]["level"], "error");
}

#[derive(Debug, thiserror::Error)]
#[error("outer")]
struct LogErrorWithSource(#[source] LogError);

#[test]
fn levels_below_the_one_asked_for_are_silent() {
    let write = || {
        tracing::debug!(target: "event", "debugged");
        tracing::info!(target: "event", "informed");
        tracing::info!(target: "libp2p_swarm", "chatter");
        tracing::warn!(target: "libp2p_swarm", peer = 1, "trouble");
    };
    let messages = |level| -> Vec<String> {
        json_lines(level, write).iter().map(|line| line["msg"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(messages(Level::Info), ["informed", "log"]);
    assert_eq!(messages(Level::Debug), ["debugged", "informed", "log"]);
    assert_eq!(messages(Level::Error), Vec::<String>::new());
}

#[test]
fn a_librarys_line_is_the_event_log() {
    let lines =
        json_lines(Level::Info, || tracing::warn!(target: "libp2p_swarm", peer = 1, "dial failed: {}", 7));
    assert_eq!(lines[0]["msg"], "log");
    assert_eq!(lines[0]["target"], "libp2p_swarm");
    assert_eq!(lines[0]["text"], "dial failed: 7");
    assert_eq!(lines[0]["peer"], 1);
    check(&lines[0]).unwrap();
}

#[test]
fn a_line_of_our_own_without_event_name_is_the_event_log_at_the_level_asked_for() {
    let lines =
        json_lines(Level::Debug, || tracing::debug!(target: "aequa_p2p::driver", "connection closed"));
    assert_eq!(lines[0]["msg"], "log");
    assert_eq!(lines[0]["text"], "connection closed");
    check(&lines[0]).unwrap();
}

#[test]
fn a_declared_event_passes_the_check_and_others_do_not() {
    let lines = json_lines(Level::Info, || {
        tracing::info!(target: "event", service = "api", addr = "127.0.0.1:4600", "listen");
        tracing::info!(target: "event", service = "api", "listen");
        tracing::info!(target: "event", service = "api", addr = "", port = 1, "listen");
        tracing::info!(target: "event", "invented");
    });
    let results: Vec<_> = lines.iter().map(check).collect();
    assert_eq!(results[0], Ok(()));
    assert_eq!(results[1], Err("listen: field addr is missing".into()));
    assert_eq!(results[2], Err("listen: undeclared field port".into()));
    assert_eq!(results[3], Err("undeclared event invented".into()));
}

#[test]
fn text_format_is_one_readable_line() {
    let lines = logged(Format::Text, Level::Info, || {
        tracing::warn!(target: "event", height = 3, reason = "a\nb", "share_blamed");
    });
    assert_eq!(lines.len(), 1);
    assert!(lines[0].ends_with(r#"WARN  share_blamed height=3 reason="a\nb""#), "{}", lines[0]);
}

/// An output that blocks until it is let go.
#[derive(Clone, Default)]
struct Stuck(Arc<(Mutex<bool>, Condvar)>, Shared);

impl Stuck {
    fn release(&self) {
        *self.0.0.lock() = true;
        self.0.1.notify_all();
    }
}

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut free = self.0.0.lock();
        while !*free {
            self.0.1.wait(&mut free);
        }
        self.1.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn written(bytes: &Mutex<Vec<u8>>) -> Vec<Value> {
    let bytes = bytes.lock().clone();
    String::from_utf8(bytes).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn sum(lines: &[Value], msg: &str, field: &str) -> u64 {
    lines.iter().filter(|line| line["msg"] == msg).filter_map(|line| line[field].as_u64()).sum()
}

fn count(lines: &[Value], msg: &str) -> u64 {
    lines.iter().filter(|line| line["msg"] == msg).count() as u64
}

#[test]
fn a_stuck_output_costs_lines_and_not_the_caller_and_the_loss_is_told() {
    let output = Stuck::default();
    let (layer, guard) = layer(output.clone(), Format::Json, Level::Debug).unwrap();
    let sent = 3 * LINES_MAX as u64;
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        for n in 0..sent {
            tracing::debug!(target: "event", n, "x");
        }
    });
    assert!(guard.dropped() > 0);
    output.release();
    guard.flush();
    let lines = written(&output.1.0);
    assert_eq!(sum(&lines, "log_dropped", "count"), guard.dropped());
    assert_eq!(count(&lines, "x") + guard.dropped(), sent);
}

#[test]
fn no_number_of_lesser_lines_takes_the_place_of_a_warning() {
    let output = Stuck::default();
    let (layer, guard) = layer(output.clone(), Format::Json, Level::Debug).unwrap();
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        for n in 0..2 * LINES_MAX {
            tracing::debug!(target: "event", n, "flood");
        }
        assert!(guard.dropped() > 0, "full");
        tracing::warn!(target: "event", "a_warning");
        tracing::error!(target: "event", "an_error");
    });
    output.release();
    guard.flush();
    let lines = written(&output.1.0);
    assert_eq!((count(&lines, "a_warning"), count(&lines, "an_error")), (1, 1));
    assert_eq!(sum(&lines, "log_dropped", "warnings"), 0);
}

#[test]
fn what_repeats_itself_is_counted_and_hides_nothing_else() {
    let output = Shared::default();
    let (layer, guard) = layer(output.clone(), Format::Json, Level::Debug).unwrap();
    let flood = || tracing::info!(target: "event", "flood");
    let mut sent = 0;
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        for _ in 0..20 * REPEATS_PER_WINDOW {
            flood();
            sent += 1;
        }
        tracing::info!(target: "event", "something_else");
        // Once the window is over the count is told, whatever is logged next.
        let told = |lines: &[Value]| count(lines, "flood") + sum(lines, "log_repeated", "count");
        while told(&written(&output.0)) < sent {
            std::thread::sleep(REPEATS_WINDOW / 20);
            tracing::debug!(target: "event", "later");
            guard.flush();
        }
        assert_eq!(told(&written(&output.0)), sent);
    });
    let lines = written(&output.0);
    assert!(count(&lines, "flood") < sent / 2);
    assert_eq!(count(&lines, "something_else"), 1);
    let told = lines.iter().find(|line| line["msg"] == "log_repeated").unwrap();
    assert_eq!((told["event"].clone(), told["level"].clone()), ("flood".into(), "info".into()));
    check(told).unwrap();
}

#[test]
fn a_flood_of_warnings_of_one_cause_does_not_hide_another() {
    let output = Shared::default();
    let (layer, guard) = layer(output.clone(), Format::Json, Level::Info).unwrap();
    let warn = |reason: String, height: u32| tracing::warn!(target: "event", reason, height, "refused");
    let flood = 5 * REPEATS_PER_WINDOW;
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        for height in 0..flood {
            warn("one".into(), height);
        }
        warn("another".into(), 1);
        // Made-up causes are not told apart for ever.
        for n in 0..20 * CAUSES_MAX {
            warn(format!("cause {n}"), 1);
        }
    });
    guard.flush();
    let lines = written(&output.0);
    let of = |reason: &str| lines.iter().filter(|line| line["reason"] == reason).count();
    assert!(of("one") < flood as usize);
    assert_eq!(of("another"), 1);
    assert!(count(&lines, "refused") < 10 * CAUSES_MAX as u64);
}
