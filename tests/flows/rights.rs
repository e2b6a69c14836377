//! A right that is missing is named with the rule to add, and nothing else is needed than to add it.

use sandbox::{
    World,
    driver::{Capability, Trouble},
};
use serde_json::json;
use tokio::time::{Instant, timeout};
use tonic::Code;

use crate::{
    attributes::{attributes_class, names},
    look::restored,
    sidecar::{CLAIMS, DRIVER, HOME, Look, MANIFESTS, SECRETS, Sidecar, USER, secs},
};

/// The base and its component.
fn everything() -> String {
    format!("{MANIFESTS}---\n{SECRETS}")
}

/// Every right of the manifests: the rule's resources and verbs as written there, and the verb to take out.
fn rights() -> Vec<(String, &'static str, &'static str, &'static str)> {
    let rules: [(&str, &str, &[&str]); 11] = [
        ("", "persistentvolumeclaims", &["list", "watch"]),
        ("", "persistentvolumeclaims", &["update"]),
        ("storage.k8s.io", "storageclasses", &["list", "watch"]),
        (
            "",
            "persistentvolumes",
            &["get", "list", "watch", "create", "patch", "delete"],
        ),
        ("storage.k8s.io", "volumeattributesclasses", &["get"]),
        (
            "snapshot.storage.k8s.io",
            "volumesnapshots",
            &["get", "list", "watch", "update"],
        ),
        ("snapshot.storage.k8s.io", "volumesnapshotcontents", &["get"]),
        ("storage.k8s.io", "volumeattachments", &["list", "watch"]),
        ("", "events", &["create", "patch"]),
        ("", "secrets", &["get"]),
        (
            "coordination.k8s.io",
            "leases",
            &["get", "watch", "create", "update"],
        ),
    ];
    let (manifests, mut all) = (everything(), Vec::new());
    for (group, resource, verbs) in rules {
        let whole = format!("resources: [{resource}]\n    verbs: [{}]", verbs.join(", "));
        assert_eq!(
            manifests.matches(&whole).count(),
            1,
            "the manifests have changed: {whole}"
        );
        for verb in verbs {
            let left: Vec<_> = verbs.iter().copied().filter(|other| other != verb).collect();
            let part = format!("resources: [{resource}]\n    verbs: [{}]", left.join(", "));
            all.push((manifests.replace(&whole, &part), group, resource, *verb));
        }
    }
    all
}

fn without(manifests: &str) -> World {
    let world = World::new(DRIVER).namespace(HOME).rbac(manifests, HOME);
    let world = world.secret("default", "data", &[("user", "joe")]);
    let more = [
        Capability::PublishUnpublishVolume,
        Capability::CreateDeleteSnapshot,
        Capability::ModifyVolume,
        Capability::CloneVolume,
    ];
    world
        .driver
        .configure(|identity| identity.capabilities.extend(more));
    world.add_snapshot("default", "backup", |_| {});
    attributes_class(&world, "gold", DRIVER, "1000");
    world.class_with("fast", |class| {
        class["parameters"] = json!({
            "csi.storage.k8s.io/provisioner-secret-name": "data",
            "csi.storage.k8s.io/provisioner-secret-namespace": "default",
        });
    })
}

#[tokio::test(start_paused = true)]
async fn each_missing_right_is_named_with_its_rule_and_heals_when_it_is_granted() {
    for (manifests, group, resource, verb) in rights() {
        let name = format!("{verb} {resource}");
        let world = without(&manifests);
        // A claim that fails first, so that its event is counted up.
        world
            .driver
            .upset("CreateVolume", 2, Trouble::Refuse(Code::Internal, "no"));
        let sidecar = Sidecar::start(&world);
        // A waiting replica watches the lease.
        let other = (resource == "leases").then(|| sidecar.beside(&world, "pod-b", &world.driver));
        let cannot = format!("cannot {verb} resource \"{resource}\" in API group \"{group}\"");
        let rule = format!(
            "add to its role: apiGroups: [\"{group}\"], resources: [\"{resource}\"], verbs: [\"{verb}\"]"
        );
        let live = async {
            world.add_claim("default", "data", "1Gi", |claim| {
                restored(claim);
                names(claim, "gold");
            });
            world.becomes_bound("data").await;
            world.add_claim("default", "copy", "1Gi", |claim| {
                claim["spec"]["dataSource"] = json!({"kind": "PersistentVolumeClaim", "name": "data"});
            });
            world.becomes_bound("copy").await;
            for claim in ["copy", "data"] {
                world.api.delete(CLAIMS, "default", claim);
            }
            world.becomes_clean().await;
        };
        let watch = async {
            let told = |_: &World| sidecar.logged(&[&cannot, &rule]);
            // Events are logged, too. Nobody lists where lists are streamed.
            let asked = timeout(secs(300), world.eventually(&name, told)).await.is_ok();
            world.api.load_rbac(&everything(), HOME).expect("the manifests");
            asked
        };
        let ((), asked) = tokio::join!(live, watch);
        assert!(
            asked || verb == "list" && resource != "volumesnapshots",
            "D-58: nobody is told that {name} is missing:\n{}",
            sidecar.log().join("\n")
        );
        if let Some(other) = other {
            other.end_without_rights(&world).await;
        }
        sidecar.end_without_rights(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn without_streaming_lists_the_right_to_list_is_named_too() {
    for (manifests, group, resource, verb) in rights() {
        // Snapshots are listed to be protected, which no claim waits for.
        if verb != "list" || resource == "volumesnapshots" {
            continue;
        }
        let world = without(&manifests);
        world.api.streaming_lists(false);
        let sidecar = Sidecar::start(&world);
        let rule = format!("apiGroups: [\"{group}\"], resources: [\"{resource}\"], verbs: [\"list\"]");
        world
            .eventually("it is named", |_| sidecar.logged(&["waiting", &rule]))
            .await;
        assert!(sidecar.page("/readyz").await.contains("lists of claims"));
        let granted = Instant::now();
        world.api.load_rbac(&everything(), HOME).expect("the manifests");
        world.add_claim("default", "data", "1Gi", |claim| names(claim, "gold"));
        world.becomes_bound("data").await;
        assert!(
            granted.elapsed() < secs(120),
            "{resource}: {:?}",
            granted.elapsed()
        );
        sidecar.end_without_rights(&world).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_life_under_the_manifests_needs_every_right_but_those_for_older_servers() {
    let world = without(&everything());
    let sidecar = Sidecar::start(&world);
    sidecar.leads(&world).await;
    let other = sidecar.beside(&world, "pod-b", &world.driver);
    tokio::time::sleep(secs(20)).await;
    world
        .driver
        .upset("CreateVolume", 2, Trouble::Refuse(Code::Internal, "no"));
    world.add_claim("default", "data", "1Gi", |claim| {
        restored(claim);
        names(claim, "gold");
    });
    world.becomes_bound("data").await;
    world.add_claim("default", "copy", "1Gi", |claim| {
        claim["spec"]["dataSource"] = json!({"kind": "PersistentVolumeClaim", "name": "data"});
    });
    world.becomes_bound("copy").await;
    world.api.delete(CLAIMS, "default", "copy");
    world.api.delete(CLAIMS, "default", "data");
    world.becomes_clean().await;
    let used = world.api.used(USER);
    let spare: Vec<_> = world
        .api
        .granted(USER)
        .into_iter()
        .filter(|right| !used.contains(right) && right.0 != "list")
        .collect();
    assert!(spare.is_empty(), "D-63: granted and never used: {spare:?}");
    other.end(&world).await;
    sidecar.end(&world).await;
}

#[tokio::test(start_paused = true)]
async fn b9_the_base_reads_no_secret_and_the_claim_names_the_rule_that_the_component_adds() {
    let world = without(MANIFESTS);
    let granted = world.api.granted(USER);
    assert!(
        granted.iter().all(|(.., resource)| resource != "secrets"),
        "{granted:?}"
    );
    let sidecar = Sidecar::start(&world);
    world.add_claim("default", "data", "1Gi", |claim| names(claim, "gold"));
    let rule = "add to its role: apiGroups: [\"\"], resources: [\"secrets\"], verbs: [\"get\"]";
    world.is_told("data", &["ProvisioningFailed", rule]).await;
    assert_eq!(world.driver.count("CreateVolume"), 0);
    world.api.load_rbac(SECRETS, HOME).expect("the component");
    world.becomes_bound("data").await;
    world.api.delete(CLAIMS, "default", "data");
    world.becomes_clean().await;
    sidecar.end_without_rights(&world).await;
}
