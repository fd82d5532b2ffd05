//! How events become lines: numbers are plain decimals, and a field that is a JSON object stays one in a JSON line.
//!
//! Every request writes a line, so it should cost less than the request. Formatting piece by piece costs most: the time as
//! nine numbers, and each text character by character. So a line has the text of the last second, a text without
//! characters to escape is copied, and numbers are written without `std::fmt`.

use std::fmt::{self, Debug, Write as _};

use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::{RecordFields, VisitOutput as _};
use tracing_subscriber::fmt::format::{DefaultVisitor, Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::number::{push_decimal, push_integer, push_padded};
use crate::kit::clock::{Clock, Timestamp};

/// The field whose text is a JSON object.
const NESTED: &str = "metadata";
/// The field with the text of an event.
const MESSAGE: &str = "message";
/// The microseconds of a second.
const MICROS: u64 = 1_000_000;
/// Room for most lines, so that they do not grow in steps.
const LINE_BYTES: usize = 512;

/// Fields of a coloured line, with plain decimals: `0.000031` instead of `3.1e-5`.
#[derive(Debug)]
pub(super) struct PlainNumbers;

impl<'writer> FormatFields<'writer> for PlainNumbers {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut visitor = TextVisitor(DefaultVisitor::new(writer, true));
        fields.record(&mut visitor);
        visitor.0.finish()
    }
}

struct TextVisitor<'a>(DefaultVisitor<'a>);

impl Visit for TextVisitor<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.record_debug(field, &format_args!("{value}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.record_str(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.0.record_error(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.record_debug(field, value);
    }
}

/// The time at the beginning of lines. It remembers the last second.
#[derive(Debug, Default)]
pub(super) struct Times {
    clock: Clock,
    last: Mutex<Second>,
}

#[derive(Debug, Default)]
struct Second {
    /// Its start, in microseconds since 1970.
    start: u64,
    text: String,
}

impl Times {
    /// Appends the time now: RFC 3339, in UTC, with six digits of the second.
    fn append(&self, line: &mut String) {
        let now = self.clock.now().micros();
        let micros = u32::try_from(now % MICROS).expect("it is below a million");
        let start = now - u64::from(micros);
        let mut last = self.last.lock();
        if last.text.is_empty() || last.start != start {
            *last = Second { start, text: Timestamp::from_micros(start).to_string() };
        }
        line.push_str(last.text.trim_end_matches('Z'));
        drop(last);
        line.push('.');
        push_padded(line, micros, 6);
        line.push('Z');
    }
}

/// One line of text for each event. With colours, the library writes it.
#[derive(Debug, Default)]
pub(super) struct TextEvents {
    times: Times,
    coloured: Format,
}

impl<S, N> FormatEvent<S, N> for TextEvents
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        if writer.has_ansi_escapes() {
            return self.coloured.format_event(context, writer, event);
        }
        let mut line = String::with_capacity(LINE_BYTES);
        self.times.append(&mut line);
        let metadata = event.metadata();
        let level = metadata.level().as_str();
        for part in [if level.len() < 5 { "  " } else { " " }, level, " ", metadata.target(), ": "] {
            line.push_str(part);
        }
        let mut visitor = TextLine { line, is_first: true };
        event.record(&mut visitor);
        let mut line = visitor.line;
        line.push('\n');
        writer.write_str(&line)
    }
}

/// A line without colours that is being written.
struct TextLine {
    line: String,
    is_first: bool,
}

impl TextLine {
    /// Adds the name of a field that is never the message.
    fn name(&mut self, field: &Field) {
        if !std::mem::take(&mut self.is_first) {
            self.line.push(' ');
        }
        self.line.push_str(field.name());
        self.line.push('=');
    }

    /// Adds a field as the library does, with all control characters escaped.
    fn escaped(&mut self, record: impl FnOnce(&mut DefaultVisitor<'_>)) {
        let mut visitor = DefaultVisitor::new(Writer::new(&mut self.line), self.is_first);
        record(&mut visitor);
        let _ = visitor.finish();
        self.is_first = false;
    }
}

impl Visit for TextLine {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.name(field);
        push_decimal(&mut self.line, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.name(field);
        push_integer(&mut self.line, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.name(field);
        self.line.push_str(if value { "true" } else { "false" });
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == MESSAGE || !is_plain(value) {
            return self.escaped(|visitor| visitor.record_str(field, value));
        }
        self.name(field);
        self.line.push('"');
        self.line.push_str(value);
        self.line.push('"');
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.escaped(|visitor| visitor.record_error(field, value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() != MESSAGE {
            let (length, was_first) = (self.line.len(), self.is_first);
            self.name(field);
            let start = self.line.len();
            // Writing to a string fails only if the value does.
            if write!(self.line, "{value:?}").is_ok() && is_printable(&self.line[start..]) {
                return;
            }
            self.line.truncate(length);
            self.is_first = was_first;
        }
        self.escaped(|visitor| visitor.record_debug(field, value));
    }
}

/// Whether a text has printable ASCII only, which nothing escapes.
fn is_printable(text: &str) -> bool {
    // Counting, without an early end, compares sixteen bytes at once.
    text.bytes().filter(|byte| !matches!(byte, b' '..=b'~')).count() == 0
}

/// Whether a text stands for itself in double quotes, in Rust and in JSON.
fn is_plain(text: &str) -> bool {
    text.bytes().filter(|byte| !matches!(byte, b' '..=b'~') || matches!(byte, b'"' | b'\\')).count() == 0
}

/// One JSON object a line.
#[derive(Debug, Default)]
pub(super) struct JsonEvents(Times);

impl<S, N> FormatEvent<S, N> for JsonEvents
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = JsonLine::begin(&self.0, *event.metadata().level());
        event.record(&mut line);
        let mut line = line.end(event.metadata().target());
        line.push('\n');
        writer.write_str(&line)
    }
}

/// A JSON object that is being written.
#[derive(Debug)]
pub(super) struct JsonLine {
    line: String,
}

impl JsonLine {
    /// Begins with the time and the level.
    pub(super) fn begin(times: &Times, level: Level) -> Self {
        let mut line = String::with_capacity(LINE_BYTES);
        line.push_str("{\"timestamp\":\"");
        times.append(&mut line);
        line.push_str("\",\"level\":\"");
        line.push_str(level.as_str());
        line.push('"');
        Self { line }
    }

    fn name(&mut self, name: &str) {
        self.line.push(',');
        self.quoted(name);
        self.line.push(':');
    }

    fn quoted(&mut self, text: &str) {
        if is_plain(text) {
            self.line.push('"');
            self.line.push_str(text);
            self.line.push('"');
        } else {
            let _ = write!(self.line, "{}", serde_json::Value::from(text));
        }
    }

    /// Adds a field whose value is JSON.
    fn raw(&mut self, name: &str, value: &str) {
        self.name(name);
        self.line.push_str(value);
    }

    /// Adds a string.
    pub(super) fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        self.quoted(value);
    }

    /// Ends with the module that the line comes from.
    pub(super) fn end(mut self, target: &str) -> String {
        self.text("target", target);
        self.line.push('}');
        self.line
    }
}

impl Visit for JsonLine {
    fn record_f64(&mut self, field: &Field, value: f64) {
        if !value.is_finite() {
            return self.text(field.name(), &value.to_string());
        }
        self.name(field.name());
        push_decimal(&mut self.line, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.raw(field.name(), &value.to_string());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.name(field.name());
        push_integer(&mut self.line, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.raw(field.name(), if value { "true" } else { "false" });
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field.name(), value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.text(field.name(), &value.to_string());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = format!("{value:?}");
        let is_json = || serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
        if field.name() == NESTED && is_json() { self.raw(NESTED, &text) } else { self.text(field.name(), &text) }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::io;
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;

    /// Returns the line of an event as text and as JSON.
    fn logged(log: impl Fn()) -> (String, Value) {
        #[derive(Clone, Default)]
        struct Memory(Arc<Mutex<Vec<u8>>>);
        impl io::Write for Memory {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().write(bytes)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (text, json) = (Memory::default(), Memory::default());
        let (to_text, to_json) = (text.clone(), json.clone());
        let builder = || tracing_subscriber::fmt().with_ansi(false);
        let subscriber = builder()
            .with_writer(move || to_text.clone())
            .fmt_fields(PlainNumbers)
            .event_format(TextEvents::default())
            .finish();
        tracing::subscriber::with_default(subscriber, &log);
        let subscriber = builder().with_writer(move || to_json.clone()).event_format(JsonEvents::default()).finish();
        tracing::subscriber::with_default(subscriber, &log);
        let text = String::from_utf8(text.0.lock().clone()).unwrap();
        let json = serde_json::from_slice(&json.0.lock()).unwrap();
        (text, json)
    }

    #[test]
    fn numbers_are_plain_decimals() {
        let (text, json) = logged(|| tracing::info!(seconds = 3.1e-5, tiny = 8e-9, count = 7_u64, "done"));
        assert!(text.ends_with("done seconds=0.000031 tiny=0.000000008 count=7\n"), "{text}");
        assert_eq!((&json["seconds"], &json["count"]), (&json!(3.1e-5), &json!(7)));
    }

    #[test]
    fn texts_with_quotes_and_control_characters_stay_in_their_line() {
        for hostile in ["a\"b", "a\\b", "a\nb", "\u{1b}[31mred", "é", "\u{7f}", "\u{85}"] {
            let (text, json) = logged(|| tracing::info!(path = hostile, shown = %hostile.escape_debug(), "{hostile}"));
            assert!(text.contains(&format!(" path={hostile:?} shown=")), "{text}");
            assert!(!text.trim_end().contains('\u{1b}'), "{text:?}");
            assert_eq!((&json["path"], &json["message"]), (&json!(hostile), &json!(hostile)));
        }
    }

    #[test]
    fn metadata_is_nested_and_nothing_else_is() {
        let object = r#"{"repo":"a/b"}"#;
        let (text, json) = logged(|| {
            tracing::info!(metadata = tracing::field::display(object), path = object, error = %object);
        });
        assert!(text.contains(r#"metadata={"repo":"a/b"}"#), "{text}");
        assert_eq!(json["metadata"], json!({ "repo": "a/b" }));
        assert_eq!((&json["path"], &json["error"]), (&json!(object), &json!(object)));
        assert_eq!((&json["level"], json["target"].is_string()), (&json!("INFO"), true));
        let (_, json) = logged(|| tracing::info!(metadata = tracing::field::display("\"}, {"), "text"));
        assert_eq!(json["metadata"], "\"}, {");
    }
}
