//! Upstream's own cases of a sidecar that serves one node: which claims it takes, and which volumes it deletes.

use sandbox::{
    World,
    driver::{Capability, Segment, Volume},
};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::sidecar::{CLAIMS, DRIVER, HOME, Look, Sidecar, TOPOLOGY, VOLUMES, empty_world, secs, text};

/// The harness calls its first pod so, and the node as the pod.
const NODE: &str = "pod-a";
const FLAGS: &[&str] = &["--leader-election=false", "--node-deployment"];
const SELECTED: &str = "/metadata/annotations/volume.kubernetes.io~1selected-node";

/// A driver with topology on the node in zone `a`, with this much room.
fn on_node(room: i64, class: impl FnOnce(&mut Value)) -> World {
    let world = empty_world().rbac(TOPOLOGY, HOME).class_with("local", class);
    world.driver.configure(|identity| {
        identity.topology = true;
        identity.capabilities.push(Capability::GetCapacity);
        identity.node_id = NODE.into();
        identity.node_topology = Some([("zone".to_owned(), "a".to_owned())].into());
    });
    world.driver.segment(Segment::new(&[("zone", "a")], Some(room)));
    world
}

fn waiting(class: &mut Value) {
    class["volumeBindingMode"] = "WaitForFirstConsumer".into();
}

fn immediate(class: &mut Value) {
    class["volumeBindingMode"] = "Immediate".into();
}

fn allowed(class: &mut Value, zone: &str) {
    immediate(class);
    class["allowedTopologies"] = json!([{"matchLabelExpressions": [{"key": "zone", "values": [zone]}]}]);
}

#[tokio::test(start_paused = true)]
async fn a_claim_is_made_where_it_is_selected_and_taken_where_its_class_and_the_room_let_it_be() {
    type Row = (
        [&'static str; 2],
        fn(&mut Value),
        Option<&'static str>,
        i64,
        Option<&'static str>,
    );
    let rows: [Row; 8] = [
        (
            ["ctl.Provision.28", "ctl.ShouldProvision.28"],
            waiting,
            Some(NODE),
            1000,
            Some(NODE),
        ),
        (
            ["ctl.Provision.29", "ctl.ShouldProvision.29"],
            waiting,
            None,
            1000,
            None,
        ),
        (
            ["ctl.Provision.30", "ctl.ShouldProvision.30"],
            waiting,
            Some("bar"),
            1000,
            Some("bar"),
        ),
        (
            ["ctl.Provision.31", "ctl.ShouldProvision.31"],
            immediate,
            Some(NODE),
            1000,
            Some(NODE),
        ),
        (
            ["ctl.Provision.32", "ctl.ShouldProvision.32"],
            immediate,
            None,
            1000,
            Some(NODE),
        ),
        (
            ["ctl.Provision.33", "ctl.ShouldProvision.33"],
            immediate,
            None,
            99,
            None,
        ),
        (
            ["ctl.Provision.34", "ctl.ShouldProvision.34"],
            |class| allowed(class, "a"),
            None,
            1000,
            Some(NODE),
        ),
        (
            ["ctl.Provision.35", "ctl.ShouldProvision.35"],
            |class| allowed(class, "b"),
            None,
            1000,
            None,
        ),
    ];
    for (ids, class, selected, room, becomes) in rows {
        let world = on_node(room, class);
        let sidecar = Sidecar::with(&world, FLAGS);
        world.add_claim("default", "data", "100", |claim| {
            claim["metadata"]["annotations"]["volume.kubernetes.io/storage-provisioner"] = DRIVER.into();
            if let Some(node) = selected {
                claim["metadata"]["annotations"]["volume.kubernetes.io/selected-node"] = node.into();
            }
        });
        sleep(secs(300)).await;
        let claim = world.api.get(CLAIMS, "default", "data").expect("the claim");
        assert_eq!(text(&claim, SELECTED), becomes.unwrap_or_default(), "{ids:?}");
        let made = becomes == Some(NODE);
        assert_eq!(world.bound("data"), made, "{ids:?}\n{}", world.print());
        assert_eq!(world.driver.count("CreateVolume"), usize::from(made), "{ids:?}");
        // Nobody else has taken it, either: the API server was asked to change a claim in these two rows only.
        let written = world.api.count("update", CLAIMS);
        assert_eq!(written, usize::from(selected.is_none() && made), "{ids:?}");
        sidecar.end_without_rights(&world).await;
    }
}

/// A volume of the driver in this zone, whose claim is gone.
fn released(world: &World, name: &str, zone: &str) {
    world.driver.add_volume(Volume {
        id: name.to_owned(),
        name: name.to_owned(),
        bytes: 100,
        parameters: Default::default(),
    });
    let here = json!({"key": "zone", "operator": "In", "values": [zone]});
    world.api.create(
        VOLUMES,
        "",
        json!({
            "metadata": {"name": name, "annotations": {"pv.kubernetes.io/provisioned-by": DRIVER}},
            "spec": {
                "capacity": {"storage": "100"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "local",
                "persistentVolumeReclaimPolicy": "Delete",
                "csi": {"driver": DRIVER, "volumeHandle": name},
                "claimRef": {"namespace": "default", "name": "gone", "uid": "gone"},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
            },
        }),
    );
}

#[tokio::test(start_paused = true)]
async fn a_volume_is_deleted_by_the_sidecar_of_a_node_that_reaches_it() {
    for (id, zone, deleted) in [("ctl.Delete.17", "b", false), ("ctl.Delete.18", "a", true)] {
        let world = on_node(1000, waiting);
        let sidecar = Sidecar::with(&world, FLAGS);
        released(&world, "volume-1", zone);
        sleep(secs(300)).await;
        assert_eq!(world.is_clean(), deleted, "{id}");
        assert_eq!(world.driver.count("DeleteVolume"), usize::from(deleted), "{id}");
        let failed = "controller_persistentvolume_delete_failed_total";
        assert_eq!(sidecar.metric(failed, &[]).await, 0.0, "{id}");
        let succeeded = sidecar.metric("controller_persistentvolume_delete_total", &[]);
        assert_eq!(succeeded.await, f64::from(u8::from(deleted)), "{id}");
        sidecar.end(&world).await;
    }
}
