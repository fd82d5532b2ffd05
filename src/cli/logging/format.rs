//! How events become lines: numbers are plain decimals, and a field that is a JSON object stays one in a JSON line.
//!
//! Every request writes a line, so it should cost less than the request. Formatting piece by piece costs most: the time as
//! nine numbers, and each text character by character. So a line has the text of the last second, a text without
//! characters to escape is copied, and numbers are written without `std::fmt`. Lines about requests usually come as values
//! ([`append_text`], [`append_json`]), all others as events.

use std::fmt::{self, Debug};
use std::io::Write as _;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::{RecordFields, VisitOutput as _};
use tracing_subscriber::fmt::format::{DefaultVisitor, Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::number::{push_decimal, push_integer};
use super::times::Times;
use crate::kit::access_log::{self, AccessLine, Fields};
use crate::kit::clock::Timestamp;
use crate::kit::shown_address::ShownAddress;

/// The field whose text is a JSON object.
const NESTED: &str = "metadata";
/// The field with the text of an event.
const MESSAGE: &str = "message";
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

/// Writes a line. It is UTF-8, because only whole strings were appended.
fn write_line(line: &[u8], writer: &mut Writer<'_>) -> fmt::Result {
    writer.write_str(str::from_utf8(line).map_err(|_| fmt::Error)?)
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
        let metadata = event.metadata();
        let line = Vec::with_capacity(LINE_BYTES);
        let mut line = TextLine::begin(line, &self.times, self.times.now(), *metadata.level(), metadata.target());
        event.record(&mut line);
        write_line(&line.end(), &mut writer)
    }
}

/// Appends the line about a request as text.
pub(super) fn append_text(line: &mut Vec<u8>, times: &Times, time: Timestamp, request: &AccessLine<&str>) {
    let mut text = TextLine::begin(std::mem::take(line), times, time, Level::INFO, access_log::TARGET);
    request.record(&mut text);
    *line = text.end();
}

/// Appends the line about a request as JSON.
pub(super) fn append_json(line: &mut Vec<u8>, times: &Times, time: Timestamp, request: &AccessLine<&str>) {
    let mut json = JsonLine::begin(std::mem::take(line), times, time, Level::INFO);
    request.record(&mut json);
    *line = json.end(access_log::TARGET);
}

/// A line without colours that is being written.
struct TextLine {
    line: Vec<u8>,
    is_first: bool,
}

impl TextLine {
    /// Begins with the time, the level, and the module that the line comes from.
    fn begin(mut line: Vec<u8>, times: &Times, time: Timestamp, level: Level, target: &str) -> Self {
        times.append(&mut line, time);
        let level = level.as_str();
        for part in [if level.len() < 5 { "  " } else { " " }, level, " ", target, ": "] {
            line.extend_from_slice(part.as_bytes());
        }
        Self { line, is_first: true }
    }

    /// Adds the name of a field that is never the message.
    fn name(&mut self, name: &str) {
        if !std::mem::take(&mut self.is_first) {
            self.line.push(b' ');
        }
        self.line.extend_from_slice(name.as_bytes());
        self.line.push(b'=');
    }

    /// Adds a field as the library does, with all control characters escaped.
    fn escaped(&mut self, record: impl FnOnce(&mut DefaultVisitor<'_>)) {
        let mut text = String::new();
        let mut visitor = DefaultVisitor::new(Writer::new(&mut text), self.is_first);
        record(&mut visitor);
        let _ = visitor.finish();
        self.line.extend_from_slice(text.as_bytes());
        self.is_first = false;
    }

    fn end(mut self) -> Vec<u8> {
        self.line.push(b'\n');
        self.line
    }
}

impl Fields for TextLine {
    fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        if !push_plain(&mut self.line, value) {
            // Writing to memory cannot fail.
            let _ = write!(self.line, "{value:?}");
        }
    }

    fn address(&mut self, name: &str, value: &ShownAddress) {
        self.name(name);
        self.line.extend_from_slice(value.as_str().as_bytes());
    }

    fn integer(&mut self, name: &str, value: u64) {
        self.name(name);
        push_integer(&mut self.line, value);
    }

    fn decimal(&mut self, name: &str, value: f64) {
        self.name(name);
        push_decimal(&mut self.line, value);
    }

    fn truth(&mut self, name: &str, value: bool) {
        self.name(name);
        self.line.extend_from_slice(if value { b"true" } else { b"false" });
    }
}

impl Visit for TextLine {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.decimal(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.integer(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.truth(field.name(), value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == MESSAGE {
            return self.escaped(|visitor| visitor.record_str(field, value));
        }
        self.text(field.name(), value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.escaped(|visitor| visitor.record_error(field, value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() != MESSAGE {
            let (length, was_first) = (self.line.len(), self.is_first);
            self.name(field.name());
            let start = self.line.len();
            // Writing to memory fails only if the value does.
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
fn is_printable(text: &[u8]) -> bool {
    // Counting, without an early end, compares sixteen bytes at once.
    text.iter().filter(|byte| !matches!(byte, b' '..=b'~')).count() == 0
}

/// Whether a text stands for itself in double quotes, in Rust and in JSON.
fn is_plain(text: &str) -> bool {
    text.bytes().filter(|byte| !matches!(byte, b' '..=b'~') || matches!(byte, b'"' | b'\\')).count() == 0
}

/// Appends a text in double quotes, if it stands for itself there.
fn push_plain(line: &mut Vec<u8>, text: &str) -> bool {
    let is_plain = is_plain(text);
    if is_plain {
        line.push(b'"');
        line.extend_from_slice(text.as_bytes());
        line.push(b'"');
    }
    is_plain
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
        let line = Vec::with_capacity(LINE_BYTES);
        let mut line = JsonLine::begin(line, &self.0, self.0.now(), *event.metadata().level());
        event.record(&mut line);
        write_line(&line.end(event.metadata().target()), &mut writer)
    }
}

/// A JSON object that is being written.
#[derive(Debug)]
pub(super) struct JsonLine {
    line: Vec<u8>,
}

impl JsonLine {
    /// Begins with the time and the level.
    pub(super) fn begin(mut line: Vec<u8>, times: &Times, time: Timestamp, level: Level) -> Self {
        line.extend_from_slice(b"{\"timestamp\":\"");
        times.append(&mut line, time);
        line.extend_from_slice(b"\",\"level\":\"");
        line.extend_from_slice(level.as_str().as_bytes());
        line.push(b'"');
        Self { line }
    }

    fn name(&mut self, name: &str) {
        self.line.push(b',');
        self.quoted(name);
        self.line.push(b':');
    }

    fn quoted(&mut self, text: &str) {
        if !push_plain(&mut self.line, text) {
            // Writing to memory cannot fail.
            let _ = serde_json::to_writer(&mut self.line, text);
        }
    }

    /// Adds a field whose value is JSON.
    fn raw(&mut self, name: &str, value: &str) {
        self.name(name);
        self.line.extend_from_slice(value.as_bytes());
    }

    /// Ends with the module that the line comes from.
    pub(super) fn end(mut self, target: &str) -> Vec<u8> {
        self.text("target", target);
        self.line.extend_from_slice(b"}\n");
        self.line
    }
}

impl Fields for JsonLine {
    fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        self.quoted(value);
    }

    fn address(&mut self, name: &str, value: &ShownAddress) {
        self.text(name, value.as_str());
    }

    fn integer(&mut self, name: &str, value: u64) {
        self.name(name);
        push_integer(&mut self.line, value);
    }

    fn decimal(&mut self, name: &str, value: f64) {
        if !value.is_finite() {
            return self.text(name, &value.to_string());
        }
        self.name(name);
        push_decimal(&mut self.line, value);
    }

    fn truth(&mut self, name: &str, value: bool) {
        self.raw(name, if value { "true" } else { "false" });
    }
}

impl Visit for JsonLine {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.decimal(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.raw(field.name(), &value.to_string());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.integer(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.truth(field.name(), value);
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

    use parking_lot::Mutex;
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

    #[test]
    fn the_line_about_a_request_is_that_of_its_event() {
        let plain = AccessLine::test("0a");
        let full = AccessLine {
            path: "/v2/\"\\\n\u{1b}[31mé\u{85}",
            user: Some("ann \u{7f}"),
            client: Some([127, 0, 0, 1].into()),
            peer: Some("[::1]:5000".parse().unwrap()),
            agent: Some("curl/8"),
            aborted: true,
            trace: Some("00ff"),
            ..plain
        };
        for line in [plain, full] {
            let (text, json) = logged(|| line.emit());
            let (times, mut appended) = (Times::default(), b"before\n".to_vec());
            append_text(&mut appended, &times, times.now(), &line);
            let appended = String::from_utf8(appended).unwrap();
            let after_time = |text: &str| text[text.find(" INFO").unwrap()..].to_owned();
            let appended = after_time(appended.strip_prefix("before\n").unwrap());
            assert_eq!(appended, after_time(&text));
            let addresses = " client=127.0.0.1 peer=[::1]:5000 ";
            assert_eq!(appended.contains(addresses), line.peer.is_some(), "{appended}");
            let mut appended = Vec::new();
            append_json(&mut appended, &times, times.now(), &line);
            let mut appended: Value = serde_json::from_slice(&appended).unwrap();
            appended["timestamp"] = json["timestamp"].clone();
            assert_eq!(appended, json);
        }
    }
}
