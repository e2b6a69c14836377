//! Pure. What is to be done about the objects of one item.

use std::sync::Arc;

use crate::{base::quantity, cluster::objects::StorageCapacity, csi::proto::GetCapacityResponse};

/// How much room there is, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// For all volumes together. Zero is worth publishing: there is no room.
    pub capacity: i64,
    /// For one volume, if the driver knows.
    pub maximum: Option<i64>,
}

/// An answer to GetCapacity that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the driver answered GetCapacity with {field} {bytes}, which is below zero")]
pub struct NegativeRoom {
    field: &'static str,
    bytes: i64,
}

impl TryFrom<GetCapacityResponse> for Room {
    type Error = NegativeRoom;

    fn try_from(answer: GetCapacityResponse) -> Result<Self, NegativeRoom> {
        let not_negative = |field, bytes| match bytes {
            0.. => Ok(bytes),
            _ => Err(NegativeRoom { field, bytes }),
        };
        Ok(Self {
            capacity: not_negative("available_capacity", answer.available_capacity)?,
            maximum: answer
                .maximum_volume_size
                .map(|bytes| not_negative("maximum_volume_size", bytes))
                .transpose()?,
        })
    }
}

/// The one object of an item that stays, and those that go: duplicates, or all if the item is not `wanted`.
///
/// Every observer keeps the same one. It need not be made by us: an object is adopted by its class and segment.
pub fn keep(
    objects: &[Arc<StorageCapacity>],
    wanted: bool,
) -> (Option<&Arc<StorageCapacity>>, Vec<&Arc<StorageCapacity>>) {
    let mut objects: Vec<_> = objects.iter().collect();
    objects.sort_by(|a, b| b.uid.cmp(&a.uid));
    let kept = if wanted { objects.pop() } else { None };
    (kept, objects)
}

/// What has to be written so that an item has the right object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It has.
    Nothing,
    /// It has none.
    Create,
    /// Its object says something else, or lacks the owner.
    Update,
}

/// Compares the object of an item with what it should be. `owner` is the UID of the owner that it must have; others may
/// have been added.
pub fn change(object: Option<&StorageCapacity>, room: Room, owner: Option<&str>) -> Change {
    let Some(object) = object else {
        return Change::Create;
    };
    let bytes = |text: &Option<String>| text.as_deref().map(|text| quantity::to_bytes(text).ok());
    let owned = owner.is_none_or(|owner| object.owners.iter().any(|uid| uid == owner));
    let same = bytes(&object.capacity) == Some(Some(room.capacity))
        && bytes(&object.maximum_volume_size) == room.maximum.map(Some);
    if owned && same {
        Change::Nothing
    } else {
        Change::Update
    }
}
