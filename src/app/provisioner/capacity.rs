//! Storage capacity: the controller that publishes it, and what connects that to the others.

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use k8s_openapi::api::core::v1::PersistentVolume;
use tokio_util::task::TaskTracker;

use super::{
    config::{CapacitySettings, Config},
    metrics::Metrics,
};
use crate::{
    base::{backoff::Backoff, names},
    capacity::{
        metrics::{self as families, CapacityCounts},
        reconcile::{Capacity, Publication},
        run::Refresh,
    },
    cluster::{
        active::Active,
        api::ApiClient,
        cache::{Cache, CacheEvent, Need, NodeSource, Watched},
        objects::Volume,
    },
    csi::{Driver, DriverInfo},
    provision::plan::Plan,
    telemetry::metrics::MetricsError,
};

/// The queue of items, by upstream's name in the metrics.
const QUEUE: &str = "csistoragecapacity";
/// The queue of changes of nodes and classes, by upstream's name.
const TOPOLOGY_QUEUE: &str = "csitopology";
/// The label of capacity objects that names the driver.
const DRIVER_NAME: &str = "csi.storage.k8s.io/drivername";
/// The label of capacity objects that names who publishes them.
const MANAGED_BY: &str = "csi.storage.k8s.io/managed-by";
/// Its value, also where this is not the upstream sidecar: its objects are adopted.
const MANAGER: &str = "external-provisioner";
/// Characters that the value of a label may have.
const LABEL_LIMIT: usize = 63;

/// The shortest delay after a failure: volumes may be tried again at once, capacity is not worth it.
const LEAST_DELAY: Duration = Duration::from_secs(1);

/// The settings, if there is something to publish. What is missing is said.
pub(super) fn publishes<'a>(config: &'a Config, driver: &DriverInfo) -> Option<&'a CapacitySettings> {
    let settings = config.capacity.as_ref()?;
    if !driver.get_capacity {
        tracing::warn!(
            "--enable-capacity has no effect: the CSI driver {} does not offer GetCapacity (GET_CAPACITY is missing from \
             its controller's capabilities)",
            driver.name
        );
        return None;
    }
    if config.node.is_some() && driver.node.as_ref().is_none_or(|node| node.segment.is_empty()) {
        tracing::warn!(
            "--enable-capacity has no effect: the CSI driver {} does not say where its node is (NodeGetInfo without \
             accessible_topology), so each node's capacity would count for the whole cluster",
            driver.name
        );
        return None;
    }
    Some(settings)
}

/// Adds what capacity needs to what is watched.
pub(super) fn watch(watched: &mut Watched, settings: &CapacitySettings, driver: &str, node: Option<&str>) {
    let labels = labels(driver, node);
    let labels: Vec<_> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    watched.capacities = Some((settings.namespace.clone(), labels.join(",")));
    watched.node_affinity = true;
    if matches!(watched.nodes, NodeSource::Unwatched) {
        watched.nodes = NodeSource::Watched(Need::Capacity);
    }
}

/// The labels by which a sidecar knows its objects. `node`: the one that it serves, if it serves only one.
fn labels(driver: &str, node: Option<&str>) -> BTreeMap<String, String> {
    let manager = node.map_or_else(
        || MANAGER.to_owned(),
        |node| names::join_within(MANAGER, node, LABEL_LIMIT),
    );
    [
        (DRIVER_NAME.to_owned(), driver.to_owned()),
        (MANAGED_BY.to_owned(), manager),
    ]
    .into()
}

/// What the controller publishes.
pub(super) fn publication(
    settings: &CapacitySettings,
    driver: &str,
    node: Option<&str>,
    backoff: Backoff,
) -> Publication {
    let backoff = Backoff {
        start: backoff.start.max(LEAST_DELAY),
        max: backoff.max.max(LEAST_DELAY),
    };
    Publication {
        namespace: settings.namespace.clone(),
        labels: labels(driver, node),
        immediate: settings.immediate,
        poll_interval: settings.poll_interval,
        owner: settings.owner.clone(),
        backoff,
    }
}

/// The controller, with workers and a rate limiter of its own: it slows nothing else down. Nobody waits for its calls
/// at the end of a term either: none is sent any more then, and one that is under way says what the driver said.
///
/// # Errors
/// Two families of metrics have the same name.
pub(super) fn build(
    settings: &CapacitySettings,
    publication: Publication,
    driver: Driver,
    api: &ApiClient,
    cache: Arc<Cache>,
    active: Active,
    metrics: &Metrics,
) -> Result<Arc<Capacity>, MetricsError> {
    let pool = |name, workers| metrics.worker_pool(name, workers, publication.backoff, TaskTracker::new());
    let (items, topology) = (
        pool(QUEUE, settings.at_once),
        pool(TOPOLOGY_QUEUE, NonZeroUsize::MIN),
    );
    let api = api.with_rate_limit(settings.rate_limit);
    let capacity = Arc::new(Capacity::new(
        driver,
        api,
        cache,
        active,
        publication,
        items,
        topology,
    ));
    let source = Arc::downgrade(&capacity);
    families::register(&metrics.registry, move || {
        source
            .upgrade()
            .map_or_else(CapacityCounts::default, |capacity| capacity.counts())
    })?;
    Ok(capacity)
}

/// Where the others tell the controller what happened. It is built after them, and may not be there at all.
#[derive(Clone, Default)]
pub(super) struct CapacityHook(Arc<OnceLock<Weak<Capacity>>>);

impl CapacityHook {
    /// Once.
    pub(super) fn set(&self, capacity: Option<&Arc<Capacity>>) {
        if let Some(capacity) = capacity {
            let _ = self.0.set(Arc::downgrade(capacity));
        }
    }

    fn capacity(&self) -> Option<Arc<Capacity>> {
        self.0.get()?.upgrade()
    }

    /// Something in the cache changed.
    pub(super) fn on_event(&self, event: CacheEvent<'_>) {
        if let Some(capacity) = self.capacity() {
            capacity.on_event(event);
        }
    }

    /// The driver was asked for a volume, and may have made it.
    pub(super) fn volume_asked_for(&self, plan: &Plan, volume: Option<&PersistentVolume>) {
        let Some(capacity) = self.capacity() else {
            return;
        };
        let class = plan
            .draft
            .spec
            .as_ref()
            .and_then(|spec| spec.storage_class_name.as_deref());
        capacity.refresh(match volume {
            Some(volume) => Refresh::Created(volume),
            None => Refresh::Class(class.unwrap_or_default()),
        });
    }

    /// The driver has deleted a volume. Where a volume was reachable from everywhere, nothing is asked (behaviour of
    /// the upstream sidecar).
    pub(super) fn volume_deleted(&self, volume: &Volume) {
        if let (Some(capacity), Some(terms)) = (self.capacity(), &volume.node_affinity) {
            capacity.refresh(Refresh::Terms(terms));
        }
    }
}
