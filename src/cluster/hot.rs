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

/// Who hears of [`LineEvent`]s.
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

struct Line<R> {
    /// Where the running loop hears of work, while one runs.
    door: Option<mpsc::UnboundedSender<ObjectRef<Item<R>>>>,
    waiting: HashSet<String>,
    failures: HashMap<String, u32>,
    known: HashSet<String>,
}

/// Rows that need work, by UID.
pub struct HotSet<R: 'static> {
    store: Store<Item<R>>,
    writer: Mutex<Writer<Item<R>>>,
    line: Mutex<Line<R>>,
    tell: OnLine,
}

impl<R: Send + Sync + 'static> HotSet<R> {
    /// An empty set.
    pub fn new(tell: OnLine) -> Arc<Self> {
        let mut writer = Writer::default();
        // The store is never swapped as a whole: what a relist no longer shows is removed row by row, so one empty
        // list at the beginning is all it ever sees of one.
        writer.apply_watcher_event(&Event::Init);
        writer.apply_watcher_event(&Event::InitDone);
        let line = Line {
            door: None,
            waiting: HashSet::new(),
            failures: HashMap::new(),
            known: HashSet::new(),
        };
        Arc::new(Self {
            store: writer.as_reader(),
            writer: Mutex::new(writer),
            line: Mutex::new(line),
            tell,
        })
    }

    /// Puts a row in, or a newer one in its place, and lines it up: a change is a reason to look at once.
    pub fn put(&self, uid: &str, row: R) {
        self.line().known.insert(uid.to_owned());
        self.write(&Event::Apply(Item {
            meta: meta(uid),
            row: Arc::new(row),
        }));
        self.wake(uid);
    }

    /// Takes a row out, with what was remembered about its failures.
    pub fn remove(&self, uid: &str) -> Option<Arc<R>> {
        let row = self.get(uid)?;
        let mut line = self.line();
        line.known.remove(uid);
        line.failures.remove(uid);
        let waited = line.waiting.remove(uid);
        drop(line);
        self.write(&Event::Delete(Item {
            meta: meta(uid),
            row: row.clone(),
        }));
        if waited {
            (self.tell)(LineEvent::Dropped(uid));
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
        let Some(door) = line.door.clone() else { return };
        if !line.known.contains(uid) || !line.waiting.insert(uid.to_owned()) {
            return;
        }
        // The receiver can only be gone while the loop is being dropped; the next one lines everything up anew.
        let _ = door.send(ObjectRef::new(uid));
        drop(line);
        (self.tell)(LineEvent::Added(uid));
    }

    /// Opens the line for a loop: everything that is hot waits from now on.
    pub(super) fn open(&self) -> mpsc::UnboundedReceiver<ObjectRef<Item<R>>> {
        let (door, work) = mpsc::unbounded_channel();
        let mut line = self.line();
        line.door = Some(door);
        let stale: Vec<String> = line.waiting.drain().collect();
        let known: Vec<String> = line.known.iter().cloned().collect();
        drop(line);
        stale.iter().for_each(|uid| (self.tell)(LineEvent::Dropped(uid)));
        known.iter().for_each(|uid| self.wake(uid));
        work
    }

    /// Closes the line: no loop takes from it any more.
    pub(super) fn close(&self) {
        self.line().door = None;
    }

    pub(super) fn store(&self) -> Store<Item<R>> {
        self.store.clone()
    }

    /// An object's turn has come.
    pub(super) fn started(&self, uid: &str) {
        if !self.line().waiting.remove(uid) {
            // Its delay ran out: applier brought it back without going through the line.
            (self.tell)(LineEvent::Added(uid));
        }
        (self.tell)(LineEvent::Started(uid));
    }

    /// An object's turn is over.
    pub(super) fn finished(&self, uid: &str) {
        (self.tell)(LineEvent::Finished(uid));
    }

    /// Counts a failure and returns how many came before it.
    pub(super) fn failed(&self, uid: &str) -> u32 {
        (self.tell)(LineEvent::Retried);
        let mut line = self.line();
        if !line.known.contains(uid) {
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

    fn write(&self, event: &Event<Item<R>>) {
        self.writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .apply_watcher_event(event);
    }

    fn line(&self) -> MutexGuard<'_, Line<R>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn meta(uid: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(uid.to_owned()),
        ..ObjectMeta::default()
    }
}
