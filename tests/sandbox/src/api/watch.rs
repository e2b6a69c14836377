//! Watches: a cursor over the history of one resource.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use futures::Stream;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    Api, State,
    failure::{self, Refusal},
    media::Form,
    route::Route,
    serve::BoxError,
    store::Change,
};

/// How often an idle watch with bookmarks hears the revision.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);

struct Watcher {
    api: Api,
    route: Route,
    form: Form,
    cursor: u64,
    pending: VecDeque<Bytes>,
    changed: tokio::sync::watch::Receiver<u64>,
    cuts: u64,
    bookmark: Instant,
    end: Instant,
    over: bool,
}

/// The body of a watch response: one JSON line per event.
pub(crate) fn watch(
    api: &Api,
    state: &mut State,
    route: Route,
    form: Form,
) -> Result<impl Stream<Item = Result<Bytes, BoxError>> + Send + use<>, Refusal> {
    let options = &route.options;
    if options.initial_events && !state.streaming {
        return Err(failure::bad_options(
            "sendInitialEvents",
            "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled",
        ));
    }
    // The server ends a watch after 30 to 60 minutes when the client names no time.
    let seconds = options
        .timeout
        .filter(|s| *s > 0)
        .unwrap_or_else(|| state.rng.u64(1800..3600));
    let newest = match (options.initial_events, options.revision) {
        // A consistent read.
        (true, None) => state.store.revision,
        _ => state.ceiling.unwrap_or(state.store.revision),
    };
    let now = Instant::now();
    let mut watcher = Watcher {
        api: api.clone(),
        cursor: newest,
        pending: VecDeque::new(),
        changed: state.store.subscribe(),
        cuts: state.cuts,
        bookmark: now + BOOKMARK_EVERY,
        end: now + Duration::from_secs(seconds),
        over: false,
        route,
        form,
    };
    watcher.start(state, newest);
    Ok(futures::stream::unfold(watcher, |mut watcher| async move {
        watcher.next().await.map(|line| (line, watcher))
    }))
}

impl Watcher {
    fn start(&mut self, state: &State, newest: u64) {
        let options = &self.route.options;
        match options.revision {
            Some(from) if from > 0 && !options.initial_events => {
                self.cursor = from;
                if from < state.store.horizon {
                    let text = format!("too old resource version: {from} ({})", state.store.horizon);
                    self.push_line("ERROR", &json!(*failure::expired(text)));
                    self.over = true;
                }
            }
            _ => {
                for object in state.store.list_at(self.route.kind, newest).values() {
                    let here = self.route.namespace.as_ref();
                    let here = here.is_none_or(|n| object["metadata"]["namespace"] == **n);
                    if here && self.route.options.select(object) {
                        self.push("ADDED", object);
                    }
                }
                if self.route.options.initial_events && self.route.options.bookmarks {
                    self.push_bookmark(newest, Some(json!({"k8s.io/initial-events-end": "true"})));
                }
            }
        }
    }

    async fn next(&mut self) -> Option<Result<Bytes, BoxError>> {
        loop {
            if let Some(line) = self.pending.pop_front() {
                return Some(Ok(line));
            }
            if self.over {
                return None;
            }
            if self.collect() {
                self.over = true;
                return Some(Err("connection reset: the sandbox cut all watches".into()));
            }
            if !self.pending.is_empty() {
                continue;
            }
            let bookmark = async {
                match self.route.options.bookmarks {
                    true => tokio::time::sleep_until(self.bookmark).await,
                    false => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                changed = self.changed.changed() => self.over = changed.is_err(),
                () = bookmark => {
                    self.push_bookmark(self.cursor, None);
                    self.bookmark = Instant::now() + BOOKMARK_EVERY;
                }
                () = tokio::time::sleep_until(self.end) => self.over = true,
            }
        }
    }

    /// Takes what happened since; true when the connection was cut.
    fn collect(&mut self) -> bool {
        let api = self.api.clone();
        let mut state = api.state.lock();
        if state.cuts != self.cuts {
            return true;
        }
        self.changed.mark_unchanged();
        let newest = state.ceiling.unwrap_or(state.store.revision);
        for change in state.store.since(self.route.kind, self.cursor) {
            if change.revision > newest {
                break;
            }
            self.report(change);
        }
        if let Some(last) = self.pending.back_mut()
            && state.garbled.remove(self.route.kind.plural)
        {
            *last = Bytes::from_static(b"{\"type\":\"MODIFIED\",\"object\":7}\n");
        }
        self.cursor = self.cursor.max(newest);
        false
    }

    /// An object that starts or stops matching the selectors comes and goes for this watch.
    fn report(&mut self, change: &Change) {
        if self
            .route
            .namespace
            .as_ref()
            .is_some_and(|namespace| *namespace != change.place.0)
        {
            return;
        }
        let options = &self.route.options;
        let before = change.before.as_deref().filter(|object| options.select(object));
        let after = change.after.as_deref().filter(|object| options.select(object));
        match (before, after) {
            (None, Some(object)) => self.push("ADDED", object),
            (Some(_), Some(object)) => self.push("MODIFIED", object),
            (Some(object), None) => {
                let mut last = object.clone();
                last["metadata"]["resourceVersion"] = change.revision.to_string().into();
                self.push("DELETED", &last);
            }
            (None, None) => {}
        }
    }

    fn push(&mut self, event: &str, object: &Value) {
        self.push_line(event, &self.form.object(object));
    }

    fn push_line(&mut self, event: &str, object: &Value) {
        let line = format!("{}\n", json!({"type": event, "object": object}));
        self.pending.push_back(line.into());
    }

    fn push_bookmark(&mut self, revision: u64, annotations: Option<Value>) {
        let kind = self.route.kind;
        let mut meta = json!({"resourceVersion": revision.to_string()});
        if let Some(annotations) = annotations {
            meta["annotations"] = annotations;
        }
        let bookmark = json!({"kind": kind.kind, "apiVersion": kind.api_version(), "metadata": meta});
        self.push("BOOKMARK", &bookmark);
    }
}
