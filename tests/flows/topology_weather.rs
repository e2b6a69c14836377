//! Rights that are missing for topology, and nodes that do not come to rest.

use sandbox::{
    Fault, Harm, World,
    driver::{Segment, Trouble},
};
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::{
    sidecar::{CLAIMS, HOME, Look, Sidecar, TOPOLOGY, USER, secs},
    topology::{STRICT, pod, preferred, zones},
};

#[tokio::test(start_paused = true)]
async fn a_conflict_on_the_way_back_to_the_scheduler_costs_nothing() {
    let world = zones([0, 10]);
    world
        .api
        .harm(Fault::new(Harm::Status(409)).on("update", CLAIMS).times(3));
    let sidecar = Sidecar::with(&world, STRICT);
    pod(&world, "data");
    world.becomes_bound("data").await;
    let puts = world
        .api
        .requests()
        .into_iter()
        .filter(|r| r.user == USER && r.resource == CLAIMS && r.name == "data");
    let codes: Vec<_> = puts.map(|r| r.code).collect();
    assert_eq!(codes, [409, 409, 409, 200]);
    assert_eq!(preferred(&world), ["zone=a", "zone=b"]);
    sidecar.end(&world).await;

    let world = zones([0, 10]);
    world
        .api
        .harm(Fault::new(Harm::Status(409)).on("update", CLAIMS).times(4));
    let sidecar = Sidecar::with(&world, STRICT);
    pod(&world, "data");
    world
        .is_told(
            "data",
            &["ResourceExhausted", "the selected node stays", "update"],
        )
        .await;
    world.becomes_bound("data").await;
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn each_missing_right_for_topology_is_named_with_its_rule_and_heals_when_it_is_granted() {
    for (verb, group, resource) in [
        ("watch", "storage.k8s.io", "csinodes"),
        ("watch", "", "nodes"),
        ("update", "", "persistentvolumeclaims"),
    ] {
        let world = zones([0, 10]);
        world.api.withdraw(verb, group, resource);
        let sidecar = Sidecar::with(&world, STRICT);
        pod(&world, "data");
        let cannot = format!("cannot {verb} resource \"{resource}\" in API group \"{group}\"");
        let rule = format!("apiGroups: [\"{group}\"], resources: [\"{resource}\"], verbs: [\"{verb}\"]");
        world
            .eventually(&cannot, |_| sidecar.logged(&[&cannot, &rule]))
            .await;
        world
            .always(&cannot, secs(60), |world| !world.bound("data"))
            .await;
        world.api.load_rbac(TOPOLOGY, HOME).expect("the manifests");
        world.becomes_bound("data").await;
        sidecar.end_without_rights(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_manifests_grant_what_topology_needs_and_no_more() {
    let world = zones([0, 10]);
    let sidecar = Sidecar::with(&world, STRICT);
    pod(&world, "data");
    world.becomes_bound("data").await;
    let used = world.api.used(USER);
    for (verb, group, resource) in [
        ("watch", "storage.k8s.io", "csinodes"),
        ("watch", "", "nodes"),
        ("update", "", "persistentvolumeclaims"),
    ] {
        let right = (verb.to_owned(), group.to_owned(), resource.to_owned());
        assert!(used.contains(&right), "{right:?}");
    }
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn until_the_watch_shows_that_a_claim_went_back_its_old_node_is_not_asked_for_again() {
    let world = zones([0, 10]);
    world.driver.upset("CreateVolume", 1, Trouble::Delay(secs(5)));
    let sidecar = Sidecar::with(&world, STRICT);
    pod(&world, "data");
    world
        .eventually("the call runs", |world| world.driver.count("CreateVolume") == 1)
        .await;
    world.api.freeze_cache();
    world
        .eventually("it is sent back", |world| {
            world.selected_node("default", "data") == "node-b"
        })
        .await;
    // All claims are looked at when the driver returns.
    world.driver.stop();
    sleep(secs(3)).await;
    world.driver.start();
    world
        .always("not asked again", secs(30), |world| {
            preferred(world) == ["zone=a"]
        })
        .await;
    world.api.thaw_cache();
    world.becomes_bound("data").await;
    assert_eq!(preferred(&world), ["zone=a", "zone=b"]);
    sidecar.end(&world).await;
}

/// Takes the driver off a node and registers it again, every second, for ever.
async fn flap(world: &World, node: &str) {
    loop {
        world.unregister(node);
        sleep(secs(1)).await;
        world.register(node, &["zone"]);
        sleep(secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_csi_node_that_flaps_every_second_costs_no_claim_its_reconcile() {
    let world = zones([100, 100]);
    world.add_node("node-c", &[("zone", "c")]);
    world.api.create(
        "csinodes",
        "",
        json!({"metadata": {"name": "node-c"}, "spec": {"drivers": []}}),
    );
    let sidecar = Sidecar::start(&world);
    let live = async {
        // This one waits for a node that nothing happens to.
        world.scheduler.prefer(&["node-c"]);
        pod(&world, "waits");
        world.is_told("waits", &["not registered on node node-c"]).await;
        world.api.forget_requests();
        for (n, node) in ["node-a", "node-b"].into_iter().cycle().take(20).enumerate() {
            world.scheduler.prefer(&[node]);
            let name = format!("data-{n}");
            pod(&world, &name);
            let soon = timeout(secs(30), world.becomes_bound(&name)).await;
            assert!(soon.is_ok(), "{name} on {node}\n{}", world.print());
        }
        sleep(secs(600)).await;
        let about = world.events("waits");
        assert_eq!(about.len(), 1, "{about:?}");
        let patches = world.api.count("patch", "events");
        assert!(
            patches < 60,
            "{patches} patches of events for one claim that waits"
        );
        world.register("node-c", &["zone"]);
        world.driver.segment(Segment::new(&[("zone", "c")], None));
        let soon = timeout(secs(30), world.becomes_bound("waits")).await;
        assert!(soon.is_ok(), "{}", world.print());
    };
    tokio::select! {
        () = live => {}
        () = flap(&world, "node-a") => {}
    }
    sidecar.end(&world).await;
}
