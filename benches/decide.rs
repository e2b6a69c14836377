//! What one look at a claim or a volume costs: made for every event of the cluster, ours or not.

use std::sync::Arc;

use divan::{Bencher, black_box};
use volwright::{
    base::names::UidLength,
    cluster::{
        objects::{
            Claim, ClaimRef, Class, CsiSource, PROVISIONED_BY, PROVISIONER, SELECTED_NODE, VOLUME_FINALIZER,
            Volume,
        },
        topology::{ClusterTopology, NodeState, Registration},
    },
    csi::DriverInfo,
    provision::{decide as provision, policy::Policy},
    reclaim::decide as reclaim,
};

const DRIVER: &str = "bench.csi.example.com";
const UID: &str = "2f6c1f0e-6a4b-4f0e-9d43-2d8a1f1c0b7e";

fn main() {
    divan::main();
}

fn text<const N: usize, M: FromIterator<(String, String)>>(pairs: [(&str, &str); N]) -> M {
    pairs
        .into_iter()
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect()
}

fn driver() -> DriverInfo {
    DriverInfo {
        name: DRIVER.to_owned(),
        controller_service: true,
        create_delete_volume: true,
        ..DriverInfo::default()
    }
}

fn claim(provisioner: &str) -> Claim {
    Claim {
        uid: UID.to_owned(),
        namespace: "shop".to_owned(),
        name: "data-0".to_owned(),
        annotations: text([(PROVISIONER, provisioner)]),
        class_name: Some("fast".to_owned()),
        access_modes: vec!["ReadWriteOnce".to_owned()],
        storage_request: Some("10Gi".to_owned()),
        ..Claim::default()
    }
}

fn node(number: usize) -> NodeState {
    NodeState {
        name: format!("node-{number}"),
        labels: Some([("zone", format!("zone-{number}"))].into_iter().collect()),
        registration: Registration::Keys(Arc::new(["zone".to_owned()].into())),
        vanished: None,
    }
}

#[divan::bench]
fn foreign_claim_is_dropped(bencher: Bencher) {
    let claim = claim("other.csi.example.com");
    bencher.bench(|| provision::concerns(black_box(&claim), DRIVER));
}

/// On so many nodes, each in a zone of its own; on none: for a driver without topology.
#[divan::bench(args = [0, 10, 5_000])]
fn claim_becomes_a_plan(bencher: Bencher, nodes: usize) {
    let (mut claim, driver) = (claim(DRIVER), driver());
    let topology = (nodes > 0).then(|| {
        claim
            .annotations
            .insert(SELECTED_NODE.to_owned(), "node-7".to_owned());
        ClusterTopology::new((0..nodes).map(node), false)
    });
    let class = Class {
        name: "fast".to_owned(),
        uid: "c".to_owned(),
        provisioner: DRIVER.to_owned(),
        parameters: text([
            ("type", "ssd"),
            ("csi.storage.k8s.io/fstype", "xfs"),
            ("csi.storage.k8s.io/provisioner-secret-name", "${pvc.name}"),
            (
                "csi.storage.k8s.io/provisioner-secret-namespace",
                "${pvc.namespace}",
            ),
        ]),
        ..Class::default()
    };
    let policy = Policy {
        name_prefix: "pvc".to_owned(),
        uid_length: UidLength::Whole,
        default_fs_type: String::new(),
        extra_metadata: true,
        publish_read_only: false,
        topology: true,
        strict_topology: false,
        immediate_topology: true,
        attributes_classes: true,
        node: None,
        identity: "0-0-bench".to_owned(),
    };
    let name = format!("pvc-{UID}");
    let facts = provision::Facts {
        claim: &claim,
        class: Some(&class),
        driver: &driver,
        policy: &policy,
        topology: topology.as_ref(),
        in_progress: false,
        infeasible: None,
        name: Ok(&name),
        name_used_by: None,
        saved: None,
        rescheduled: None,
    };
    assert!(matches!(
        provision::decide(facts),
        provision::Decision::Provision(_)
    ));
    bencher.bench(|| provision::decide(black_box(facts)));
}

#[divan::bench]
fn released_volume_is_to_be_deleted(bencher: Bencher) {
    let driver = driver();
    let volume = Volume {
        name: format!("pvc-{UID}"),
        finalizers: vec![VOLUME_FINALIZER.to_owned()],
        annotations: text([(PROVISIONED_BY, DRIVER)]),
        phase: "Released".to_owned(),
        reclaim_policy: "Delete".to_owned(),
        claim: Some(ClaimRef {
            uid: UID.to_owned(),
            namespace: "shop".to_owned(),
            name: "data-0".to_owned(),
        }),
        csi: Some(CsiSource {
            driver: DRIVER.to_owned(),
            handle: "vol-1".to_owned(),
        }),
        ..Volume::default()
    };
    let facts = reclaim::Facts {
        volume: &volume,
        class: None,
        driver: &driver,
        node: None,
    };
    assert!(matches!(reclaim::decide(facts), reclaim::Decision::Delete { .. }));
    bencher.bench(|| reclaim::decide(black_box(facts)));
}
