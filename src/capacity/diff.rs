//! Pure. What is to be written about the objects of one item.

use std::{collections::HashSet, sync::Arc};

use super::segments::{Desired, WorkItem};
use crate::{
    base::quantity,
    cluster::objects::{CapacityValues, StorageCapacity},
    csi::proto::GetCapacityResponse,
};

/// An answer to GetCapacity that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the driver answered GetCapacity with {field} {bytes}, which is below zero")]
pub struct NegativeCapacity {
    field: &'static str,
    bytes: i64,
}

/// What an answer of the driver says.
///
/// # Errors
/// [`NegativeCapacity`]
pub fn values(answer: &GetCapacityResponse) -> Result<CapacityValues, NegativeCapacity> {
    let not_negative = |field, bytes| match bytes {
        0.. => Ok(bytes),
        _ => Err(NegativeCapacity { field, bytes }),
    };
    Ok(CapacityValues {
        capacity: not_negative("available_capacity", answer.available_capacity)?,
        maximum_volume_size: answer
            .maximum_volume_size
            .map(|bytes| not_negative("maximum_volume_size", bytes))
            .transpose()?,
    })
}

/// What the one object of a wanted item should be.
#[derive(Clone, Copy, Debug)]
pub struct Goal<'a> {
    /// What the driver said. `None`: it gave no answer, and what is published stays.
    pub values: Option<CapacityValues>,
    /// UID of the owner that it must have; others may have been added.
    pub owner: Option<&'a str>,
    /// The resourceVersion that the server showed last, if it is known. A cache with another one is older or newer, and
    /// does not decide.
    pub version: Option<&'a str>,
}

/// What has to be written so that an item has the right object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// It has, or it is not known what is right.
    Nothing,
    /// It has none, and should say this.
    Create(CapacityValues),
    /// This one says something else or lacks the owner, as far as the cache can tell.
    Update(&'a StorageCapacity, CapacityValues),
}

/// What has to be written about the objects of one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Writes<'a> {
    /// First.
    pub change: Change<'a>,
    /// To be deleted: duplicates, or all if the item is not wanted.
    pub obsolete: Vec<&'a StorageCapacity>,
}

/// Compares the objects of an item with what should be there; `goal` is `None` if nothing should.
///
/// Of several objects every observer keeps the same one. It need not be made by us: an object is adopted by its class
/// and segment.
pub fn writes<'a>(objects: &'a [Arc<StorageCapacity>], goal: Option<Goal<'_>>) -> Writes<'a> {
    let mut obsolete: Vec<&StorageCapacity> = objects.iter().map(|object| &**object).collect();
    obsolete.sort_by(|a, b| b.uid.cmp(&a.uid));
    let change = goal.map_or(Change::Nothing, |goal| match (obsolete.pop(), goal.values) {
        (_, None) => Change::Nothing,
        (None, Some(values)) => Change::Create(values),
        (Some(object), Some(values)) if is_right(object, values, goal) => Change::Nothing,
        (Some(object), Some(values)) => Change::Update(object, values),
    });
    Writes { change, obsolete }
}

fn is_right(object: &StorageCapacity, values: CapacityValues, goal: Goal<'_>) -> bool {
    let bytes = |text: &Option<String>| text.as_deref().map(|text| quantity::to_bytes(text).ok());
    let has = |owner| object.owners.iter().any(|uid| uid == owner);
    goal.version
        .is_none_or(|version| version == object.resource_version)
        && goal.owner.is_none_or(has)
        && bytes(&object.capacity) == Some(Some(values.capacity))
        && bytes(&object.maximum_volume_size) == values.maximum_volume_size.map(Some)
}

/// Upstream's three gauges: items that are wanted, those of them that have an object, and objects that are to go.
pub fn counts(desired: &Desired, objects: &[Arc<StorageCapacity>]) -> [usize; 3] {
    let items = objects.iter().map(|object| WorkItem::of(object));
    let current: HashSet<_> = items.filter(|item| desired.contains(item)).collect();
    [desired.len(), current.len(), objects.len() - current.len()]
}
