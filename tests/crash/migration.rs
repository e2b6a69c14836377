//! Claims whose class names the in-tree plugin that the driver took over from, while the process is cut.

use sandbox::{
    World,
    driver::{Segment, Trouble},
};
use tonic::Code;

use crate::{
    rest::Rest,
    scenario::Scenario,
    sidecar::{HOME, Look, MANIFESTS, TOPOLOGY},
    stage::Stage,
};

const ZONE: &str = "topology.ebs.csi.aws.com/zone";
/// Its Lease has another name than those of the other scenarios.
const ALONE: &[&str] = &["--leader-election=false"];

fn migrated() -> World {
    let world = World::new("ebs.csi.aws.com").namespace(HOME);
    let world = world.rbac(MANIFESTS, HOME).rbac(TOPOLOGY, HOME);
    let world = world.class_with("fast", |class| {
        class["provisioner"] = "kubernetes.io/aws-ebs".into()
    });
    let zone = [(ZONE, "us-east-1a")];
    world.driver.segment(Segment::new(&zone, None));
    world.node("node-a", &zone)
}

/// The driver says of its volumes that they are where no region is known.
fn astray(stage: &Stage) {
    let outpost = [(ZONE.to_owned(), "outpost".to_owned())];
    let trouble = Trouble::Topology(vec![outpost.into()]);
    stage.driver.upset("CreateVolume", usize::MAX, trouble);
}

#[test]
fn a_claim_of_the_plugin_comes_and_goes() {
    let scenario = Scenario::new("claim of an in-tree plugin comes and goes", Rest::volumes(0));
    scenario.world(migrated).flags(ALONE).twice().run(async |stage| {
        stage.add_claim("default", "data", "1Gi", |_| {});
        stage.becomes_bound("data").await;
        stage.claim_goes().await;
    });
}

#[test]
fn the_plugin_has_no_words_for_the_volume_for_a_while() {
    let scenario = Scenario::new("no words for the volume", Rest::volumes(1)).misfits();
    scenario.world(migrated).flags(ALONE).run(async |stage| {
        astray(stage);
        stage.add_claim("default", "data", "1Gi", |_| {});
        stage
            .is_told("data", &["Retries will be delayed", "it was deleted"])
            .await;
        stage.driver.heal();
        stage.becomes_bound("data").await;
    });
}

#[test]
fn the_plugin_has_no_words_for_the_volume_and_its_claim_is_gone() {
    let scenario = Scenario::new("no words for the volume, claim gone", Rest::volumes(0)).misfits();
    scenario.world(migrated).flags(ALONE).run(async |stage| {
        stage
            .driver
            .upset("CreateVolume", 1, Trouble::RefuseAfter(Code::Unavailable, "busy"));
        astray(stage);
        stage.add_claim("default", "data", "1Gi", |_| {});
        stage.is_made().await;
        stage.claim_goes().await;
    });
}
