//! A cluster without a server: classes, segments, capacity objects, a driver that answers at once.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{collections::BTreeSet, sync::Arc};

use super::{
    diff::{Change, Room, change, keep},
    segments::{Desired, WorkItem},
};
use crate::{
    base::{quantity::from_bytes, segment::Segment},
    cluster::objects::{BindingMode, Class, StorageCapacity},
};

mod answers;
mod properties;
mod refresh;
mod rows;
mod topology;

/// UID of the owner.
const OWNER: &str = "owner";
const GI: i64 = 1 << 30;
const MI: i64 = 1 << 20;

/// `layer0=foo`, or several pairs with commas.
fn segment(text: &str) -> Segment {
    let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
    pairs.collect()
}

fn class(name: &str) -> Class {
    Class {
        name: name.to_owned(),
        binding_mode: Some(BindingMode::WaitForFirstConsumer),
        ..Class::default()
    }
}

#[derive(Clone, Debug, Default)]
struct World {
    classes: Vec<Class>,
    segments: BTreeSet<Segment>,
    immediate: bool,
    /// Objects with the labels of this sidecar: the others are not even listed.
    objects: Vec<Arc<StorageCapacity>>,
    /// Whether objects are to have one.
    owner: bool,
    /// Bytes, and the largest volume, by segment; a class whose name begins with `triple` has three times as much.
    room: Vec<(Segment, i64, Option<i64>)>,
    created: usize,
    updated: usize,
    deleted: usize,
}

impl World {
    fn new(segments: &[(&str, i64)], classes: &[&str]) -> Self {
        Self {
            classes: classes.iter().map(|name| class(name)).collect(),
            segments: segments.iter().map(|(text, _)| segment(text)).collect(),
            owner: true,
            room: segments
                .iter()
                .map(|(text, bytes)| (segment(text), *bytes, None))
                .collect(),
            ..Self::default()
        }
    }

    /// An object that is there before us.
    fn object(mut self, uid: &str, class: &str, text: &str, bytes: i64, owner: bool) -> Self {
        self.objects.push(Arc::new(StorageCapacity {
            name: uid.to_owned(),
            uid: uid.to_owned(),
            class: class.to_owned(),
            segment: Some(segment(text)),
            capacity: Some(from_bytes(bytes)),
            maximum_volume_size: None,
            owners: owner.then(|| OWNER.to_owned()).into_iter().collect(),
        }));
        self
    }

    fn desired(&self) -> Desired {
        Desired::new(&self.classes, self.segments.clone(), self.immediate)
    }

    fn room(&self, item: &WorkItem) -> Room {
        let segment = item.segment.as_ref().unwrap();
        let found = self.room.iter().find(|(other, ..)| other == segment);
        let (_, bytes, maximum) = found.cloned().unwrap_or_default();
        let times = if item.class.starts_with("triple") { 3 } else { 1 };
        Room {
            capacity: bytes.saturating_mul(times),
            maximum,
        }
    }

    /// Upstream's three gauges.
    fn gauges(&self) -> [usize; 3] {
        let desired = self.desired();
        let (wanted, obsolete): (Vec<_>, Vec<_>) = self
            .objects
            .iter()
            .partition(|object| desired.contains(&object.class, object.segment.as_ref()));
        let current: std::collections::HashSet<_> =
            wanted.iter().map(|object| WorkItem::of(object)).collect();
        [desired.len(), current.len(), obsolete.len()]
    }

    fn items(&self) -> Vec<WorkItem> {
        let mut items: Vec<_> = self.desired().items().collect();
        for object in &self.objects {
            let item = WorkItem::of(object);
            if !items.contains(&item) {
                items.push(item);
            }
        }
        items
    }

    /// Every item is looked at once. Returns how much was written.
    fn round(&mut self) -> usize {
        let before = self.created + self.updated + self.deleted;
        for item in self.items() {
            self.reconcile(&item);
        }
        self.created + self.updated + self.deleted - before
    }

    fn reconcile(&mut self, item: &WorkItem) {
        let of_item = |object: &&Arc<StorageCapacity>| WorkItem::of(object) == *item;
        let objects: Vec<_> = self.objects.iter().filter(of_item).cloned().collect();
        let wanted = self.desired().contains(&item.class, item.segment.as_ref());
        let (kept, surplus) = keep(&objects, wanted);
        self.deleted += surplus.len();
        self.objects
            .retain(|object| surplus.iter().all(|gone| gone.uid != object.uid));
        if !wanted {
            return;
        }
        let room = self.room(item);
        let owner = self.owner.then_some(OWNER);
        match change(kept.map(|object| &**object), room, owner) {
            Change::Nothing => {}
            Change::Create => {
                self.created += 1;
                let uid = format!("new-{}", self.created);
                self.objects.push(Arc::new(StorageCapacity {
                    name: uid.clone(),
                    uid,
                    class: item.class.clone(),
                    segment: item.segment.clone(),
                    capacity: Some(from_bytes(room.capacity)),
                    maximum_volume_size: room.maximum.map(from_bytes),
                    owners: owner.map(str::to_owned).into_iter().collect(),
                }));
            }
            Change::Update => {
                self.updated += 1;
                let uid = kept.unwrap().uid.clone();
                let object = self.objects.iter_mut().find(|object| object.uid == uid).unwrap();
                let object = Arc::make_mut(object);
                object.capacity = Some(from_bytes(room.capacity));
                object.maximum_volume_size = room.maximum.map(from_bytes);
                if let Some(owner) = owner.filter(|owner| !object.owners.iter().any(|it| it == owner)) {
                    object.owners.push(owner.to_owned());
                }
            }
        }
    }

    /// `uid class segment capacity [max] [owner]`, sorted without the UIDs of those that we made.
    fn print(&self) -> Vec<String> {
        let mut lines: Vec<_> = self
            .objects
            .iter()
            .map(|object| {
                let uid = if object.uid.starts_with("new-") {
                    "new"
                } else {
                    &object.uid
                };
                let segment = object.segment.clone().unwrap_or_default();
                let capacity = object.capacity.clone().unwrap_or_default();
                let mut line = format!("{uid} {} {segment} {capacity}", object.class);
                if let Some(maximum) = &object.maximum_volume_size {
                    line += &format!(" max {maximum}");
                }
                for owner in &object.owners {
                    line += &format!(" {owner}");
                }
                line
            })
            .collect();
        lines.sort();
        lines
    }
}
