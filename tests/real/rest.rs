//! Whether everything has come to rest, and what is left then: at the driver, in the API server, in the ledger.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::{ResourceExt as _, api::ListParams};
use tokio::time::{Instant, sleep};

use crate::{
    driver::Driver,
    ledger::LedgerSeen,
    world::{World, text},
};

/// Longer than a late driver takes, and than erasures of the ledger wait.
const STABLE: Duration = Duration::from_millis(1500);
/// Longer than any pause of a sidecar with the flags of these scenarios, a lease that must run out among them, and than
/// two of kube-controller-manager: a volume whose claim is gone may stay Pending until it looks at all of them again,
/// which is every 15 s.
const STUCK: Duration = Duration::from_secs(40);

/// What there is at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Rest {
    /// Handles at the driver.
    pub(crate) volumes: BTreeSet<String>,
    /// Handles of the PersistentVolumes.
    pub(crate) objects: BTreeSet<String>,
    /// How many PersistentVolumes: two may have one handle.
    pub(crate) object_count: usize,
    /// Those that are not Bound, with their phase.
    pub(crate) loose: BTreeSet<String>,
    pub(crate) bound: BTreeSet<String>,
    pub(crate) unbound: BTreeSet<String>,
    pub(crate) ledger: LedgerSeen,
    /// Of volumes so far, as they began and as they ended; a driver is asked how it is all the time.
    calls: usize,
}

impl Rest {
    pub(crate) async fn look(world: &World, driver: &Driver) -> Result<Self, String> {
        let claims = world.claims.list(&ListParams::default()).await.map_err(text)?;
        let is_bound = |claim: &PersistentVolumeClaim| {
            claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound")
        };
        let (bound, unbound): (Vec<_>, Vec<_>) = claims.into_iter().partition(is_bound);
        let names =
            |claims: Vec<PersistentVolumeClaim>| claims.iter().map(|claim| claim.name_any()).collect();
        let objects = world.volumes_of(&driver.name).await?;
        let handle = |volume: &PersistentVolume| volume.spec.clone()?.csi.map(|csi| csi.volume_handle);
        let loose = |volume: &PersistentVolume| {
            let phase = volume.status.as_ref()?.phase.clone()?;
            let doomed = volume.metadata.deletion_timestamp.is_some();
            let deleted = if doomed { ", deleted" } else { "" };
            (phase != "Bound").then(|| format!("{}: {phase}{deleted}", volume.name_any()))
        };
        Ok(Self {
            loose: objects.iter().filter_map(loose).collect(),
            object_count: objects.len(),
            objects: objects.iter().filter_map(handle).collect(),
            bound: names(bound),
            unbound: names(unbound),
            ledger: world.ledger().await?,
            // Last, so that nothing can have been called that is not among the objects yet and counts as forgotten for
            // longer than one look.
            calls: driver
                .lines()
                .iter()
                .filter(|call| matches!(call.method.as_str(), "CreateVolume" | "DeleteVolume"))
                .count(),
            volumes: driver.volumes(),
        })
    }

    /// Each volume has its object and each object its claim; nothing is under way.
    pub(crate) fn is_clean(&self) -> bool {
        self.volumes == self.objects
            && self.object_count == self.bound.len()
            && self.objects.len() == self.object_count
            && self.unbound.is_empty()
            && self.ledger.is_empty()
    }

    /// Volumes at the driver that no object speaks of.
    pub(crate) fn forgotten(&self) -> BTreeSet<String> {
        &self.volumes - &self.objects
    }

    /// Waits until nothing changes any more, for better or worse.
    pub(crate) async fn wait(world: &World, driver: &Driver, limit: Duration) -> Self {
        let end = Instant::now() + limit;
        let mut since = Instant::now();
        let mut last = None;
        loop {
            // An answer that fails is asked for again.
            if let Ok(now) = Self::look(world, driver).await {
                let enough = if now.is_clean() { STABLE } else { STUCK };
                if last.as_ref() != Some(&now) {
                    last = Some(now);
                    since = Instant::now();
                }
                if since.elapsed() >= enough || Instant::now() >= end {
                    return last.unwrap();
                }
            }
            sleep(Duration::from_millis(200)).await;
        }
    }
}

/// Which processes have called CreateVolume for each volume, by handle.
pub(crate) fn makers(driver: &Driver) -> BTreeMap<String, BTreeSet<u32>> {
    let lines = driver.lines();
    let creations = || lines.iter().filter(|call| call.method == "CreateVolume");
    let mut callers: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
    for call in creations() {
        callers
            .entry(call.request["name"].to_string())
            .or_default()
            .insert(call.pid);
    }
    creations()
        .filter(|call| call.code == "OK")
        .map(|call| {
            let name = call.request["name"].to_string();
            (call.volume_id.clone(), callers[&name].clone())
        })
        .collect()
}
