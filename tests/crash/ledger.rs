//! The ledger itself is edited, deleted or forbidden, the secret is gone, or the request is as large as they come.

use sandbox::{
    Fault, Harm, World,
    driver::{Segment, Trouble},
};
use tokio::time::sleep;

use crate::{
    rest::Rest,
    scenario::Scenario,
    sidecar::{HOME, LEASE, Look, SECRETS, TOPOLOGY, empty_world, secs, text},
    stage::Stage,
};

fn locked() -> World {
    let world = empty_world().rbac(SECRETS, HOME).class(
        "locked",
        &[
            ("csi.storage.k8s.io/provisioner-secret-name", "key"),
            ("csi.storage.k8s.io/provisioner-secret-namespace", "default"),
        ],
    );
    world.secret("default", "key", &[("user", "joe")])
}

fn give_key(stage: &Stage) {
    let key = serde_json::json!({"metadata": {"name": "key"}, "stringData": {"user": "joe"}});
    stage.api.create("secrets", "default", key);
}

/// The shards may not be touched from now on.
fn forbid(stage: &Stage, quota: bool) {
    for verb in ["get", "create", "update"] {
        let harm = match quota && verb == "create" {
            true => Harm::Quota,
            false => Harm::Status(403),
        };
        stage
            .api
            .harm(Fault::new(harm).on(verb, "leases").like("-ledger-"));
    }
}

#[test]
fn the_secret_is_gone() {
    let scenario = Scenario::new("secret gone", Rest::volumes(1)).world(locked);
    scenario.run(async |stage| {
        stage.made_in_doubt().await;
        stage.api.delete("secrets", "default", "key");
        stage.driver.heal();
        sleep(secs(90)).await;
        if stage.api.get("secrets", "default", "key").is_none() {
            give_key(stage);
        }
        stage.becomes_bound("data").await;
    });
}

#[test]
fn the_secret_and_the_claim_are_gone() {
    let scenario = Scenario::new("secret and claim gone", Rest::volumes(0)).world(locked);
    scenario.run(async |stage| {
        stage.made_in_doubt().await;
        stage.api.delete("secrets", "default", "key");
        stage.claim_goes().await;
        stage.driver.heal();
        sleep(secs(90)).await;
        let unsecret =
            |call: &sandbox::driver::Call| call.method == "CreateVolume" && call.secrets.is_empty();
        assert!(
            !stage.driver.calls().iter().any(unsecret),
            "called without its secret"
        );
        give_key(stage);
    });
}

/// Another claim comes, the driver answers again, and both get their volume.
async fn goes_on_with_another_claim(stage: &Stage) {
    stage.add_claim("default", "more", "1Gi", |_| {});
    sleep(secs(20)).await;
    stage.driver.heal();
    stage.becomes_bound("data").await;
    stage.becomes_bound("more").await;
}

#[test]
fn a_shard_is_edited() {
    Scenario::new("shard edited by hand", Rest::volumes(2)).run(async |stage| {
        stage.made_in_doubt().await;
        stage.edit_shards(|shard| {
            shard["metadata"].as_object_mut().unwrap().remove("annotations");
        });
        goes_on_with_another_claim(stage).await;
    });
}

#[test]
fn a_shard_is_deleted() {
    Scenario::new("shards deleted by hand", Rest::volumes(2)).run(async |stage| {
        stage.made_in_doubt().await;
        for lease in stage.api.list("leases") {
            let name = text(&lease, "/metadata/name");
            if name != LEASE {
                stage.api.delete("leases", HOME, name);
            }
        }
        goes_on_with_another_claim(stage).await;
    });
}

#[test]
fn leases_are_forbidden_before() {
    Scenario::new("Leases forbidden before", Rest::volumes(0))
        .some(8)
        .run(async |stage| {
            forbid(stage, true);
            stage.add_claim("default", "first", "1Gi", |_| {});
            stage.becomes_bound("first").await;
            stage.api.heal();
            sleep(secs(660)).await;
            stage.driver.upset("CreateVolume", 1, Trouble::Delay(secs(3)));
            let asked = stage.driver.count("CreateVolume");
            stage.add_claim("default", "data", "1Gi", |_| {});
            stage
                .eventually("the driver is asked", |world| {
                    world.driver.count("CreateVolume") > asked
                })
                .await;
            stage.claim_goes().await;
            stage.api.delete(crate::sidecar::CLAIMS, "default", "first");
        });
}

#[test]
fn leases_are_forbidden_in_the_middle() {
    // What was on record before is finished; nothing was lost because the claim stands.
    Scenario::new("Leases forbidden in the middle", Rest::volumes(1))
        .some(6)
        .run(async |stage| {
            stage.made_in_doubt().await;
            forbid(stage, false);
            sleep(secs(20)).await;
            stage.driver.heal();
            stage.becomes_bound("data").await;
            stage.api.heal();
            sleep(secs(660)).await;
        });
}

#[test]
fn leases_are_forbidden_after() {
    Scenario::new("Leases forbidden after", Rest::volumes(0))
        .some(6)
        .run(async |stage| {
            stage.made_in_doubt().await;
            stage.claim_goes().await;
            forbid(stage, false);
            sleep(secs(20)).await;
            stage.driver.heal();
            sleep(secs(20)).await;
            stage.api.heal();
            sleep(secs(660)).await;
        });
}

#[test]
fn nothing_is_made_without_a_durable_record_where_that_is_required() {
    let scenario = Scenario::new("Leases forbidden, records required", Rest::volumes(0));
    scenario.flags(&["--crash-safe=required"]).run(async |stage| {
        forbid(stage, true);
        stage.add_claim("default", "data", "1Gi", |_| {});
        sleep(secs(60)).await;
        assert_eq!(stage.driver.count("CreateVolume"), 0, "asked without a record");
        stage.api.heal();
        stage.becomes_bound("data").await;
        stage.claim_goes().await;
    });
}

fn five_thousand_hostnames() -> World {
    let world = empty_world().rbac(TOPOLOGY, HOME).class("fast", &[]);
    for number in 0..5_000 {
        let name = format!("node-{number}.long.name.of.a.host.example.com");
        world.add_node(&name, &[("topology.example.com/hostname", &name)]);
        world.register(&name, &["topology.example.com/hostname"]);
    }
    world.driver.segment(Segment::new(
        &[(
            "topology.example.com/hostname",
            "node-7.long.name.of.a.host.example.com",
        )],
        None,
    ));
    world
}

#[test]
fn the_request_has_five_thousand_hostnames() {
    let scenario = Scenario::new("5,000 hostnames", Rest::volumes(0)).world(five_thousand_hostnames);
    // What follows is as in any scenario.
    scenario.first(8).some(4).run(async |stage| {
        stage.slowly_asked(3).await;
        stage.claim_goes().await;
    });
}
