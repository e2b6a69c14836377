//! The objects that need work, and the line in which they wait for it.
//!
//! A hot set holds only rows that are ours and unfinished, under their UID: an object recreated under an old name is
//! another object. `kube_runtime`'s applier takes the rows from the reflector store in here; which of them wait, since
//! when, and how often they failed is kept beside it, because applier knows none of that.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::{ClusterResourceScope, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Resource,
    runtime::{
        reflector::{
            ObjectRef,
            store::{Store, Writer},
        },
        watcher::Event,
    },
};
use tokio::sync::mpsc;

/// Something happened to the line of a hot set, with the UID it happened to. Feeds the `workqueue_*` metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineEvent<'a> {
    /// An object joined the line.
    Added(&'a str),
    /// Its turn came.
    Started(&'a str),
    /// Its turn is over.
    Finished(&'a str),
    /// It will be tried again after a failure.
    Retried,
    /// It left the line without a turn.
    Dropped(&'a str),
}

/// Who hears of [`LineEvent`]s, in the order in which they happen.
pub type OnLine = Box<dyn Fn(LineEvent<'_>) + Send + Sync>;

/// A row as applier wants it: an object whose name is the UID.
#[derive(Debug)]
pub(super) struct Item<R> {
    meta: ObjectMeta,
    pub(super) row: Arc<R>,
}

impl<R> Clone for Item<R> {
    fn clone(&self) -> Self {
        Self {
            meta: self.meta.clone(),
            row: self.row.clone(),
        }
    }
}

impl<R> Resource for Item<R> {
    type DynamicType = ();
    type Scope = ClusterResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        std::any::type_name::<R>().into()
    }
    fn group((): &()) -> Cow<'_, str> {
        "hot".into()
    }
    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }
    fn plural((): &()) -> Cow<'_, str> {
        Cow::Borrowed("")
    }
    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

struct Line<R: 'static> {
    writer: Writer<Item<R>>,
    /// Where the running loop hears of work, while one runs.
    api: Option<mpsc::UnboundedSender<ObjectRef<Item<R>>>>,
    waiting: HashSet<String>,
    failures: HashMap<String, u32>,
}

/// Rows that need work, by UID.
pub struct HotSet<R: 'static> {
    store: Store<Item<R>>,
    line: Mutex<Line<R>>,
    /// Called with the line locked, so that nobody hears of a turn before they heard of the waiting.
    tell: OnLine,
}

impl<R: Send + Sync + 'static> HotSet<R> {
    /// An empty set. `tell` must not come back to the set.
    pub fn new(tell: OnLine) -> Arc<Self> {
        let mut writer = Writer::default();
        clear(&mut writer);
        Arc::new(Self {
            store: writer.as_reader(),
            line: Mutex::new(Line {
                writer,
                api: None,
                waiting: HashSet::new(),
                failures: HashMap::new(),
            }),
            tell,
        })
    }

    /// Puts a row in, or a newer one in its place, and lines it up: a change is a reason to look at once.
    pub fn put(&self, uid: &str, row: R) {
        self.keep(uid, row);
        self.wake(uid);
    }

    /// Puts a row in, or a newer one in its place, without a reason to look at it now.
    pub fn keep(&self, uid: &str, row: R) {
        let item = Item {
            meta: meta(uid),
            row: Arc::new(row),
        };
        self.line().writer.apply_watcher_event(&Event::Apply(item));
    }

    /// Takes a row out, with what was remembered about its failures.
    pub fn remove(&self, uid: &str) -> Option<Arc<R>> {
        let mut line = self.line();
        let row = self.get(uid)?;
        if line.waiting.remove(uid) {
            (self.tell)(LineEvent::Dropped(uid));
        }
        line.failures.remove(uid);
        line.writer.apply_watcher_event(&Event::Delete(Item {
            meta: meta(uid),
            row: row.clone(),
        }));
        if self.is_empty() {
            // Maps do not shrink by themselves: without this, one burst would cost its memory for ever.
            clear(&mut line.writer);
            (line.waiting, line.failures) = (HashSet::new(), HashMap::new());
        }
        Some(row)
    }

    /// The row under this UID.
    pub fn get(&self, uid: &str) -> Option<Arc<R>> {
        self.store.get(&ObjectRef::new(uid)).map(|item| item.row.clone())
    }

    /// All rows.
    pub fn rows(&self) -> Vec<Arc<R>> {
        self.store
            .state()
            .into_iter()
            .map(|item| item.row.clone())
            .collect()
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.store.len()
    }

    /// No row needs work.
    pub fn is_empty(&self) -> bool {
        self.store.is_empty()
    }

    /// Lines a row up, unless it waits already or no loop runs.
    pub fn wake(&self, uid: &str) {
        let mut line = self.line();
        if line.api.is_some() && self.get(uid).is_some() && line.waiting.insert(uid.to_owned()) {
            (self.tell)(LineEvent::Added(uid));
            // The receiver can only be gone while the loop is being dropped; the next one lines everything up anew.
            let _ = line.api.as_ref().map(|api| api.send(ObjectRef::new(uid)));
        }
    }

    /// Opens the line for a loop: everything that is hot waits from now on.
    pub(super) fn open(&self) -> mpsc::UnboundedReceiver<ObjectRef<Item<R>>> {
        let (api, work) = mpsc::unbounded_channel();
        let mut line = self.line();
        self.send_away(&mut line);
        line.api = Some(api);
        drop(line);
        for item in self.store.state() {
            self.wake(item.meta.name.as_deref().unwrap_or_default());
        }
        work
    }

    /// Closes the line, whose loop has been dropped.
    pub(super) fn close(&self) {
        let mut line = self.line();
        // Another loop may have opened it anew already.
        if line.api.as_ref().is_some_and(mpsc::UnboundedSender::is_closed) {
            line.api = None;
            self.send_away(&mut line);
        }
    }

    fn send_away(&self, line: &mut Line<R>) {
        for uid in line.waiting.drain() {
            (self.tell)(LineEvent::Dropped(&uid));
        }
    }

    pub(super) fn store(&self) -> Store<Item<R>> {
        self.store.clone()
    }

    /// An object's delay ran out, so applier brought it back without going through the line: it waits from now on.
    pub(super) fn queue(&self, uid: &str) {
        let mut line = self.line();
        if self.get(uid).is_some() && line.waiting.insert(uid.to_owned()) {
            (self.tell)(LineEvent::Added(uid));
        }
    }

    /// An object's turn has come; `None` if it left meanwhile.
    pub(super) fn start(&self, uid: &str) -> Option<Arc<R>> {
        let mut line = self.line();
        let row = self.get(uid)?;
        if !line.waiting.remove(uid) {
            // It left and came back while it waited.
            (self.tell)(LineEvent::Added(uid));
        }
        (self.tell)(LineEvent::Started(uid));
        Some(row)
    }

    /// An object's turn is over.
    pub(super) fn finish(&self, uid: &str) {
        let _line = self.line();
        (self.tell)(LineEvent::Finished(uid));
    }

    /// Counts a failure and returns how many came before it.
    pub(super) fn failed(&self, uid: &str) -> u32 {
        let mut line = self.line();
        (self.tell)(LineEvent::Retried);
        if self.get(uid).is_none() {
            return 0;
        }
        let count = line.failures.entry(uid.to_owned()).or_default();
        let before = *count;
        *count = count.saturating_add(1);
        before
    }

    /// Forgets the failures of an object.
    pub(super) fn succeeded(&self, uid: &str) {
        self.line().failures.remove(uid);
    }

    /// How many are remembered as waiting and as failed.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> (usize, usize) {
        let line = self.line();
        (line.waiting.len(), line.failures.len())
    }

    fn line(&self) -> MutexGuard<'_, Line<R>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Only ever for an empty store: what a relist no longer shows is removed row by row.
fn clear<R: Send + Sync + 'static>(writer: &mut Writer<Item<R>>) {
    writer.apply_watcher_event(&Event::Init);
    writer.apply_watcher_event(&Event::InitDone);
}

fn meta(uid: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(uid.to_owned()),
        ..ObjectMeta::default()
    }
}
