//! Upstream's binary and ours go through the same life, each with a driver and names of its own; then the objects, the
//! driver's requests and the events are the same, but for what is listed here. The peer is upstream 6.3.0, because a
//! library that 6.4.0 needs is not published as a module; the behaviour that the project aims at is that of 6.4.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::{
    api::coordination::v1::Lease,
    api::core::v1::{Event, PersistentVolume},
};
use kube::{
    Api, ResourceExt,
    api::{ListParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    cluster::{Cluster, Rights},
    driver::Driver,
    sidecar::{Binary, Sidecar, under_test},
    world::{SOON, World, eventually, text},
};

/// How the lines begin that may differ, and why. COMPATIBILITY.md says it to
/// users. That ours has such events at all is asserted on the way.
const ALLOWED: [(&str, &str); 6] = [
    (
        "event on Lease <driver>: Normal LeaderElection",
        "one reporter for all of our events; upstream's elections have another",
    ),
    (
        "event on PersistentVolumeClaim half: Normal Provisioning ",
        "a claim whose class cannot work is not begun",
    ),
    (
        "event on PersistentVolumeClaim odd: Normal Provisioning ",
        "a claim whose class cannot work is not begun",
    ),
    (
        "event on PersistentVolumeClaim half: Warning ProvisioningFailed ",
        "the text names the class, what is missing and what to do",
    ),
    (
        "event on PersistentVolumeClaim odd: Warning ProvisioningFailed ",
        "the text names the class and the key",
    ),
    (
        "event on PersistentVolumeClaim secretless: Warning ProvisioningFailed ",
        "the text says what to do",
    ),
];

/// Claims that get a volume: name, class, and what is laid over an ordinary spec.
fn wanted() -> [(&'static str, &'static str, Value); 5] {
    [
        ("files", "gold", json!({})),
        (
            "shared",
            "gold",
            json!({"accessModes": ["ReadWriteMany", "ReadOnlyMany"], "resources": {"requests": {"storage": "1500M"}}}),
        ),
        ("disk", "raw", json!({"volumeMode": "Block"})),
        (
            "kept",
            "keep",
            json!({"resources": {"requests": {"storage": "3000000001"}}}),
        ),
        (
            "kept-disk",
            "keep",
            json!({"volumeMode": "Block", "accessModes": ["ReadWriteOncePod"]}),
        ),
    ]
}

/// Claims that never get one, and a part of the reason.
fn hopeless() -> [(&'static str, &'static str, Value, &'static str); 4] {
    [
        ("secretless", "gold", json!({}), "secretless-access"),
        (
            "huge",
            "raw",
            json!({"resources": {"requests": {"storage": "100Ti"}}}),
            "OutOfRange",
        ),
        ("odd", "odd", json!({}), "csi.storage.k8s.io/colour"),
        ("half", "half", json!({}), "secret"),
    ]
}

pub(crate) async fn same(cluster: &'static Cluster) {
    let (theirs, ours) = futures::join!(
        observe(cluster, "parity-theirs", Binary::Upstream),
        observe(cluster, "parity-ours", under_test()),
    );
    let mut unused: BTreeSet<_> = ALLOWED.iter().map(|(start, _)| *start).collect();
    let mut differences = Vec::new();
    for line in theirs.symmetric_difference(&ours) {
        let sign = if theirs.contains(line) { '-' } else { '+' };
        match ALLOWED.iter().find(|(start, _)| line.starts_with(start)) {
            Some((start, _)) => _ = unused.remove(start),
            None => differences.push(format!("{sign} {line}")),
        }
    }
    assert!(
        differences.is_empty(),
        "only upstream (-), only ours (+), of {} lines:\n{}",
        theirs.len(),
        differences.join("\n")
    );
    if under_test() == Binary::Ours {
        assert_eq!(unused, BTreeSet::new(), "these are the same by now");
    }
}

/// What could be seen of one life, a line for each field.
async fn observe(cluster: &'static Cluster, name: &str, binary: Binary) -> BTreeSet<String> {
    let world = World::new(cluster, name, Rights::OursWithSecrets).await;
    let driver = Driver::start(&world, Duration::ZERO).await;
    let flags = [
        "--leader-election",
        "--extra-create-metadata",
        "--default-fstype=ext4",
    ];
    let sidecar = Sidecar::start(&world, binary, &driver, "sidecar-0", &flags).await;
    let mut seen = Seen {
        world: &world,
        leader: world.new_leader(&driver.name, None, SOON).await,
        claims: BTreeMap::new(),
        lines: BTreeSet::new(),
    };
    classes(&world, &driver).await;
    for claim in ["files", "shared"] {
        world
            .secret(
                &format!("{claim}-access"),
                json!({"user": "admin", "key": "wont-tell"}),
            )
            .await;
    }

    let plain = wanted().map(|(name, class, more)| (name, class, more));
    let failing = hopeless().map(|(name, class, more, _)| (name, class, more));
    for (claim, class, more) in plain.into_iter().chain(failing) {
        seen.claim(claim, class, more).await;
    }
    let mut volumes = BTreeMap::new();
    for (claim, ..) in wanted() {
        let volume = world.bound(claim, SOON).await;
        seen.volume(&format!("volume of {claim}"), claim, &volume);
        world.event(claim, "ProvisioningSucceeded", 1, "").await;
        volumes.insert(claim, volume);
    }
    for (claim, _, _, reason) in hopeless() {
        world.event(claim, "ProvisioningFailed", 1, reason).await;
        world.delete_claim(claim).await;
    }
    for (claim, volume) in &volumes {
        world.delete_claim(claim).await;
        if claim.starts_with("kept") {
            let released = released(&world, volume).await;
            seen.volume(&format!("released volume of {claim}"), claim, &released);
        } else {
            world.gone(volume, SOON).await;
        }
    }
    sidecar.assert_runs();

    seen.calls(&driver, &volumes);
    seen.events(&driver).await;
    seen.lease(&driver).await;
    seen.lines
}

async fn classes(world: &World, driver: &Driver) {
    let mut gold = json!({"tier": "gold", "csi.storage.k8s.io/fstype": "xfs"});
    for purpose in ["", "node-publish-", "controller-expand-"] {
        gold[format!("csi.storage.k8s.io/{purpose}secret-name")] = json!("${pvc.name}-access");
        gold[format!("csi.storage.k8s.io/{purpose}secret-namespace")] = json!("${pvc.namespace}");
    }
    for (name, class) in [
        (
            "gold",
            json!({"parameters": gold, "mountOptions": ["noatime", "ro"]}),
        ),
        ("raw", json!({})),
        (
            "keep",
            json!({"reclaimPolicy": "Retain", "parameters": {"fstype": "btrfs"}}),
        ),
        ("odd", json!({"parameters": {"csi.storage.k8s.io/colour": "red"}})),
        (
            "half",
            json!({"parameters": {"csi.storage.k8s.io/provisioner-secret-name": "alone"}}),
        ),
    ] {
        world.class(name, &driver.name, class).await;
    }
}

/// Waits until it is, and nothing of a provisioner holds it any more.
async fn released(world: &World, volume: &PersistentVolume) -> PersistentVolume {
    eventually("the kept volume is left alone", SOON, async || {
        let seen = world.volumes.get(&volume.name_any()).await.map_err(text)?;
        let phase = seen.status.as_ref().and_then(|status| status.phase.clone());
        match (phase.as_deref(), seen.finalizers()) {
            (Some("Released"), [_]) => Ok(seen),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

struct Seen<'a> {
    world: &'a World,
    leader: String,
    /// UIDs by name.
    claims: BTreeMap<String, String>,
    lines: BTreeSet<String>,
}

impl Seen<'_> {
    async fn claim(&mut self, name: &str, class: &str, more: Value) {
        let mut spec = json!({
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": format!("{}-{class}", self.world.namespace),
            "resources": {"requests": {"storage": "1Gi"}},
        });
        spec.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let claim = serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap();
        let claim = self
            .world
            .claims
            .create(&PostParams::default(), &claim)
            .await
            .unwrap();
        self.claims.insert(name.to_owned(), claim.uid().unwrap());
    }

    /// One line, without what differs from life to life.
    fn line(&mut self, line: String) {
        let mut line = line
            .replace(&self.leader, "<leader>")
            .replace(&self.world.namespace, "<world>");
        for (name, uid) in &self.claims {
            line = line.replace(uid, &format!("<uid of {name}>"));
        }
        self.lines.insert(line);
    }

    /// A line for each field.
    fn fields(&mut self, what: &str, path: &str, value: &Value) {
        match value.as_object() {
            Some(object) if !object.is_empty() => {
                for (key, value) in object {
                    self.fields(what, &format!("{path} {key}"), value);
                }
            }
            _ => self.line(format!("{what}:{path} = {value}")),
        }
    }

    fn volume(&mut self, what: &str, claim: &str, volume: &PersistentVolume) {
        let mut volume = volume.clone();
        assert_eq!(volume.name_any(), format!("pvc-{}", self.claims[claim]));
        let finalizers = volume.metadata.finalizers.as_mut().unwrap();
        finalizers.sort();
        // It comes off a volume that is to stay, soon after: whether before we look
        // is a race. The released volume is looked at when it is off.
        if claim.starts_with("kept") && !what.starts_with("released") {
            finalizers.retain(|finalizer| finalizer != "external-provisioner.volume.kubernetes.io/finalizer");
        }
        let spec = volume.spec.as_mut().unwrap();
        spec.claim_ref.as_mut().unwrap().resource_version.take().unwrap();
        let csi = spec.csi.as_mut().unwrap();
        // Numbers of the driver's.
        csi.volume_handle.clear();
        let identity = "storage.kubernetes.io/csiProvisionerIdentity";
        let identity = csi.volume_attributes.as_mut().unwrap().get_mut(identity).unwrap();
        // <milliseconds>-<random>-<driver>
        *identity = identity.splitn(3, '-').last().unwrap().to_owned();
        let mut value = serde_json::to_value(&volume).unwrap();
        value["status"]
            .as_object_mut()
            .unwrap()
            .remove("lastPhaseTransitionTime");
        let metadata = value["metadata"].as_object_mut().unwrap();
        for added in ["uid", "resourceVersion", "creationTimestamp", "managedFields"] {
            metadata.remove(added).unwrap();
        }
        self.fields(what, "", &value);
    }

    /// How often it is asked, with failures in between, is chance; what, is not.
    fn calls(&mut self, driver: &Driver, volumes: &BTreeMap<&str, PersistentVolume>) {
        let claim_of: BTreeMap<_, _> = volumes
            .iter()
            .map(|(claim, volume)| {
                (
                    volume
                        .spec
                        .as_ref()
                        .unwrap()
                        .csi
                        .as_ref()
                        .unwrap()
                        .volume_handle
                        .clone(),
                    *claim,
                )
            })
            .collect();
        for call in driver.calls() {
            let mut request = call.request.clone();
            let claim = match call.method.as_str() {
                "CreateVolume" => format!("{}", request["name"]),
                "DeleteVolume" => {
                    request.as_object_mut().unwrap().remove("volume_id").unwrap();
                    claim_of[&call.volume_id].to_owned()
                }
                _ => continue,
            };
            let what = format!("{} for {claim}", call.method);
            self.line(format!("{what}: {}", call.code));
            self.fields(&what, "", &request);
        }
    }

    async fn events(&mut self, driver: &Driver) {
        let events: Api<Event> = Api::namespaced(self.world.client.clone(), &self.world.namespace);
        for event in events.list(&ListParams::default()).await.unwrap() {
            let reporter = event
                .source
                .and_then(|source| source.component)
                .unwrap_or_default();
            if reporter == "persistentvolume-controller" {
                continue;
            }
            assert_eq!(event.reporting_component.as_ref(), Some(&reporter));
            // <driver>_<host>_<random>, and the lease's name where it is about that.
            let reporter = reporter.split('_').next().unwrap_or_default();
            let object = &event.involved_object;
            let name = object.name.as_deref().unwrap_or_default();
            self.line(format!(
                "event on {} {}: {} {} {:?}, {} by {reporter}",
                object.kind.as_deref().unwrap_or_default(),
                name.replace(&driver.name.replace('.', "-"), "<driver>"),
                event.type_.unwrap_or_default(),
                event.reason.unwrap_or_default(),
                event.message.unwrap_or_default(),
                object.api_version.as_deref().unwrap_or_default(),
            ));
        }
    }

    async fn lease(&mut self, driver: &Driver) {
        let leases: Api<Lease> = Api::namespaced(self.world.client.clone(), &self.world.namespace);
        let lease = leases.get(&driver.name.replace('.', "-")).await.unwrap();
        let mut spec = serde_json::to_value(lease.spec.unwrap()).unwrap();
        for moment in ["acquireTime", "renewTime"] {
            spec.as_object_mut().unwrap().remove(moment).unwrap();
        }
        self.fields(&format!("lease {}", lease.metadata.name.unwrap()), "", &spec);
    }
}
