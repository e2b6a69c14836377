//! Pure. Which capacity is to be published: the room for volumes of each class in each segment of the cluster.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    base::segment::Segment,
    cluster::objects::{BindingMode, Class, StorageCapacity},
};

/// What one capacity object tells of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WorkItem {
    /// Name of the class.
    pub class: String,
    /// Where. `None` stands for objects that choose nodes in another way than by labels; they are never wanted.
    pub segment: Option<Segment>,
}

impl WorkItem {
    /// What an object tells of.
    pub fn of(object: &StorageCapacity) -> Self {
        Self {
            class: object.class.clone(),
            segment: object.segment.clone(),
        }
    }

    /// Its key in the work queue: equal for equal items, other for others.
    pub fn key(&self) -> String {
        let labels = |segment: &'_ Segment| -> BTreeMap<String, String> { segment.clone().into() };
        let segment = self.segment.as_ref().map(labels);
        serde_json::json!([self.class, segment]).to_string()
    }

    /// The item of a key.
    pub fn from_key(key: &str) -> Option<Self> {
        let (class, segment) =
            serde_json::from_str::<(String, Option<BTreeMap<String, String>>)>(key).ok()?;
        let segment = segment.map(Segment::from);
        Some(Self { class, segment })
    }
}

/// All items that are wanted: each class in each segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    classes: BTreeSet<String>,
    segments: BTreeSet<Segment>,
}

impl Desired {
    /// For these classes, all of them the driver's. The scheduler does not ask for capacity where volumes do not wait
    /// for it, so classes that bind at once are left out, unless `immediate` says otherwise.
    pub fn new<'a>(
        classes: impl IntoIterator<Item = &'a Class>,
        segments: BTreeSet<Segment>,
        immediate: bool,
    ) -> Self {
        let classes = classes.into_iter();
        let classes = classes.filter(|class| immediate || class.binding_mode != Some(BindingMode::Immediate));
        Self {
            classes: classes.map(|class| class.name.clone()).collect(),
            segments,
        }
    }

    /// Whether this is wanted.
    pub fn contains(&self, item: &WorkItem) -> bool {
        let segment = item.segment.as_ref();
        self.classes.contains(&item.class) && segment.is_some_and(|segment| self.segments.contains(segment))
    }

    /// Whether capacity is published for this class.
    pub fn has_class(&self, class: &str) -> bool {
        self.classes.contains(class)
    }

    /// The segments that the other one does not have.
    pub fn segments_without(&self, other: &Self) -> Vec<Segment> {
        self.segments.difference(&other.segments).cloned().collect()
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.classes.len() * self.segments.len()
    }

    /// Nothing is wanted.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All items.
    pub fn items(&self) -> impl Iterator<Item = WorkItem> {
        self.classes.iter().flat_map(|class| self.of_class(class))
    }

    /// Those of a class.
    pub fn of_class(&self, class: &str) -> impl Iterator<Item = WorkItem> {
        let known = self.classes.get(class);
        let segments = known.into_iter().flat_map(|_| &self.segments);
        segments.map(move |segment| WorkItem {
            class: class.to_owned(),
            segment: Some(segment.clone()),
        })
    }

    /// Those in a segment. A part of it, or one that contains it, is another segment (behaviour of the upstream
    /// sidecar).
    pub fn in_segment(&self, segment: &Segment) -> impl Iterator<Item = WorkItem> {
        let known = self.segments.get(segment);
        known.into_iter().flat_map(|segment| {
            self.classes.iter().map(|class| WorkItem {
                class: class.clone(),
                segment: Some(segment.clone()),
            })
        })
    }

    /// The items that only one of the two wants.
    pub fn difference(&self, other: &Self) -> Vec<WorkItem> {
        let only = |one: &Self, other: &Self| {
            let same = one.classes.is_subset(&other.classes) && one.segments.is_subset(&other.segments);
            let items = (!same).then(|| one.items()).into_iter().flatten();
            items.filter(|item| !other.contains(item)).collect::<Vec<_>>()
        };
        let mut items = only(self, other);
        items.extend(only(other, self));
        items
    }
}
