//! Where log lines go: tracing events to stderr, as klog text or JSON.
//!
//! A layer of our own instead of tracing-subscriber's `fmt`: the two formats are prescribed in
//! full, which leaves nothing of `fmt` to use, and every callsite is judged once by [`shown`].

use std::fmt;
use std::io::Write as _;
use std::panic::PanicHookInfo;

use jiff::{Timestamp, tz::TimeZone};
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber, subscriber::Interest};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

pub use super::klog::{Format, UnknownFormat};
use super::klog::{LogEntry, Severity, render};
pub use super::verbosity::{BadVmodule, Vmodule};
use super::verbosity::{Level, shown};

/// What the logging flags say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `--logging-format`.
    pub format: Format,
    /// `-v`: 0–2 news, 3–4 steps, 5 and up every call.
    pub verbosity: u8,
    /// `--vmodule`.
    pub vmodule: Vmodule,
}

/// Starts logging to stderr and reports panics there, too. Later calls change nothing.
pub fn init(settings: Settings) {
    let format = settings.format;
    let lines = KlogLayer {
        settings,
        zone: TimeZone::system(),
        out: to_stderr,
    };
    if tracing::subscriber::set_global_default(tracing_subscriber::registry().with(lines)).is_ok() {
        let zone = TimeZone::system();
        std::panic::set_hook(Box::new(move |info| to_stderr(&panicked(format, &zone, info))));
    }
}

/// A log that cannot be written must not stop the work.
fn to_stderr(line: &str) {
    let _ = std::io::stderr().lock().write_all(line.as_bytes());
}

/// Not through tracing: the panic may have come from the middle of it, and the place is the panic's, not ours.
fn panicked(format: Format, zone: &TimeZone, info: &PanicHookInfo<'_>) -> String {
    let said = info.payload();
    let said = said
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| said.downcast_ref::<String>().map(String::as_str));
    let thread = std::thread::current();
    let fields = [
        ("panic", Value::from(said.unwrap_or("(no text)"))),
        ("thread", Value::from(thread.name().unwrap_or("(unnamed)"))),
    ];
    let (file, line) = info
        .location()
        .map_or(("(unknown)", 0), |place| (place.file(), place.line()));
    let line = LogEntry {
        at: &Timestamp::now().to_zoned(zone.clone()),
        severity: Severity::Error,
        pid: std::process::id(),
        file,
        line,
        message: "Panic: a defect in this program, please report it",
        fields: &fields,
    };
    render(format, &line)
}

struct KlogLayer<W> {
    settings: Settings,
    zone: TimeZone,
    out: W,
}

impl<W> KlogLayer<W> {
    fn shows(&self, about: &Metadata<'_>) -> bool {
        let module = about.module_path().unwrap_or(about.target());
        let Settings {
            format: _,
            verbosity,
            vmodule,
        } = &self.settings;
        shown(
            *verbosity,
            vmodule,
            module,
            about.file().unwrap_or(""),
            level(about.level()),
        )
    }
}

fn level(level: &tracing::Level) -> Level {
    match *level {
        tracing::Level::ERROR | tracing::Level::WARN => Level::Always,
        tracing::Level::INFO => Level::Info,
        tracing::Level::DEBUG => Level::Debug,
        tracing::Level::TRACE => Level::Trace,
    }
}

impl<S, W> Layer<S> for KlogLayer<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: Fn(&str) + 'static,
{
    fn register_callsite(&self, about: &'static Metadata<'static>) -> Interest {
        if self.shows(about) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, about: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.shows(about)
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
        // What the surrounding spans know stands before what the event adds.
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
        let about = event.metadata();
        let severity = match *about.level() {
            tracing::Level::ERROR => Severity::Error,
            tracing::Level::WARN => Severity::Warning,
            _ => Severity::Info(level(about.level()).verbosity()),
        };
        let line = LogEntry {
            at: &Timestamp::now().to_zoned(self.zone.clone()),
            severity,
            pid: std::process::id(),
            file: about.file().unwrap_or(about.target()),
            line: about.line().unwrap_or(0),
            message: &values.message,
            fields: &values.fields,
        };
        (self.out)(&render(self.settings.format, &line));
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
    #![allow(clippy::unwrap_used, clippy::panic)]

    use std::sync::{Arc, Mutex};

    use super::*;

    fn lines_of(settings: Settings, work: impl FnOnce()) -> Vec<String> {
        let said = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&said);
        let out = move |line: &str| sink.lock().unwrap().push(line.to_owned());
        let lines = KlogLayer {
            settings,
            zone: TimeZone::UTC,
            out,
        };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), work);
        let said = said.lock().unwrap();
        said.clone()
    }

    #[test]
    fn events_carry_their_values_and_those_of_their_spans() {
        let said = lines_of(Settings::default(), || {
            let span = tracing::info_span!("claim", claim = "default/data", tries = tracing::field::Empty);
            let _inside = span.enter();
            span.record("tries", 2);
            tracing::warn!(err = %"no\nspace", left = 1.5, "Driver refused {}", "it");
            tracing::debug!("not at -v=0");
        });
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].starts_with('W'), "{said:?}");
        assert!(
            said[0].ends_with(
                "] \"Driver refused it\" claim=\"default/data\" tries=2 err=\"no\\nspace\" left=1.5\n"
            ),
            "{said:?}"
        );
        assert!(said[0].contains(" log.rs:"), "{said:?}");
    }

    #[test]
    fn verbosity_and_vmodule_open_more_lines() {
        let work = || {
            tracing::debug!("steps");
            tracing::trace!("calls");
        };
        let count = |verbosity, vmodule: &str| {
            let vmodule = vmodule.parse().unwrap();
            lines_of(
                Settings {
                    format: Format::Json,
                    verbosity,
                    vmodule,
                },
                work,
            )
            .len()
        };
        assert_eq!(
            [count(0, ""), count(3, ""), count(5, ""), count(0, "log=5")],
            [0, 1, 2, 2]
        );
    }

    #[test]
    fn a_panic_is_one_error_line_with_its_own_place() {
        let said = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&said);
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            sink.lock()
                .unwrap()
                .push(panicked(Format::Text, &TimeZone::UTC, info));
        }));
        let _ = std::thread::Builder::new()
            .name("worker".into())
            .spawn(|| panic!("odd\nclaim"))
            .unwrap()
            .join();
        std::panic::set_hook(before);
        let said = said.lock().unwrap();
        let mine = said.iter().find(|line| line.contains("odd")).unwrap();
        assert!(mine.starts_with('E') && mine.contains(" log.rs:"), "{mine}");
        assert!(mine.contains("panic=\"odd\\nclaim\" thread=\"worker\""), "{mine}");
        assert_eq!(mine.lines().count(), 1);
    }
}
