//! Where log lines go: tracing events to stderr, as klog text or JSON.
//!
//! The two formats are prescribed in full, which leaves nothing of tracing-subscriber's `fmt` to use; hence a layer of
//! our own. Whether a callsite is shown is decided once.

use std::{fmt, io::Write as _, panic::PanicHookInfo};

use jiff::{Timestamp, tz::TimeZone};
use serde_json::Value;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
    subscriber::Interest,
};
use tracing_subscriber::{
    layer::{Context, Layer, SubscriberExt as _},
    registry::LookupSpan,
};

use super::klog::{LogEntry, Severity, render};
pub use super::{
    klog::Format,
    verbosity::{LogSettings, Vmodule},
};

/// Starts logging to stderr, panics included. Later calls change nothing.
pub fn init(settings: LogSettings) {
    let format = settings.format;
    let layer = KlogLayer {
        settings,
        zone: TimeZone::system(),
        out: to_stderr,
    };
    if tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer)).is_ok() {
        let zone = TimeZone::system();
        std::panic::set_hook(Box::new(move |info| to_stderr(&panicked(format, &zone, info))));
    }
}

/// Ignores a failure: a log that cannot be written must not stop the work.
fn to_stderr(line: &str) {
    let _ = std::io::stderr().lock().write_all(line.as_bytes());
}

/// The line for a panic. It does not go through tracing: the panic may have happened there, and the line names the
/// place of the panic.
fn panicked(format: Format, zone: &TimeZone, info: &PanicHookInfo<'_>) -> String {
    let payload = info.payload();
    let message = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let thread = std::thread::current();
    let fields = [
        ("panic", Value::from(message.unwrap_or("(no text)"))),
        ("thread", Value::from(thread.name().unwrap_or("(unnamed)"))),
    ];
    let (file, line) = info
        .location()
        .map_or(("(unknown)", 0), |location| (location.file(), location.line()));
    let entry = LogEntry {
        at: &Timestamp::now().to_zoned(zone.clone()),
        severity: Severity::Error,
        pid: std::process::id(),
        file,
        line,
        message: "Panic: a defect in this program, please report it",
        fields: &fields,
    };
    render(format, &entry)
}

struct KlogLayer<W> {
    settings: LogSettings,
    zone: TimeZone,
    out: W,
}

impl<W> KlogLayer<W> {
    fn is_shown(&self, metadata: &Metadata<'_>) -> bool {
        let module = metadata.module_path().unwrap_or(metadata.target());
        let file = metadata.file().unwrap_or("");
        self.settings.is_shown(module, file, severity(*metadata.level()))
    }
}

fn severity(level: Level) -> Severity {
    match level {
        Level::ERROR => Severity::Error,
        Level::WARN => Severity::Warning,
        Level::INFO => Severity::INFO,
        Level::DEBUG => Severity::DEBUG,
        Level::TRACE => Severity::TRACE,
    }
}

impl<S, W> Layer<S> for KlogLayer<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: Fn(&str) + 'static,
{
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.is_shown(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.is_shown(metadata)
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut values = Values::default();
        attributes.record(&mut values);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(values);
        }
    }

    fn on_record(&self, id: &Id, record: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(values) = span.extensions_mut().get_mut::<Values>()
        {
            record.record(values);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        // The values of the surrounding spans come before those of the event.
        let mut values = Values::default();
        for span in context
            .event_scope(event)
            .into_iter()
            .flat_map(|scope| scope.from_root())
        {
            if let Some(outer) = span.extensions().get::<Values>() {
                values.fields.extend(outer.fields.iter().cloned());
            }
        }
        event.record(&mut values);
        let metadata = event.metadata();
        let entry = LogEntry {
            at: &Timestamp::now().to_zoned(self.zone.clone()),
            severity: severity(*metadata.level()),
            pid: std::process::id(),
            file: metadata.file().unwrap_or(metadata.target()),
            line: metadata.line().unwrap_or(0),
            message: &values.message,
            fields: &values.fields,
        };
        (self.out)(&render(self.settings.format, &entry));
    }
}

/// The values of one event or span, as they will be printed.
#[derive(Default)]
struct Values {
    message: String,
    fields: Vec<(&'static str, Value)>,
}

impl Values {
    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            ("message", other) => self.message = other.to_string(),
            (name, value) => {
                self.fields.retain(|(earlier, _)| *earlier != name);
                self.fields.push((name, value));
            }
        }
    }
}

impl Visit for Values {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, value.to_string().into());
    }
}

#[cfg(test)]
mod tests {

    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    fn lines_of(settings: LogSettings, work: impl FnOnce()) -> Vec<String> {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&lines);
        let out = move |line: &str| sink.lock().push(line.to_owned());
        let layer = KlogLayer {
            settings,
            zone: TimeZone::UTC,
            out,
        };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), work);
        let lines = lines.lock();
        lines.clone()
    }

    #[test]
    fn events_carry_their_values_and_those_of_their_spans() {
        let lines = lines_of(LogSettings::default(), || {
            let span = tracing::info_span!("claim", claim = "default/data", tries = tracing::field::Empty);
            let _inside = span.enter();
            span.record("tries", 2);
            tracing::warn!(err = %"no\nspace", left = 1.5, "Driver refused {}", "it");
            tracing::debug!("not at -v=0");
        });
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].starts_with('W'), "{lines:?}");
        assert!(
            lines[0].ends_with(
                "] \"Driver refused it\" claim=\"default/data\" tries=2 err=\"no\\nspace\" left=1.5\n"
            ),
            "{lines:?}"
        );
        assert!(lines[0].contains(" log.rs:"), "{lines:?}");
    }

    #[test]
    fn verbosity_and_vmodule_show_more_lines() {
        let work = || {
            tracing::debug!("steps");
            tracing::trace!("calls");
        };
        let count = |verbosity, vmodule: &[(&str, u32)]| {
            let vmodule = vmodule.iter().map(|(pattern, v)| ((*pattern).to_owned(), *v));
            let settings = LogSettings {
                format: Format::Json,
                verbosity,
                vmodule: vmodule.collect(),
            };
            lines_of(settings, work).len()
        };
        assert_eq!(
            [
                count(0, &[]),
                count(3, &[]),
                count(5, &[]),
                count(0, &[("log", 5)])
            ],
            [0, 1, 2, 2]
        );
    }

    #[test]
    fn a_panic_is_one_error_line_with_the_place_of_the_panic() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&lines);
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            sink.lock().push(panicked(Format::Text, &TimeZone::UTC, info));
        }));
        let _ = std::thread::Builder::new()
            .name("worker".into())
            .spawn(|| panic!("odd\nclaim"))
            .unwrap()
            .join();
        std::panic::set_hook(before);
        let lines = lines.lock();
        let mine = lines.iter().find(|line| line.contains("odd")).unwrap();
        assert!(mine.starts_with('E') && mine.contains(" log.rs:"), "{mine}");
        assert!(mine.contains("panic=\"odd\\nclaim\" thread=\"worker\""), "{mine}");
        assert_eq!(mine.lines().count(), 1);
    }
}
