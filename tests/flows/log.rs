//! The log of the sidecar under test, line by line.

use std::{
    fmt::{Debug, Write as _},
    sync::{Arc, Mutex},
};

use tracing::field::{Field, Visit};
use tracing_subscriber::{Layer, filter::LevelFilter, layer::Context};

/// The lines of one log.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().expect("no panic while logging").clone()
    }

    pub(crate) fn layer<S>(&self, level: LevelFilter) -> impl Layer<S> + Send + Sync + 'static
    where
        S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
    {
        self.clone().with_filter(level)
    }
}

impl<S: tracing::Subscriber> Layer<S> for Log {
    fn on_new_span(&self, span: &tracing::span::Attributes<'_>, _: &tracing::Id, _: Context<'_, S>) {
        let mut line = Text(format!("span {}", span.metadata().name()));
        span.record(&mut line);
        self.0.lock().expect("no panic while logging").push(line.0);
    }

    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let mut line = Text(event.metadata().level().to_string());
        event.record(&mut line);
        self.0.lock().expect("no panic while logging").push(line.0);
    }
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let _ = write!(self.0, " {}={value}", field.name());
    }
}
