//! What one look at a claim or a volume costs: made for every event of the cluster, ours or not.

use divan::{Bencher, black_box};
use volwright::{
    cluster::objects::{ClaimRef, CsiSource, PROVISIONED_BY, PROVISIONER, VOLUME_FINALIZER, Volume},
    provision::decide as provision,
    reclaim::decide as reclaim,
};

mod world;

use world::{DRIVER, UID, World};

fn main() {
    divan::main();
}

fn text<const N: usize, M: FromIterator<(String, String)>>(pairs: [(&str, &str); N]) -> M {
    pairs
        .into_iter()
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .collect()
}

#[divan::bench]
fn foreign_claim_is_dropped(bencher: Bencher) {
    let mut claim = World::new(0).claim;
    claim
        .annotations
        .insert(PROVISIONER.to_owned(), "other.csi.example.com".to_owned());
    bencher.bench(|| provision::concerns(black_box(&claim), DRIVER));
}

/// On so many nodes, each in a zone of its own; on none: for a driver without topology.
#[divan::bench(args = [0, 10, 5_000])]
fn claim_becomes_a_plan(bencher: Bencher, nodes: usize) {
    let mut world = World::new(nodes);
    world.class.parameters = text([
        ("type", "ssd"),
        ("csi.storage.k8s.io/fstype", "xfs"),
        ("csi.storage.k8s.io/provisioner-secret-name", "${pvc.name}"),
        (
            "csi.storage.k8s.io/provisioner-secret-namespace",
            "${pvc.namespace}",
        ),
    ]);
    let facts = world.facts();
    assert!(matches!(
        provision::decide(facts),
        provision::Decision::Provision(_)
    ));
    bencher.bench(|| provision::decide(black_box(facts)));
}

#[divan::bench]
fn released_volume_is_to_be_deleted(bencher: Bencher) {
    let driver = World::new(0).driver;
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
