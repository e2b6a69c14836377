//! A cluster without a server: classes, segments, capacity objects, a driver that answers at once.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    diff::{self, Change, Goal},
    segments::{Desired, WorkItem},
};
use crate::{
    base::{quantity::from_bytes, segment::Segment},
    cluster::objects::{BindingMode, CapacityValues, Class, StorageCapacity},
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
    /// Objects with the labels of this sidecar.
    objects: Vec<Arc<StorageCapacity>>,
    /// Those without: the sidecar does not list them.
    unlabelled: Vec<Arc<StorageCapacity>>,
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
            owners: owner.then(|| OWNER.to_owned()).into_iter().collect(),
            ..StorageCapacity::default()
        }));
        self
    }

    fn desired(&self) -> Desired {
        Desired::new(&self.classes, self.segments.clone(), self.immediate)
    }

    /// What the driver says.
    fn values(&self, item: &WorkItem) -> CapacityValues {
        let segment = item.segment.as_ref().unwrap();
        let found = self.room.iter().find(|(other, ..)| other == segment);
        let (_, bytes, maximum) = found.cloned().unwrap_or_default();
        let times = if item.class.starts_with("triple") { 3 } else { 1 };
        CapacityValues {
            capacity: bytes.saturating_mul(times),
            maximum_volume_size: maximum,
        }
    }

    /// Upstream's three gauges.
    fn gauges(&self) -> [usize; 3] {
        diff::counts(&self.desired(), &self.objects)
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
        let owner = self.owner.then_some(OWNER);
        let goal = self.desired().contains(item).then(|| Goal {
            values: Some(self.values(item)),
            owner,
            version: None,
        });
        let writes = diff::writes(&objects, goal);
        self.deleted += writes.obsolete.len();
        self.objects
            .retain(|object| writes.obsolete.iter().all(|gone| gone.uid != object.uid));
        match writes.change {
            Change::Nothing => {}
            Change::Create(values) => {
                self.created += 1;
                let uid = format!("new-{}", self.created);
                self.objects.push(Arc::new(StorageCapacity {
                    name: uid.clone(),
                    uid,
                    class: item.class.clone(),
                    segment: item.segment.clone(),
                    capacity: Some(from_bytes(values.capacity)),
                    maximum_volume_size: values.maximum_volume_size.map(from_bytes),
                    owners: owner.map(str::to_owned).into_iter().collect(),
                    ..StorageCapacity::default()
                }));
            }
            Change::Update(there, values) => {
                self.updated += 1;
                let mut objects = self.objects.iter_mut();
                let object = objects.find(|object| object.uid == there.uid).unwrap();
                let object = Arc::make_mut(object);
                object.capacity = Some(from_bytes(values.capacity));
                object.maximum_volume_size = values.maximum_volume_size.map(from_bytes);
                if let Some(owner) = owner.filter(|owner| !object.owners.iter().any(|it| it == owner)) {
                    object.owners.push(owner.to_owned());
                }
            }
        }
    }

    /// `uid class segment capacity [max] [owner]` of all that is there, sorted without the UIDs of those that we made.
    fn print(&self) -> Vec<String> {
        let mut lines: Vec<_> = self
            .objects
            .iter()
            .chain(&self.unlabelled)
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
