//! What never happens, looked for at each effect of a process: no call outside the lease, no DeleteVolume of anything
//! but a released volume with the policy Delete, no object removed before its volume, no two volumes for one claim, no copy
//! of a source that may go.

use std::sync::{Arc, Mutex};

use sandbox::{Api, Driver, Effect, Line, Step, World};
use serde_json::Value;
use tonic::Code;

use crate::rest::names;
use crate::sidecar::{CLAIMS, FINALIZER, HOME, LEASE, VOLUMES, finalizers, secs, text};
use crate::sources::unprotected_source;

/// Sees every effect of the processes of one world.
#[derive(Clone)]
pub(crate) struct Eye {
    api: Api,
    driver: Driver,
    /// Whether there is an election.
    elected: bool,
    /// Whether a volume may be deleted that never had an object: one that is not what was asked for.
    misfits: bool,
    /// Whether what two leaders asked for one after the other may overlap at the driver, or come twice.
    tolerant: bool,
    /// Whether a name may be asked for with another request.
    renews: bool,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Eye {
    pub(crate) fn new(world: &World, elected: bool, misfits: bool) -> Self {
        Self {
            api: world.api.clone(),
            driver: world.driver.clone(),
            elected,
            misfits,
            tolerant: false,
            renews: false,
            seen: Arc::default(),
        }
    }

    /// Where leaders change in the middle of a call, the driver may see two calls at once, or a deletion twice.
    pub(crate) fn tolerant(mut self) -> Self {
        self.tolerant = true;
        self
    }

    /// Whether the driver may see two requests of one name, one in place of the other.
    pub(crate) const fn renewing(mut self, renews: bool) -> Self {
        self.renews = renews;
        self
    }

    /// Watches the process of a pod.
    pub(crate) fn watch(&self, line: &Line, pod: &str) {
        self.watch_and(line, pod, |_| {});
    }

    /// As [`Eye::watch`], and then does something at each effect.
    pub(crate) fn watch_and(&self, line: &Line, pod: &str, then: impl Fn(&Effect) + Send + Sync + 'static) {
        let (eye, holder) = (self.clone(), format!("{pod}_"));
        line.on_effect(move |effect| {
            eye.see(&holder, effect);
            then(effect);
        });
    }

    /// What happened that must not.
    pub(crate) fn breaches(&self) -> Vec<String> {
        let mut all = self.seen.lock().expect("no panic while looking").clone();
        let twice = |text: &String| text.contains("while another call") || text.contains("deleted before");
        let other = |text: &String| text.contains("with another request");
        let breaches = self.driver.breaches().into_iter();
        all.extend(breaches.filter(|text| !(self.tolerant && twice(text) || self.renews && other(text))));
        all
    }

    fn see(&self, holder: &str, effect: &Effect) {
        let what = (effect.verb, effect.what.as_str(), effect.step);
        let wrong = match what {
            ("call", "DeleteVolume", Step::Sent) => self.may_delete(&effect.name),
            ("call", "CreateVolume", Step::Sent) => self.may_copy(&effect.name),
            ("delete" | "patch" | "update", VOLUMES, Step::Done) => self.may_go(&effect.name),
            ("create", VOLUMES, Step::Done) => self.is_only(&effect.name),
            _ => None,
        };
        let outside = (effect.step == Step::Sent && self.elected && is_fenced(effect))
            .then(|| self.outside(holder))
            .flatten();
        let mut seen = self.seen.lock().expect("no panic while looking");
        seen.extend(wrong.map(|why| format!("{effect}: {why}")));
        seen.extend(outside.map(|why| format!("{effect}: {why}")));
    }

    /// Why a process of this holder may not act now.
    fn outside(&self, holder: &str) -> Option<String> {
        let lease = self.api.get("leases", HOME, LEASE).unwrap_or_default();
        let now = text(&lease, "/spec/holderIdentity");
        if !now.starts_with(holder) {
            return Some(format!("outside the lease, which is {now:?}'s"));
        }
        let renewed = self.api.latest_request(|it| {
            it.resource == "leases" && it.name == LEASE && it.verb.writes() && it.code / 100 == 2
        })?;
        let age = self.api.elapsed().saturating_sub(renewed.at);
        (age > secs(15)).then(|| format!("outside the lease, which ran out: renewed {age:?} ago"))
    }

    fn of_handle(&self, handle: &str) -> Vec<Value> {
        self.api
            .filter(VOLUMES, |pv| crate::sidecar::handle(pv) == handle)
    }

    /// Why the driver must not be asked to delete this volume.
    fn may_delete(&self, handle: &str) -> Option<String> {
        let volumes = self.of_handle(handle);
        if volumes.is_empty() && !self.misfits {
            return Some("no object has this handle".into());
        }
        let wrong = volumes.iter().find(|pv| {
            text(pv, "/status/phase") != "Released"
                || text(pv, "/spec/persistentVolumeReclaimPolicy") != "Delete"
        })?;
        let name = text(wrong, "/metadata/name");
        Some(format!("{name} is in use or to be kept: {}", wrong["status"]))
    }

    /// Why what a volume of this name is made from must not be copied yet.
    fn may_copy(&self, name: &str) -> Option<String> {
        let uid = name.strip_prefix("pvc-")?;
        // Also one that is gone by now.
        let claims = self.api.history(CLAIMS);
        let claim = claims.iter().rfind(|it| text(it, "/metadata/uid") == uid)?;
        unprotected_source(&self.api, claim)
    }

    /// Why the object of a volume must not go, or be let go of, yet.
    fn may_go(&self, name: &str) -> Option<String> {
        let stands = self.api.get(VOLUMES, "", name);
        if stands.is_some_and(|pv| finalizers(&pv).iter().any(|it| it == FINALIZER)) {
            return None;
        }
        let history = self.api.history(VOLUMES);
        let last = history.iter().rfind(|pv| text(pv, "/metadata/name") == name)?;
        let deletes = text(last, "/spec/persistentVolumeReclaimPolicy") == "Delete";
        let handle = crate::sidecar::handle(last);
        let said = |call: &sandbox::driver::Call| {
            call.method == "DeleteVolume" && call.target == handle && call.code == Some(Code::Ok)
        };
        let deleted = self.driver.calls().iter().any(said);
        if deletes && !deleted {
            return Some(format!("DeleteVolume of {handle} has not been answered with OK"));
        }
        // An earlier volume of the same id may be the one that was deleted.
        let volumes = self.driver.volumes();
        let stands = volumes.iter().any(|volume| names(last, volume, &self.driver));
        (deletes && stands).then(|| format!("{handle} is at the driver"))
    }

    /// Why there must be no such volume.
    fn is_only(&self, name: &str) -> Option<String> {
        let made = self.api.get(VOLUMES, "", name)?;
        let uid = text(&made, "/spec/claimRef/uid");
        let same = self.api.filter(VOLUMES, |pv| {
            text(pv, "/spec/claimRef/uid") == uid
                && pv["metadata"]["annotations"]["pv.kubernetes.io/provisioned-by"].is_string()
        });
        (same.len() > 1).then(|| format!("{} volumes for the claim {uid}", same.len()))
    }
}

/// Whether only the leader may do this.
fn is_fenced(effect: &Effect) -> bool {
    match effect.verb {
        "call" => true,
        "get" => false,
        _ => effect.what == VOLUMES || (effect.what == "leases" && effect.name.contains("-ledger-")),
    }
}
