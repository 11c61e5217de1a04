//! From a `tracing` event to one line.

use super::plain::plain;
use super::repeats::{Cause, LeftOut, Repeats};
use super::writer::Writer;
use super::{EVENT_TARGET, Format};
use serde::Serialize;
use std::cell::Cell;
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::Instant;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// Longest string in a line, in bytes: enough for an error chain, too little to flood a disk.
pub const TEXT_BYTES_MAX: usize = 256;

/// Targets that are heard at the level asked for: events proper and the crates of this workspace.
pub(super) const OWN_TARGETS: [&str; 3] = [EVENT_TARGET, "aequa", "dvt_node"];

/// A value that is written as JSON and not as text: arrays, objects, long text of our own.
///
/// ```
/// use aequa_telemetry::log::json;
/// let reasons = ["syncing", "clock"];
/// tracing::info!(target: "event", ready = false, reasons = json(&reasons), "readiness");
/// ```
pub fn json<T: Serialize>(value: &T) -> tracing::field::DebugValue<Json<'_, T>> {
    tracing::field::debug(Json(value))
}

/// See [`json`].
pub struct Json<'a, T>(&'a T);

thread_local! {
    /// Set while formatting by [`Json`], and only there: text from outside cannot pretend to be JSON.
    static IS_JSON: Cell<bool> = const { Cell::new(false) };
}

impl<T: Serialize> fmt::Debug for Json<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = serde_json::to_string(self.0).map_err(|_| fmt::Error)?;
        f.write_str(&text)?;
        IS_JSON.set(true);
        Ok(())
    }
}

/// Writes every event as a line.
pub(super) struct EventLayer {
    writer: Arc<Writer>,
    format: Format,
    repeats: Repeats,
}

impl EventLayer {
    pub(super) fn new(writer: Arc<Writer>, format: Format) -> Self {
        Self { writer, format, repeats: Repeats::default() }
    }

    fn write(&self, level: Level, msg: &str, pairs: &[(String, String)]) {
        self.writer.send(line(self.format, level_name(level), msg, pairs), level);
    }
}

impl<S: Subscriber> Layer<S> for EventLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        if metadata.target() != EVENT_TARGET {
            fields.make_foreign(metadata.target());
        }
        let (level, now) = (*metadata.level(), Instant::now());
        for LeftOut { event, level, count } in self.repeats.left_out(now) {
            let pairs = [("event".to_owned(), text_json(&event)), ("count".to_owned(), count.to_string())];
            self.write(level, "log_repeated", &pairs);
        }
        let cause = Cause::of(&fields.pairs);
        if self.repeats.admit(metadata.callsite(), &fields.message, level, cause, now) {
            self.write(level, &fields.message, &fields.pairs);
        }
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::TRACE => "trace",
        Level::DEBUG => "debug",
        Level::INFO => "info",
        Level::WARN => "warn",
        Level::ERROR => "error",
    }
}

/// One line with its newline. `pairs` hold JSON values.
pub(super) fn line(format: Format, level: &str, msg: &str, pairs: &[(String, String)]) -> Vec<u8> {
    let ts = jiff::Timestamp::now();
    let mut line = String::with_capacity(256);
    let _ = match format {
        Format::Json => {
            write!(line, "{{\"ts\":\"{ts:.9}\",\"level\":\"{level}\",\"msg\":{}", text_json(msg))
        }
        Format::Text => {
            write!(line, "{ts:.3} {:<5} {}", level.to_uppercase(), text_json(msg).trim_matches('"'))
        }
    };
    for (key, value) in pairs {
        let _ = match format {
            Format::Json => write!(line, ",{}:{value}", text_json(key)),
            Format::Text => write!(line, " {key}={value}"),
        };
    }
    line.push_str(if format == Format::Json { "}\n" } else { "\n" });
    line.into_bytes()
}

/// Fields of an event in the order of recording, values as JSON.
#[derive(Default)]
struct Fields {
    message: String,
    pairs: Vec<(String, String)>,
}

impl Fields {
    fn push(&mut self, field: &Field, value: String) {
        let name = field.name().strip_prefix("r#").unwrap_or(field.name());
        // The names of the head of the line are taken.
        if !matches!(name, "ts" | "level" | "msg") {
            self.pairs.push((name.to_owned(), value));
        }
    }

    fn push_text(&mut self, field: &Field, text: &str) {
        if field.name() == "message" {
            self.message = cut(text).to_owned();
        } else {
            self.push(field, text_json(text));
        }
    }

    /// A library's line: its text is a field, and bridged `log` records name their own target.
    fn make_foreign(&mut self, target: &str) {
        let bridged = self.pairs.iter().find(|(key, _)| key == "log.target").map(|(_, value)| value.clone());
        self.pairs.retain(|(key, _)| !key.starts_with("log.") && key != "target" && key != "text");
        let text = text_json(&std::mem::replace(&mut self.message, "log".into()));
        let head = [("target".into(), bridged.unwrap_or_else(|| text_json(target))), ("text".into(), text)];
        self.pairs.splice(0..0, head);
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field, serde_json::to_string(&value).unwrap_or_else(|_| "null".into()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, value.to_string());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, value.to_string());
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.push(field, value.to_string());
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.push(field, value.to_string());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, value.to_string());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push_text(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut chain = value.to_string();
        let mut source = value.source();
        while let Some(cause) = source {
            let _ = write!(chain, ": {cause}");
            source = cause.source();
        }
        self.push_text(field, &chain);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        IS_JSON.set(false);
        let text = format!("{value:?}");
        if IS_JSON.replace(false) && is_json(&text) {
            self.push(field, plain(&text).into_owned());
        } else {
            self.push_text(field, &text);
        }
    }
}

/// A debug form that merely *contains* a [`Json`] sets the flag too, so the text must prove itself.
fn is_json(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

fn text_json(text: &str) -> String {
    plain(&serde_json::Value::from(cut(text)).to_string()).into_owned()
}

/// The longest prefix of whole characters that fits.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}
