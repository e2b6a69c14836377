//! Storage capacity: which objects there are, whom they belong to, and who changes them.

use sandbox::{World, driver::Segment};
use serde_json::{Value, json};

use crate::sidecar::{DRIVER, HOME, MANIFESTS, Sidecar, secs, text};

/// What publishing needs besides the base.
pub(crate) const RIGHTS: &str = include_str!("../../manifests/components/capacity/rbac.yaml");
pub(crate) const CAPACITIES: &str = "csistoragecapacities";
pub(crate) const ON: &str = "--enable-capacity";
const GI: i64 = 1 << 30;

/// Two zones with 5 and 10 GiB, a node in each, a class whose volumes wait for the scheduler, and the sidecar's pod,
/// which belongs to a ReplicaSet and that one to a Deployment.
pub(crate) fn zones() -> World {
    let world = World::new(DRIVER).namespace(HOME).rbac(MANIFESTS, HOME);
    let world = world.rbac(RIGHTS, HOME);
    // Here the volumes go, so that the room elsewhere stays as it is.
    world.driver.segment(Segment::new(&[("zone", "c")], None));
    world.driver.segment(Segment::new(&[("zone", "a")], Some(5 * GI)));
    world
        .driver
        .segment(Segment::new(&[("zone", "b")], Some(10 * GI)));
    // Where volumes are put is another matter.
    world.driver.configure(|identity| identity.topology = false);
    let world = world.node("n1", &[("zone", "a")]).node("n2", &[("zone", "b")]);
    pods(&world);
    world.class("now", &[]).class_with("fast", |class| {
        class["volumeBindingMode"] = "WaitForFirstConsumer".into()
    })
}

/// A sidecar's pods and what is above them.
pub(crate) fn pods(world: &World) {
    let owner = |kind: &str, made: &Value| {
        json!([{"apiVersion": "apps/v1", "kind": kind, "name": text(made, "/metadata/name"),
                "uid": text(made, "/metadata/uid"), "controller": true}])
    };
    let make = |plural, object| world.api.create(plural, HOME, object);
    let deployment = make("deployments", json!({"metadata": {"name": "sidecar"}}));
    let set = json!({"metadata": {"name": "sidecar-1", "ownerReferences": owner("Deployment", &deployment)}});
    let set = make("replicasets", set);
    for name in ["pod-a", "pod-b"] {
        let metadata = json!({"name": name, "ownerReferences": owner("ReplicaSet", &set)});
        make(
            "pods",
            json!({"metadata": metadata, "spec": {"containers": [{"name": "sidecar", "image": "sidecar"}]}}),
        );
    }
}

/// What is published: `class segment capacity`, sorted.
pub(crate) fn published(world: &World) -> Vec<String> {
    let mut lines: Vec<_> = world
        .api
        .list(CAPACITIES)
        .iter()
        .map(|object| {
            let labels = object["nodeTopology"]["matchLabels"]
                .as_object()
                .cloned()
                .unwrap_or_default();
            let labels: Vec<_> = labels
                .iter()
                .map(|(key, value)| format!("{key}={}", value.as_str().unwrap()))
                .collect();
            let (class, capacity) = (text(object, "/storageClassName"), text(object, "/capacity"));
            format!("{class} {} {capacity}", labels.join(","))
        })
        .collect();
    lines.sort();
    lines
}

pub(crate) fn room_in_a(world: &World, bytes: i64) {
    world
        .driver
        .configure(|identity| identity.segments[1].room = Some(bytes));
}

pub(crate) async fn becomes(world: &World, lines: &[&str]) {
    world
        .eventually(&format!("{lines:?} is published"), |world| {
            published(world) == lines
        })
        .await;
}

pub(crate) fn writes(world: &World) -> usize {
    ["create", "update", "delete"]
        .map(|verb| world.api.count(verb, CAPACITIES))
        .iter()
        .sum()
}

/// What is published in [`zones`].
pub(crate) const USUAL: &[&str] = &["fast zone=a 5Gi", "fast zone=b 10Gi"];

#[tokio::test(start_paused = true)]
async fn each_class_and_segment_has_an_object_and_an_idle_poll_writes_nothing() {
    let world = zones();
    let world = world.class_with("slow", |class| {
        class["volumeBindingMode"] = "WaitForFirstConsumer".into();
        class["parameters"] = json!({"tier": "slow", "csi.storage.k8s.io/fstype": "xfs",
            "csi.storage.k8s.io/provisioner-secret-name": "s", "csi.storage.k8s.io/provisioner-secret-namespace": "n"});
    });
    world
        .driver
        .configure(|identity| identity.maximum_volume_size = Some(GI));
    let sidecar = Sidecar::with(&world, &[ON, "--capacity-ownerref-level=2"]);
    let all = [
        "fast zone=a 5Gi",
        "fast zone=b 10Gi",
        "slow zone=a 5Gi",
        "slow zone=b 10Gi",
    ];
    becomes(&world, &all).await;
    for object in world.api.list(CAPACITIES) {
        let name = text(&object, "/metadata/name");
        assert!(name.starts_with("csisc-") && name.len() == 11, "{object}");
        assert_eq!(text(&object, "/metadata/namespace"), HOME);
        let labels = json!({"csi.storage.k8s.io/drivername": DRIVER, "csi.storage.k8s.io/managed-by": "external-provisioner"});
        assert_eq!(object["metadata"]["labels"], labels);
        assert_eq!(object["maximumVolumeSize"], "1Gi");
        let owner = &object["metadata"]["ownerReferences"];
        assert_eq!(owner.as_array().map(Vec::len), Some(1));
        assert_eq!(
            (text(owner, "/0/kind"), text(owner, "/0/name")),
            ("Deployment", "sidecar")
        );
        assert_eq!(
            (&owner[0]["controller"], &owner[0]["blockOwnerDeletion"]),
            (&true.into(), &Value::Null)
        );
    }
    for request in world.driver.capacity_requests() {
        assert!(
            request.parameters.keys().all(|key| key == "tier"),
            "D-3: {request:?}"
        );
        assert_eq!(request.accessible_topology.unwrap().segments.len(), 1);
        assert!(request.volume_capabilities.is_empty());
    }
    tokio::time::sleep(secs(30)).await;
    let (written, asked) = (writes(&world), world.driver.count("GetCapacity"));
    assert_eq!(
        (written, asked),
        (4, 4),
        "what we have written is no reason to ask again"
    );
    tokio::time::sleep(secs(3600)).await;
    assert_eq!(writes(&world), written, "an hour of nothing");
    // Now and then the work queue looks at everything by itself.
    let asked = world.driver.count("GetCapacity") - asked;
    assert!((240..=256).contains(&asked), "each item once a minute: {asked}");
    for (metric, value) in [
        ("csistoragecapacities_desired_goal", 4.0),
        ("csistoragecapacities_desired_current", 4.0),
        ("csistoragecapacities_obsolete", 0.0),
        ("volwright_capacity_failing", 0.0),
        ("volwright_capacity_ready", 1.0),
    ] {
        assert_eq!(sidecar.metric(metric, &[]).await, value, "{metric}");
    }
    let queue = ["name=\"csistoragecapacity\""];
    assert!(sidecar.metric("workqueue_adds_total", &queue).await >= 240.0);
    assert_eq!(sidecar.metric("workqueue_depth", &queue).await, 0.0);
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn what_the_driver_says_anew_is_published_at_the_next_poll() {
    let world = zones();
    let sidecar = Sidecar::with(&world, &[ON, "--capacity-for-immediate-binding"]);
    becomes(
        &world,
        &[
            "fast zone=a 5Gi",
            "fast zone=b 10Gi",
            "now zone=a 5Gi",
            "now zone=b 10Gi",
        ],
    )
    .await;
    let names = |world: &World| -> Vec<_> {
        world
            .api
            .list(CAPACITIES)
            .iter()
            .map(|object| text(object, "/metadata/name").to_owned())
            .collect()
    };
    let before = names(&world);
    room_in_a(&world, 0);
    becomes(
        &world,
        &[
            "fast zone=a 0",
            "fast zone=b 10Gi",
            "now zone=a 0",
            "now zone=b 10Gi",
        ],
    )
    .await;
    assert_eq!(names(&world), before, "updated in place");
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn objects_that_are_edited_doubled_or_deleted_by_hand_are_repaired() {
    let world = zones();
    let sidecar = Sidecar::with(&world, &[ON]);
    becomes(&world, USUAL).await;
    let at_a = |world: &World| {
        world
            .api
            .filter(CAPACITIES, |object| {
                object["nodeTopology"]["matchLabels"]["zone"] == "a"
            })
            .remove(0)
    };
    let name = |object: &Value| text(object, "/metadata/name").to_owned();
    let first = at_a(&world);

    world.api.edit(CAPACITIES, HOME, &name(&first), |object| {
        object["capacity"] = "1Ti".into();
        object["metadata"]["annotations"]["note"] = "kept".into();
    });
    becomes(&world, USUAL).await;
    assert_eq!(text(&at_a(&world), "/metadata/annotations/note"), "kept");

    world.api.delete(CAPACITIES, HOME, &name(&first));
    becomes(&world, USUAL).await;
    assert_ne!(at_a(&world)["metadata"]["uid"], first["metadata"]["uid"]);

    // As somebody else makes them: a double, one for a class that is gone, one that is no segment, one of another
    // manager, one of none.
    let made = |change: fn(&mut Value)| {
        let mut object = at_a(&world);
        for field in ["uid", "resourceVersion", "creationTimestamp", "name"] {
            object["metadata"].as_object_mut().unwrap().remove(field);
        }
        object["metadata"]["generateName"] = "hand-".into();
        change(&mut object);
        name(&world.api.create(CAPACITIES, HOME, object))
    };
    let obsolete = [
        made(|object| object["storageClassName"] = "gone".into()),
        made(|object| {
            object["nodeTopology"] = json!({"matchExpressions": [{"key": "zone", "operator": "Exists"}]})
        }),
        made(|object| drop(object.as_object_mut().unwrap().remove("nodeTopology"))),
    ];
    let foreign = [
        made(|object| object["metadata"]["labels"]["csi.storage.k8s.io/managed-by"] = "somebody".into()),
        made(|object| {
            drop(
                object["metadata"]["labels"]
                    .as_object_mut()
                    .unwrap()
                    .remove("csi.storage.k8s.io/managed-by"),
            )
        }),
    ];
    made(|_| {});
    world
        .eventually("ours are in order again", |world| world.api.len(CAPACITIES) == 4)
        .await;
    let there: Vec<_> = world.api.list(CAPACITIES).iter().map(name).collect();
    assert!(obsolete.iter().all(|name| !there.contains(name)), "{there:?}");
    assert!(
        foreign.iter().all(|name| there.contains(name)),
        "cap.CapacityController.15 cap.CapacityController.16"
    );

    // The labels are taken off: the object is left alone, and another one is made.
    let last = world
        .api
        .filter(CAPACITIES, |object| {
            object["nodeTopology"]["matchLabels"]["zone"] == "b"
        })
        .remove(0);
    world.api.edit(CAPACITIES, HOME, &name(&last), |object| {
        object["metadata"]["labels"] = json!({})
    });
    world
        .eventually("another one is there", |world| world.api.len(CAPACITIES) == 5)
        .await;
    assert!(world.api.get(CAPACITIES, HOME, &name(&last)).is_some());
    sidecar.end(&world).await;
}

/// Ids of upstream's cases that the labels decide, not a table.
#[tokio::test(start_paused = true)]
async fn d28_objects_of_other_managers_or_of_none_are_left_alone() {
    for (id, manager) in [
        ("cap.CapacityController.15", Some("somebody")),
        ("cap.CapacityController.16", None),
    ] {
        let world = zones();
        let mut labels = json!({"csi.storage.k8s.io/drivername": DRIVER});
        if let Some(manager) = manager {
            labels["csi.storage.k8s.io/managed-by"] = manager.into();
        }
        let foreign = json!({"metadata": {"name": "foreign", "labels": labels}, "storageClassName": "gone",
            "nodeTopology": {"matchLabels": {"zone": "a"}}, "capacity": "7Gi"});
        let foreign = world.api.create(CAPACITIES, HOME, foreign);
        let sidecar = Sidecar::with(&world, &[ON]);
        becomes(&world, &[USUAL, &["gone zone=a 7Gi"]].concat()).await;
        tokio::time::sleep(secs(300)).await;
        assert_eq!(world.api.get(CAPACITIES, HOME, "foreign"), Some(foreign), "{id}");
        assert_eq!(
            sidecar.metric("csistoragecapacities_obsolete", &[]).await,
            0.0,
            "D-28: {id}"
        );
        sidecar.end(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn objects_go_with_their_class_and_their_last_node_and_not_with_a_roll_out() {
    let world = zones();
    let sidecar = Sidecar::with(&world, &[ON]);
    becomes(&world, USUAL).await;
    let written = writes(&world);
    for node in ["n1", "n2"] {
        world.unregister(node);
    }
    tokio::time::sleep(secs(90)).await;
    for node in ["n1", "n2"] {
        world.register(node, &["zone"]);
    }
    tokio::time::sleep(secs(300)).await;
    assert_eq!(writes(&world), written, "the node plugin was replaced everywhere");

    world.unregister("n2");
    becomes(&world, &USUAL[..1]).await;
    world.add_node("n3", &[("zone", "a")]);
    world.register("n3", &["zone"]);
    world.remove_node("n1");
    tokio::time::sleep(secs(300)).await;
    assert_eq!(published(&world), &USUAL[..1], "the zone has another node");
    world.label("n3", "zone", Some("b"));
    becomes(&world, &USUAL[1..]).await;
    world.api.delete("storageclasses", "", "fast");
    becomes(&world, &[]).await;
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn d2_a_driver_without_keys_has_one_object_for_everywhere_and_it_stays() {
    let world = zones();
    for node in ["n1", "n2"] {
        world.register(node, &[]);
    }
    let sidecar = Sidecar::with(&world, &[ON, "--capacity-ownerref-level=-1"]);
    becomes(&world, &["fast  9223372036854775807"]).await;
    let object = world.api.list(CAPACITIES).remove(0);
    assert_eq!(object["nodeTopology"], json!({}));
    assert_eq!(object["metadata"]["ownerReferences"], Value::Null);
    tokio::time::sleep(secs(600)).await;
    assert_eq!(writes(&world), 1, "D-2");
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn only_the_leader_publishes_and_the_next_one_takes_its_objects_over() {
    let world = zones();
    let sidecar = Sidecar::with(&world, &[ON]);
    sidecar.leads(&world).await;
    let other = sidecar.beside_with(&world, "pod-b", &world.driver, &[ON]);
    becomes(&world, USUAL).await;
    tokio::time::sleep(secs(120)).await;
    assert_eq!(writes(&world), 2);
    for metric in [
        "csistoragecapacities_desired_goal",
        "csistoragecapacities_desired_current",
        "csistoragecapacities_obsolete",
        "volwright_capacity_ready",
    ] {
        assert_eq!(other.metric(metric, &[]).await, 0.0, "{metric} of a standby");
    }
    sidecar.end(&world).await;
    let asked = world.driver.count("GetCapacity");
    world
        .eventually("the other one asks", |world| {
            world.driver.count("GetCapacity") > asked + 4
        })
        .await;
    assert_eq!(
        (writes(&world), published(&world).len()),
        (2, 2),
        "the same owner, the same objects"
    );
    other.end(&world).await;
}
