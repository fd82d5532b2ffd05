//! How events become lines: numbers are plain decimals, and a field that is a JSON object stays one in a JSON line.

use std::fmt::{self, Debug, Write as _};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::{RecordFields, VisitOutput as _};
use tracing_subscriber::fmt::format::{DefaultVisitor, Writer};
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// The field whose text is a JSON object.
const NESTED: &str = "metadata";

/// Fields as text, with plain decimals: `0.000031` instead of `3.1e-5`.
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

/// One JSON object a line.
#[derive(Debug)]
pub(super) struct JsonEvents;

impl<S, N> FormatEvent<S, N> for JsonEvents
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = JsonLine::begin(*event.metadata().level());
        event.record(&mut line);
        writeln!(writer, "{}", line.end(event.metadata().target()))
    }
}

/// A JSON object that is being written.
#[derive(Debug)]
pub(super) struct JsonLine {
    line: String,
}

impl JsonLine {
    /// Begins with the time and the level.
    pub(super) fn begin(level: Level) -> Self {
        let mut time = String::new();
        // Writing to a string cannot fail.
        let _ = SystemTime.format_time(&mut Writer::new(&mut time));
        Self { line: format!("{{\"timestamp\":\"{time}\",\"level\":\"{level}\"") }
    }

    /// Adds a field whose value is JSON.
    fn raw(&mut self, name: &str, value: impl fmt::Display) {
        let name = serde_json::Value::from(name);
        let _ = write!(self.line, ",{name}:{value}");
    }

    /// Adds a string.
    pub(super) fn text(&mut self, name: &str, value: &str) {
        self.raw(name, serde_json::Value::from(value));
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
        if value.is_finite() { self.raw(field.name(), value) } else { self.text(field.name(), &value.to_string()) }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.raw(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.raw(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.raw(field.name(), value);
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
        let subscriber = builder().with_writer(move || to_text.clone()).fmt_fields(PlainNumbers).finish();
        tracing::subscriber::with_default(subscriber, &log);
        let subscriber = builder().with_writer(move || to_json.clone()).event_format(JsonEvents).finish();
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
        let mut line = JsonLine::begin(Level::INFO);
        line.raw("seconds", 8e-9);
        assert!(line.end("x").ends_with("\"seconds\":0.000000008,\"target\":\"x\"}"));
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
