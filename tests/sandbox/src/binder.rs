//! Plays the controllers of kube-controller-manager that volumes meet: the PV controller (asks for provisioning, binds,
//! releases) and the two protection controllers (hold and let go of finalizers). It acts on the store at once, without
//! rights and without failing.

use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::{Api, scheduler::claims_of};

pub(crate) const CLAIMS: &str = "persistentvolumeclaims";
pub(crate) const VOLUMES: &str = "persistentvolumes";
const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
const PROVISIONER_BETA: &str = "volume.beta.kubernetes.io/storage-provisioner";
pub(crate) const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
pub(crate) const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// A class that nobody provisions for.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// Starts the controllers; they act on every change until the task is aborted.
pub fn start(api: &Api) -> JoinHandle<()> {
    let api = api.clone();
    let mut changes = api.changes();
    tokio::spawn(async move {
        let mut seen = 0;
        loop {
            let now = *changes.borrow_and_update();
            step(&api, seen);
            seen = now;
            if changes.changed().await.is_err() {
                return;
            }
        }
    })
}

/// Looks at what changed after a revision.
fn step(api: &Api, seen: u64) {
    let (claims, volumes) = (api.changed_since(CLAIMS, seen), api.changed_since(VOLUMES, seen));
    if !api.changed_since("storageclasses", seen).is_empty() {
        for claim in api.list(CLAIMS) {
            sync_claim(api, &claim);
        }
    }
    if !api.changed_since("pods", seen).is_empty() {
        for claim in api.filter(CLAIMS, deleting) {
            sync_claim(api, &claim);
        }
    }
    for (namespace, name) in claims {
        match api.get(CLAIMS, &namespace, &name) {
            Some(claim) => sync_claim(api, &claim),
            // Gone: its volume, if any, is released.
            None => release(api, &namespace, &name),
        }
    }
    for (_, name) in volumes {
        if let Some(volume) = api.get(VOLUMES, "", &name) {
            sync_volume(api, &volume);
        }
    }
}

pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

pub(crate) fn annotation<'a>(object: &'a Value, key: &str) -> &'a str {
    object["metadata"]["annotations"][key]
        .as_str()
        .unwrap_or_default()
}

pub(crate) fn place(object: &Value) -> (&str, &str) {
    (
        text(object, "/metadata/namespace"),
        text(object, "/metadata/name"),
    )
}

pub(crate) fn deleting(object: &Value) -> bool {
    !text(object, "/metadata/deletionTimestamp").is_empty()
}

fn drop_finalizer(api: &Api, plural: &str, object: &Value, finalizer: &str) {
    let (namespace, name) = place(object);
    api.edit(plural, namespace, name, |object| {
        if let Some(all) = object["metadata"]["finalizers"].as_array_mut() {
            all.retain(|f| f != finalizer);
        }
    });
}

fn sync_claim(api: &Api, claim: &Value) {
    let (namespace, name) = place(claim);
    if deleting(claim) {
        if is_used(api, claim) {
            return;
        }
        drop_finalizer(api, CLAIMS, claim, "kubernetes.io/pvc-protection");
        if api.get(CLAIMS, namespace, name).is_none() {
            release(api, namespace, name);
        }
        return;
    }
    let bound_to = text(claim, "/spec/volumeName");
    let found = match bound_to {
        // One that is reserved for it goes before one that only fits.
        "" => {
            let suiting = api.filter(VOLUMES, |volume| suits(volume, claim));
            suiting
                .into_iter()
                .max_by_key(|volume| !volume["spec"]["claimRef"].is_null())
        }
        volume => {
            release_others(api, claim, volume);
            api.get(VOLUMES, "", volume)
        }
    };
    match found {
        Some(volume) if is_for(&volume, claim) => bind(api, claim, &volume),
        Some(_) => {}
        None if !bound_to.is_empty() && !annotation(claim, BIND_COMPLETED).is_empty() => {
            api.edit(CLAIMS, namespace, name, |claim| {
                claim["status"]["phase"] = "Lost".into()
            });
        }
        None if bound_to.is_empty() => ask(api, claim),
        None => {}
    }
}

/// Whether a pod that has a node uses a claim.
fn is_used(api: &Api, claim: &Value) -> bool {
    let (namespace, name) = place(claim);
    let uses = |pod: &Value| {
        place(pod).0 == namespace
            && !text(pod, "/spec/nodeName").is_empty()
            && claims_of(pod).any(|used| used == name)
    };
    !api.filter("pods", uses).is_empty()
}

/// Names the provisioner on a claim that needs one, as `ExternalProvisioning` does.
fn ask(api: &Api, claim: &Value) {
    let class = text(claim, "/spec/storageClassName");
    let Some(class) = api.get("storageclasses", "", class) else {
        return;
    };
    let provisioner = match text(&class, "/provisioner") {
        // In-tree plugins are asked for under the name of the driver that took over.
        "kubernetes.io/aws-ebs" => "ebs.csi.aws.com",
        provisioner => provisioner,
    };
    let waits = text(&class, "/volumeBindingMode") == "WaitForFirstConsumer"
        && annotation(claim, SELECTED_NODE).is_empty();
    if provisioner == NO_PROVISIONER || waits {
        return;
    }
    let (namespace, name) = place(claim);
    api.edit(CLAIMS, namespace, name, |claim| {
        for key in [PROVISIONER, PROVISIONER_BETA] {
            claim["metadata"]["annotations"][key] = provisioner.into();
        }
    });
}

/// Whether a volume is reserved for this very claim, or free and fitting.
fn suits(volume: &Value, claim: &Value) -> bool {
    if deleting(volume) {
        return false;
    }
    if !volume["spec"]["claimRef"].is_null() {
        return is_for(volume, claim);
    }
    let modes = |object: &Value| {
        object["spec"]["accessModes"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    };
    let offered = modes(volume);
    text(volume, "/spec/storageClassName") == text(claim, "/spec/storageClassName")
        && volume["spec"]["volumeMode"] == claim["spec"]["volumeMode"]
        && volume["spec"]["capacity"]["storage"] == claim["spec"]["resources"]["requests"]["storage"]
        && modes(claim).iter().all(|mode| offered.contains(mode))
}

/// Whether a volume's claimRef, if it has one, means this claim.
fn is_for(volume: &Value, claim: &Value) -> bool {
    let reference = &volume["spec"]["claimRef"];
    let (namespace, name) = place(claim);
    let uid = text(reference, "/uid");
    reference.is_null()
        || text(reference, "/namespace") == namespace
            && text(reference, "/name") == name
            && (uid.is_empty() || claim["metadata"]["uid"] == uid)
}

fn bind(api: &Api, claim: &Value, volume: &Value) {
    let (namespace, name) = place(claim);
    let (_, volume_name) = place(volume);
    api.edit(VOLUMES, "", volume_name, |volume| {
        if text(volume, "/spec/claimRef/uid").is_empty() {
            volume["spec"]["claimRef"] = json!({
                "kind": "PersistentVolumeClaim", "apiVersion": "v1", "namespace": namespace, "name": name,
                "uid": claim["metadata"]["uid"], "resourceVersion": claim["metadata"]["resourceVersion"],
            });
            volume["metadata"]["annotations"][BOUND_BY_CONTROLLER] = "yes".into();
        }
        volume["status"]["phase"] = "Bound".into();
    });
    api.edit(CLAIMS, namespace, name, |claim| {
        if text(claim, "/spec/volumeName").is_empty() {
            claim["spec"]["volumeName"] = volume_name.into();
            claim["metadata"]["annotations"][BOUND_BY_CONTROLLER] = "yes".into();
        }
        claim["metadata"]["annotations"][BIND_COMPLETED] = "yes".into();
        claim["status"] = json!({
            "phase": "Bound",
            "accessModes": volume["spec"]["accessModes"],
            "capacity": volume["spec"]["capacity"],
        });
    });
}

/// Whether a claim has another volume than this one, which is reserved for it.
fn is_bound_elsewhere(claim: &Value, volume: &str) -> bool {
    !["", volume].contains(&text(claim, "/spec/volumeName"))
}

/// What else is reserved for a claim that has a volume is not needed.
fn release_others(api: &Api, claim: &Value, volume: &str) {
    let others = api.filter(VOLUMES, |other| {
        let phase = text(other, "/status/phase");
        !other["spec"]["claimRef"].is_null()
            && !["Released", "Available"].contains(&phase)
            && place(other).1 != volume
            && is_for(other, claim)
    });
    for other in others {
        unbind(api, &other);
    }
}

/// A volume whose claim has got another one: one that was made for the claim is released, others are free again.
fn unbind(api: &Api, volume: &Value) {
    let made_for_it = !annotation(volume, PROVISIONED_BY).is_empty()
        && text(volume, "/spec/persistentVolumeReclaimPolicy") == "Delete";
    api.edit(VOLUMES, "", place(volume).1, |volume| {
        if made_for_it {
            volume["status"]["phase"] = "Released".into();
            return;
        }
        let notes = volume["metadata"]["annotations"].as_object_mut();
        if notes.is_some_and(|notes| notes.remove(BOUND_BY_CONTROLLER).is_some()) {
            volume["spec"]["claimRef"] = Value::Null;
        } else if let Some(reference) = volume["spec"]["claimRef"].as_object_mut() {
            reference.remove("uid");
        }
        volume["status"]["phase"] = "Available".into();
    });
}

fn release(api: &Api, namespace: &str, name: &str) {
    let reserved = |volume: &Value| {
        let reference = &volume["spec"]["claimRef"];
        text(reference, "/namespace") == namespace && text(reference, "/name") == name
    };
    for volume in api.filter(VOLUMES, reserved) {
        sync_volume(api, &volume);
    }
}

fn sync_volume(api: &Api, volume: &Value) {
    let (_, name) = place(volume);
    let phase = |phase: &str| {
        api.edit(VOLUMES, "", name, |volume| {
            volume["status"]["phase"] = phase.into()
        });
    };
    let reference = &volume["spec"]["claimRef"];
    if reference.is_null() {
        phase("Available");
        let waiting = api.filter(CLAIMS, |claim| {
            text(claim, "/spec/volumeName").is_empty() && !deleting(claim) && suits(volume, claim)
        });
        if let Some(claim) = waiting.first() {
            sync_claim(api, claim);
        }
    } else {
        match api.get(CLAIMS, text(reference, "/namespace"), text(reference, "/name")) {
            Some(claim) if is_for(volume, &claim) && is_bound_elsewhere(&claim, name) => unbind(api, volume),
            Some(claim) if is_for(volume, &claim) => sync_claim(api, &claim),
            // Reserved by name only: it waits for its claim.
            _ if text(reference, "/uid").is_empty() => phase("Available"),
            _ => phase("Released"),
        }
    }
    let bound = api
        .get(VOLUMES, "", name)
        .is_some_and(|v| text(&v, "/status/phase") == "Bound");
    if deleting(volume) && !bound {
        drop_finalizer(api, VOLUMES, volume, "kubernetes.io/pv-protection");
    }
}
