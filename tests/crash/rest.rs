//! How things stand when nothing moves any more.

use std::{collections::BTreeSet, ops::RangeInclusive};

use sandbox::{
    Driver, World,
    driver::{INCARNATION, Volume},
};
use serde_json::Value;

use crate::sidecar::{CLAIMS, DRIVER, VOLUMES, text};
use crate::sources::is_protected;

/// The driver of the scenarios of migration.
const EBS: &str = "ebs.csi.aws.com";

/// What a scenario expects at its end.
#[derive(Clone, Debug)]
pub(crate) struct Rest {
    /// Objects of volumes.
    pub(crate) volumes: RangeInclusive<usize>,
    /// Records that are held.
    pub(crate) held: RangeInclusive<usize>,
    /// Records that are open still.
    pub(crate) open: RangeInclusive<usize>,
    /// Released volumes that must not be deleted.
    pub(crate) stuck: usize,
    /// Objects whose volume is gone.
    pub(crate) hollow: usize,
}

impl Rest {
    /// So many volumes, and nothing open or held.
    pub(crate) const fn volumes(count: usize) -> Self {
        Self {
            volumes: count..=count,
            held: 0..=0,
            open: 0..=0,
            stuck: 0,
            hollow: 0,
        }
    }

    /// As many volumes as there may be, from none up.
    pub(crate) fn or_less(mut self) -> Self {
        self.volumes = 0..=*self.volumes.end();
        self
    }

    /// Up to so many records are held.
    pub(crate) fn held(mut self, most: usize) -> Self {
        self.held = 0..=most;
        self
    }

    /// So many records are held, not one less.
    pub(crate) fn holds(mut self, count: usize) -> Self {
        self.held = count..=count;
        self
    }

    /// Up to so many objects lost their volume, because a person came between its deletion and theirs.
    pub(crate) const fn hollow(mut self, most: usize) -> Self {
        self.hollow = most;
        self
    }

    /// Up to so many released volumes stay, because another object has their handle.
    pub(crate) const fn stuck(mut self, most: usize) -> Self {
        self.stuck = most;
        self
    }

    /// Why this is not how the world stands, if it is not.
    pub(crate) fn missing(&self, world: &World) -> Option<String> {
        let claims = world.api.filter(CLAIMS, |_| true);
        let leaving = claims
            .iter()
            .filter(|claim| !claim["metadata"]["deletionTimestamp"].is_null());
        let leaving = leaving.count();
        let unbound = claims
            .iter()
            .filter(|claim| text(claim, "/status/phase") != "Bound")
            .count();
        if leaving > 0 || unbound > 0 {
            return Some(format!("{unbound} claims wait, {leaving} are going"));
        }
        let mut sources = world.api.list("volumesnapshots");
        sources.extend(claims);
        if let Some(kept) = sources.iter().find(|source| is_protected(source)) {
            return Some(format!("{} is kept for nobody", text(kept, "/metadata/name")));
        }
        let volumes = world.api.list(VOLUMES);
        let released = |pv: &&Value| {
            let deletes = text(pv, "/spec/persistentVolumeReclaimPolicy") == "Delete";
            deletes && text(pv, "/status/phase") == "Released"
                || !pv["metadata"]["deletionTimestamp"].is_null()
        };
        let mut going = volumes.iter().filter(released);
        if let Some(pv) = going.nth(self.stuck) {
            return Some(format!("{} is on its way out", text(pv, "/metadata/name")));
        }
        let (open, held) = (records(world, "ledger."), records(world, "held."));
        for (what, count, wanted) in [
            ("volumes", volumes.len(), &self.volumes),
            ("open records", open.len(), &self.open),
            ("held records", held.len(), &self.held),
        ] {
            if !wanted.contains(&count) {
                return Some(format!("{count} {what} instead of {wanted:?}"));
            }
        }
        // One without a CSI source is of the plugin that the driver took over from.
        let is_ours = |pv: &&Value| [DRIVER, EBS, ""].contains(&text(pv, "/spec/csi/driver"));
        let ours = || volumes.iter().filter(is_ours);
        let real = world.driver.volumes();
        // An open record is expected by its scenario, or was refused above.
        let recorded = |name: &str| held.iter().chain(&open).any(|record| record == name);
        if let Some(lost) = real
            .iter()
            .find(|volume| !ours().any(|pv| names(pv, volume, &world.driver)) && !recorded(&volume.name))
        {
            return Some(format!("nobody knows {} at the driver ({})", lost.id, lost.name));
        }
        let is_hollow = |pv: &&Value| !real.iter().any(|volume| names(pv, volume, &world.driver));
        let hollow: BTreeSet<_> = ours().filter(is_hollow).map(crate::sidecar::handle).collect();
        let mut hollow = hollow.into_iter();
        hollow
            .nth(self.hollow)
            .map(|handle| format!("{handle} has an object and is not at the driver"))
    }
}

/// Whether an object is this volume's. One that was deleted and made anew under the same id is another volume.
pub(crate) fn names(pv: &Value, volume: &Volume, driver: &Driver) -> bool {
    let meant = pv["spec"]["csi"]["volumeAttributes"][INCARNATION].as_str();
    let same = crate::sidecar::handle(pv) == volume.id;
    // Who writes an object by hand means whatever has the handle.
    same && meant.is_none_or(|meant| driver.incarnation(&volume.id).as_deref() == Some(meant))
}

/// Names of the volumes of all records under keys that begin so.
fn records(world: &World, prefix: &str) -> Vec<String> {
    let prefix = format!("{prefix}volwright.dev/");
    let mut found = Vec::new();
    for lease in world.api.list("leases") {
        if !text(&lease, "/metadata/name").contains("-ledger-") {
            continue;
        }
        let notes = lease["metadata"]["annotations"].as_object().into_iter().flatten();
        for (_, value) in notes.filter(|(key, _)| key.starts_with(&prefix)) {
            let volume = value.as_str().unwrap_or_default().split(' ').nth(1);
            found.push(volume.unwrap_or_default().to_owned());
        }
    }
    found
}
