//! One item: the driver is asked, and the object says what it answers.

use std::time::Duration;

use super::{
    diff::{self, Change, Room},
    reconcile::Capacity,
    segments::{WorkItem, labels},
};
use crate::{
    base::{
        api_error::{ApiError, Reason},
        parameters,
        segment::Segment,
    },
    cluster::{
        api::{CapacityValues, UpdateOutcome},
        objects::{Class, StorageCapacity},
        queue::Requeue,
    },
    csi::proto::{GetCapacityRequest, Topology},
};

/// How long an object that was created may take to be seen, until another one is created.
const UNSEEN: Duration = Duration::from_secs(30);

/// Why an item has not got the object that it should have.
#[derive(Debug)]
enum Complaint {
    /// A request to the API server failed.
    Api(ApiError),
    /// The driver, or the class.
    Room(String),
}

impl From<ApiError> for Complaint {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

impl Capacity {
    /// Reconciles the objects of the item of this key.
    pub async fn reconcile(&self, key: &str) -> Requeue {
        let Some(item) = WorkItem::from_key(key) else {
            return Requeue::AwaitChange;
        };
        match self.publish(&item).await {
            Ok(requeue) => {
                self.state.lock().failing.remove(key);
                requeue
            }
            Err(complaint) => {
                self.complain(&item, &complaint);
                let mut state = self.state.lock();
                if state.desired.contains(&item.class, item.segment.as_ref()) {
                    state.failing.insert(key.to_owned());
                } else {
                    state.failing.remove(key);
                }
                Requeue::Backoff
            }
        }
    }

    async fn publish(&self, item: &WorkItem) -> Result<Requeue, Complaint> {
        if !self.active.is_set() {
            return Ok(Requeue::AwaitChange);
        }
        let wanted = self
            .state
            .lock()
            .desired
            .contains(&item.class, item.segment.as_ref());
        let objects = self.cache.capacities_like(&item.class, item.segment.as_ref());
        let (kept, surplus) = diff::keep(&objects, wanted);
        if !wanted {
            self.state.lock().rooms.remove(item);
        }
        for object in surplus {
            self.delete(object).await?;
        }
        let (Some(segment), Some(class)) = (&item.segment, self.cache.class(&item.class)) else {
            return Ok(Requeue::AwaitChange);
        };
        if !wanted {
            return Ok(Requeue::AwaitChange);
        }
        let room = self.room(&class, segment).await.map_err(Complaint::Room)?;
        self.state.lock().rooms.insert(item.clone(), room);
        self.write(item, segment, kept.map(|object| &**object), room)
            .await
    }

    async fn delete(&self, object: &StorageCapacity) -> Result<(), ApiError> {
        if !self.active.is_set() {
            return Ok(());
        }
        let namespace = &self.publication.namespace;
        self.api
            .delete_capacity(namespace, &object.name, &object.uid)
            .await
    }

    /// Asks the driver. It gets the parameters that CreateVolume gets.
    async fn room(&self, class: &Class, segment: &Segment) -> Result<Room, String> {
        let parameters = parameters::parameters(&class.parameters).map_err(|error| error.to_string())?;
        let request = GetCapacityRequest {
            parameters: parameters.into_iter().collect(),
            accessible_topology: Some(Topology {
                segments: segment.clone().into(),
            }),
            ..GetCapacityRequest::default()
        };
        let answer = self.driver.get_capacity(request).await;
        let answer = answer.map_err(|error| error.to_string())?;
        Room::try_from(answer).map_err(|error| error.to_string())
    }

    async fn write(
        &self,
        item: &WorkItem,
        segment: &Segment,
        object: Option<&StorageCapacity>,
        room: Room,
    ) -> Result<Requeue, Complaint> {
        let owner = self.state.lock().owner.clone();
        let values = CapacityValues {
            capacity: room.capacity,
            maximum_volume_size: room.maximum,
            owner: owner.as_ref(),
        };
        let (namespace, ours) = (&self.publication.namespace, &self.publication.labels);
        let change = diff::change(object, room, owner.as_ref().map(|owner| owner.uid.as_str()));
        if !self.active.is_set() {
            return Ok(Requeue::AwaitChange);
        }
        match (change, object) {
            (Change::Create, _) => {
                if let Some(left) = self.unseen(item) {
                    return Ok(Requeue::After(left));
                }
                let created = self
                    .api
                    .create_capacity(namespace, ours, &item.class, &labels(segment), values)
                    .await?;
                self.created(item, created);
            }
            (Change::Update, Some(object)) => {
                let updated = self
                    .api
                    .update_capacity(namespace, &object.name, &object.uid, ours, values)
                    .await;
                match updated {
                    // If it was overtaken, the watch will say how it is now.
                    Ok(UpdateOutcome::Done | UpdateOutcome::Overtaken) => {}
                    Err(error) if error.reason == Reason::Conflict => return Ok(Requeue::Backoff),
                    Err(error) => return Err(error.into()),
                }
            }
            (Change::Update, None) | (Change::Nothing, _) => {}
        }
        Ok(Requeue::AwaitChange)
    }

    /// An object was created. The watch may have told of it already.
    fn created(&self, item: &WorkItem, uid: String) {
        if self.cache.capacity(&uid).is_none() {
            let mut state = self.state.lock();
            state
                .unseen
                .insert(item.clone(), (uid, tokio::time::Instant::now()));
        }
    }

    /// How long to wait for an object to be seen that was created, instead of creating one more.
    fn unseen(&self, item: &WorkItem) -> Option<Duration> {
        let mut state = self.state.lock();
        let (uid, since) = state.unseen.get(item)?;
        let left = UNSEEN.saturating_sub(since.elapsed());
        if left.is_zero() || self.cache.capacity(uid).is_some() {
            state.unseen.remove(item);
            return None;
        }
        Some(left)
    }

    /// Thousands of items fail for one reason: it is said once, and again while it lasts.
    fn complain(&self, item: &WorkItem, complaint: &Complaint) {
        let (who, kind, text) = match complaint {
            Complaint::Api(error) => ("API server", format!("{:?}", error.reason), error.to_string()),
            Complaint::Room(text) => ("driver", text.clone(), text.clone()),
        };
        let segment = item.segment.as_ref().map(ToString::to_string).unwrap_or_default();
        let mut state = self.state.lock();
        let reminder = state.complaints.entry(who).or_default();
        if reminder.is_due(&kind, self.origin.elapsed()) {
            tracing::warn!(
                class = item.class,
                segment,
                "storage capacity cannot be published, and perhaps others not either: {text}"
            );
        } else {
            tracing::debug!(
                class = item.class,
                segment,
                "storage capacity cannot be published: {text}"
            );
        }
    }
}
