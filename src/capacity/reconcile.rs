//! One item: the driver is asked, and the object says what it answers.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    diff::{self, Change, Goal},
    segments::{Desired, WorkItem},
};
use crate::{
    base::{
        api_error::{ApiError, Reason},
        backoff::Backoff,
        parameters,
        reminder::Reminder,
        segment::Segment,
    },
    cluster::{
        active::Active,
        api::{ApiClient, CapacityObject},
        cache::{Cache, ROLL_OUT},
        migration::class_for_driver,
        objects::{CapacityValues, Class},
        queue::Requeue,
        workers::WorkerPool,
    },
    csi::{Driver, proto::GetCapacityRequest},
};

/// What is published, and how.
#[derive(Clone, Debug)]
pub struct Publication {
    /// Where the objects are.
    pub namespace: String,
    /// Which of them are ours.
    pub labels: BTreeMap<String, String>,
    /// Also for classes that bind at once.
    pub immediate: bool,
    /// How often everything is asked for again; above zero.
    pub poll_interval: Duration,
    /// Name of our pod, and how many levels above it the owner of the objects is.
    pub owner: Option<(String, u32)>,
    /// Delays after failures.
    pub backoff: Backoff,
}

/// The controller that publishes capacity.
pub struct Capacity {
    pub(super) driver: Driver,
    pub(super) api: ApiClient,
    pub(super) cache: Arc<Cache>,
    pub(super) active: Active,
    pub(super) publication: Publication,
    /// By the key of an item.
    pub(super) pool: Arc<WorkerPool>,
    /// With one key: what is wanted is to be looked at anew.
    pub(super) topology_pool: Arc<WorkerPool>,
    pub(super) state: Mutex<CapacityState>,
    /// The moments in `state` count from here.
    origin: Instant,
}

/// What the controller remembers while it runs.
#[derive(Default)]
pub(super) struct CapacityState {
    /// `None`: it does not run.
    pub(super) desired: Option<Desired>,
    /// What could not be watched any more at the last poll.
    pub(super) refused: Vec<String>,
    /// Once it has been found.
    pub(super) owner: Option<OwnerReference>,
    /// The resourceVersion that the server showed last, of items that were written.
    versions: HashMap<WorkItem, String>,
    /// Segments that were wanted and are not any more.
    pub(super) removed: BTreeSet<Segment>,
    /// Names of the classes that have changed since it was looked what is wanted.
    pub(super) changed_classes: HashSet<String>,
    /// Items whose object somebody else has deleted since the last poll.
    pub(super) lost: HashSet<WorkItem>,
    /// Items whose last attempt failed.
    pub(super) failing: HashSet<WorkItem>,
    /// What went wrong lately: one line in the log for all items together.
    failures: HashMap<(&'static str, String), Reminder<()>>,
}

impl CapacityState {
    pub(super) fn wants(&self, item: &WorkItem) -> bool {
        self.desired
            .as_ref()
            .is_some_and(|desired| desired.contains(item))
    }
}

/// Why an item has not got the object that it should have.
#[derive(Debug)]
struct Failure {
    /// The request that failed.
    request: &'static str,
    /// How; the text may differ each time.
    kind: String,
    text: String,
}

impl Failure {
    fn api(request: &'static str, error: &ApiError) -> Self {
        let kind = match error.reason {
            Reason::TooManyRequests(_) => "TooManyRequests".to_owned(),
            reason => format!("{reason:?}"),
        };
        let text = error.to_string();
        Self { request, kind, text }
    }

    fn answer(kind: impl Into<String>, error: &dyn std::error::Error) -> Self {
        Self {
            request: "GetCapacity",
            kind: kind.into(),
            text: error.to_string(),
        }
    }
}

impl Capacity {
    /// `pool` works on the keys of items, `topology_pool` on changes of nodes and classes; `active` says whether driver and
    /// API server may be called.
    pub fn new(
        driver: Driver,
        api: ApiClient,
        cache: Arc<Cache>,
        active: Active,
        publication: Publication,
        pool: Arc<WorkerPool>,
        topology_pool: Arc<WorkerPool>,
    ) -> Self {
        Self {
            driver,
            api,
            cache,
            active,
            publication,
            pool,
            topology_pool,
            state: Mutex::default(),
            origin: Instant::now(),
        }
    }

    /// Reconciles the objects of the item of this key.
    pub(super) async fn reconcile(&self, key: &str) -> Requeue {
        let Some(item) = WorkItem::from_key(key) else {
            return Requeue::AwaitChange;
        };
        if let Some(left) = self.spared_for(&item) {
            return Requeue::After(left);
        }
        let failures = self.publish(&item).await;
        let failed = !failures.is_empty();
        for failure in failures {
            self.report(&item, &failure);
        }
        let mut state = self.state.lock();
        match failed && state.wants(&item) {
            true => state.failing.insert(item),
            false => state.failing.remove(&item),
        };
        match failed {
            true => Requeue::Backoff,
            false => Requeue::AwaitChange,
        }
    }

    /// How long the objects of an item that is not wanted stand still. Nobody remembers registrations that vanished
    /// before the process began, so where none has been seen a roll-out of the node plugin may be under way; what says
    /// that the driver was there are the objects.
    fn spared_for(&self, item: &WorkItem) -> Option<Duration> {
        let left = ROLL_OUT.saturating_sub(self.origin.elapsed());
        let state = self.state.lock();
        let (desired, segment) = (state.desired.as_ref()?, item.segment.as_ref()?);
        let is_unknown =
            desired.has_class(&item.class) && !desired.contains(item) && !state.removed.contains(segment);
        (is_unknown && !left.is_zero()).then_some(left)
    }

    async fn publish(&self, item: &WorkItem) -> Vec<Failure> {
        let mut failures = Vec::new();
        // Without it the term has ended, and what the next one wants is not known yet.
        let Some(wanted) = self.state.lock().desired.as_ref().map(|all| all.contains(item)) else {
            return failures;
        };
        let values = match (&item.segment, self.cache.class(&item.class)) {
            (Some(segment), Some(class)) if wanted => match self.ask(&class, segment).await {
                Ok(values) => values,
                Err(failure) => {
                    failures.push(failure);
                    None
                }
            },
            _ => None,
        };
        // The driver may have taken its time.
        let objects = self.cache.capacities_like(&item.class, item.segment.as_ref());
        let (owner, version) = {
            let mut state = self.state.lock();
            let version = match wanted {
                true => state.versions.get(item).cloned(),
                false => state.versions.remove(item),
            };
            (state.owner.clone(), version)
        };
        let goal = wanted.then(|| Goal {
            values,
            owner: owner.as_ref().map(|owner| owner.uid.as_str()),
            version: version.as_deref(),
        });
        let writes = diff::writes(&objects, goal);
        if let Err(failure) = self.write(item, writes.change, owner.as_ref()).await {
            failures.push(failure);
        }
        for object in writes.obsolete {
            let namespace = &self.publication.namespace;
            let deleted = self
                .api
                .delete_capacity(namespace, &object.name, &object.uid, &self.active)
                .await;
            failures.extend(deleted.err().map(|error| Failure::api("delete", &error)));
        }
        failures
    }

    /// Asks the driver, unless we are not active. It gets the parameters that CreateVolume gets.
    async fn ask(&self, class: &Class, segment: &Segment) -> Result<Option<CapacityValues>, Failure> {
        let is_migrated = class.provisioner != self.cache.driver();
        let class =
            class_for_driver(class, self.cache.driver()).map_err(|error| Failure::answer("class", &error))?;
        let parameters = parameters::parameters(&class.parameters)
            .map_err(|error| Failure::answer("parameters", &error))?;
        let request = GetCapacityRequest {
            parameters,
            accessible_topology: Some(segment.into()),
            ..GetCapacityRequest::default()
        };
        if !self.active.is_set() {
            return Ok(None);
        }
        let Ok(answer) = self.driver.migrated(is_migrated).get_capacity(request).await else {
            return Ok(None);
        };
        let answer = answer.map_err(|error| Failure::answer(error.code.to_string(), &error))?;
        let values = diff::values(&answer).map_err(|error| Failure::answer("negative", &error))?;
        Ok(Some(values))
    }

    async fn write(
        &self,
        item: &WorkItem,
        change: Change<'_>,
        owner: Option<&OwnerReference>,
    ) -> Result<(), Failure> {
        let Some(segment) = &item.segment else {
            return Ok(());
        };
        let object = |values| CapacityObject {
            namespace: &self.publication.namespace,
            labels: &self.publication.labels,
            owner,
            class: &item.class,
            segment,
            values,
        };
        let (api, active) = (&self.api, &self.active);
        let written = match change {
            Change::Nothing => return Ok(()),
            Change::Create(values) => {
                let created = api.create_capacity(&object(values), active).await;
                created.map_err(|error| Failure::api("create", &error))?
            }
            Change::Update(there, values) => {
                let new = object(values);
                let updated = api.update_capacity(&new, &there.name, &there.uid, active).await;
                updated.map_err(|error| Failure::api("update", &error))?
            }
        };
        let mut state = self.state.lock();
        match written {
            Some(version) if state.wants(item) => state.versions.insert(item.clone(), version),
            // The watch will say how it is now.
            _ => state.versions.remove(item),
        };
        Ok(())
    }

    /// Thousands of items fail for one reason: it is said once, and again while it lasts.
    fn report(&self, item: &WorkItem, failure: &Failure) {
        let segment = item.segment.as_ref().map(ToString::to_string).unwrap_or_default();
        let Failure { request, kind, text } = failure;
        let is_due = {
            let mut state = self.state.lock();
            let reminder = state.failures.entry((request, kind.clone())).or_default();
            reminder.is_due(&(), self.origin.elapsed())
        };
        if is_due {
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
