//! The sandbox does what it says: binding, faults, rights, the driver's rules.

#![allow(missing_docs, reason = "the names of the tests say it")]

use std::{collections::BTreeMap, time::Duration};

use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::PersistentVolume;
use kube::{
    Api as KubeApi,
    api::{DeleteParams, ListParams, PostParams},
};
use sandbox::{
    ADMIN, Api, Driver, Fault, Harm, World,
    driver::proto::{self, controller_client::ControllerClient},
    driver::{Capability, Trouble},
};
use serde_json::json;
use tonic::{Code, transport::Channel};

fn volume(name: &str, claim: Option<(&str, &str)>) -> serde_json::Value {
    let mut volume = json!({
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "fast",
            "persistentVolumeReclaimPolicy": "Delete",
            "csi": {"driver": "d.example.com", "volumeHandle": name},
        },
    });
    if let Some((name, uid)) = claim {
        volume["spec"]["claimRef"] = json!({"namespace": "default", "name": name, "uid": uid});
    }
    volume
}

#[tokio::test(start_paused = true)]
async fn a_claim_is_asked_for_bound_and_released() {
    let world = World::new("d.example.com")
        .class("fast", &[])
        .claim("default", "data", "1Gi");
    let claim = || {
        world
            .api
            .get("persistentvolumeclaims", "default", "data")
            .unwrap_or_default()
    };
    world
        .eventually("the provisioner is named on the claim", |_| {
            claim()["metadata"]["annotations"]["volume.kubernetes.io/storage-provisioner"] == "d.example.com"
        })
        .await;
    let uid = claim()["metadata"]["uid"].as_str().unwrap().to_owned();
    world
        .api
        .create("persistentvolumes", "", volume("pv", Some(("data", &uid))));
    world
        .eventually("bound", |world| world.claim_phase("default", "data") == "Bound")
        .await;
    assert_eq!(claim()["spec"]["volumeName"], "pv");
    let phase = || {
        world
            .api
            .get("persistentvolumes", "", "pv")
            .map(|pv| pv["status"]["phase"].clone())
    };
    assert_eq!(phase(), Some("Bound".into()));

    world.api.delete("persistentvolumeclaims", "default", "data");
    world
        .eventually("released", |_| phase() == Some("Released".into()))
        .await;
    assert_eq!(world.api.len("persistentvolumeclaims"), 0);
    world.api.delete("persistentvolumes", "", "pv");
    world
        .eventually("the volume goes away", |_| phase().is_none())
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_of_another_uid_does_not_get_the_volume() {
    let world = World::new("d.example.com")
        .class("fast", &[])
        .claim("default", "data", "1Gi");
    world.api.create(
        "persistentvolumes",
        "",
        volume("pv", Some(("data", "of-an-earlier-claim"))),
    );
    world
        .eventually("released", |world| {
            world.api.get("persistentvolumes", "", "pv").unwrap_or_default()["status"]["phase"] == "Released"
        })
        .await;
    assert_eq!(world.claim_phase("default", "data"), "Pending");
}

#[tokio::test(start_paused = true)]
async fn a_waiting_class_waits_for_a_node() {
    let waits = |class: &mut serde_json::Value| class["volumeBindingMode"] = "WaitForFirstConsumer".into();
    let world = World::new("d.example.com")
        .class_with("slow", waits)
        .claim("default", "data", "1Gi");
    let asked = |world: &World| {
        let claim = world
            .api
            .get("persistentvolumeclaims", "default", "data")
            .unwrap_or_default();
        claim["metadata"]["annotations"]["volume.kubernetes.io/storage-provisioner"].is_string()
    };
    world
        .always("nobody is asked", Duration::from_secs(60), |world| !asked(world))
        .await;
    world
        .api
        .edit("persistentvolumeclaims", "default", "data", |claim| {
            claim["metadata"]["annotations"]["volume.kubernetes.io/selected-node"] = "n1".into();
        });
    world.eventually("asked", asked).await;
}

#[tokio::test(start_paused = true)]
async fn faults_hit_what_they_are_aimed_at_and_wear_out() {
    let api = Api::new();
    let volumes: KubeApi<PersistentVolume> = KubeApi::all(api.client(ADMIN));
    let new: PersistentVolume = serde_json::from_value(volume("pv", None)).unwrap();
    let create = || async { volumes.create(&PostParams::default(), &new).await };
    let code = |error: kube::Error| match error {
        kube::Error::Api(status) => status.code,
        _ => 0,
    };

    api.harm(
        Fault::new(Harm::Status(403))
            .on("create", "persistentvolumes")
            .after(1)
            .times(1),
    );
    api.harm(
        Fault::new(Harm::LoseReply)
            .on("create", "persistentvolumes")
            .times(1),
    );
    api.harm(Fault::new(Harm::Cut).on("list", "persistentvolumes").times(1));
    assert_eq!(code(create().await.unwrap_err()), 0, "the reply is lost");
    assert!(
        api.get("persistentvolumes", "", "pv").is_some(),
        "but the work was done"
    );
    assert_eq!(code(create().await.unwrap_err()), 403);
    assert_eq!(code(create().await.unwrap_err()), 409);
    assert_eq!(code(volumes.list(&ListParams::default()).await.unwrap_err()), 0);
    assert_eq!(volumes.list(&ListParams::default()).await.unwrap().items.len(), 1);

    let began = tokio::time::Instant::now();
    api.harm(
        Fault::new(Harm::Delay(Duration::from_secs(30)))
            .named("pv")
            .times(1),
    );
    volumes.delete("pv", &DeleteParams::default()).await.unwrap();
    assert_eq!(began.elapsed().as_secs(), 30);
    api.outage();
    assert_eq!(code(volumes.list(&ListParams::default()).await.unwrap_err()), 0);
    api.heal();
    assert!(volumes.list(&ListParams::default()).await.is_ok());
    assert_eq!(
        api.count("create", "persistentvolumes"),
        0,
        "no success was seen by the client"
    );
}

#[tokio::test(start_paused = true)]
async fn rights_are_what_the_manifests_grant() {
    let manifests = "
# a comment alone is a document too
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: sidecar}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: volumes}
rules:
- {apiGroups: [''], resources: [persistentvolumes], verbs: [get, list]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: volumes}
subjects: [{kind: ServiceAccount, name: sidecar}]
roleRef: {kind: ClusterRole, name: volumes, apiGroup: rbac.authorization.k8s.io}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: leases}
rules:
- {apiGroups: [coordination.k8s.io], resources: [leases], verbs: [list], resourceNames: []}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: leases}
subjects: [{kind: ServiceAccount, name: sidecar}]
roleRef: {kind: Role, name: leases, apiGroup: rbac.authorization.k8s.io}
";
    let api = Api::new();
    api.load_rbac(manifests, "csi").unwrap();
    let user = "system:serviceaccount:csi:sidecar";
    let volumes: KubeApi<PersistentVolume> = KubeApi::all(api.client(user));
    assert!(volumes.list(&ListParams::default()).await.is_ok());
    let refused = volumes.delete("pv", &DeleteParams::default()).await.unwrap_err();
    assert!(
        matches!(&refused, kube::Error::Api(status) if status.code == 403),
        "{refused}"
    );
    type Leases = KubeApi<k8s_openapi::api::coordination::v1::Lease>;
    assert!(
        Leases::namespaced(api.client(user), "csi")
            .list(&ListParams::default())
            .await
            .is_ok()
    );
    assert!(
        Leases::namespaced(api.client(user), "default")
            .list(&ListParams::default())
            .await
            .is_err()
    );
    let right =
        |verb: &str, group: &str, resource: &str| (verb.to_owned(), group.to_owned(), resource.to_owned());
    let used = api.used(user);
    assert!(used.contains(&right("delete", "", "persistentvolumes")));
    let unused: Vec<_> = api.granted(user).difference(&used).cloned().collect();
    assert_eq!(unused, [right("get", "", "persistentvolumes")]);
}

#[tokio::test]
async fn the_same_api_answers_on_a_loopback_port() {
    let api = Api::new();
    let (address, task) = api.serve_on_loopback().await.unwrap();
    let kubeconfig = kube::config::Kubeconfig::from_yaml(&sandbox::kubeconfig(address, ADMIN)).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default())
        .await
        .unwrap();
    let client = kube::Client::try_from(config).unwrap();
    let volumes: KubeApi<PersistentVolume> = KubeApi::all(client);
    let new: PersistentVolume = serde_json::from_value(volume("pv", None)).unwrap();
    volumes.create(&PostParams::default(), &new).await.unwrap();
    assert_eq!(api.len("persistentvolumes"), 1);
    task.abort();
}

fn client(driver: &Driver) -> ControllerClient<Channel> {
    let driver = driver.clone();
    let endpoint = tonic::transport::Endpoint::from_static("http://localhost");
    let channel = endpoint.connect_with_connector_lazy(tower::service_fn(move |_: http::Uri| {
        let pipe = driver.connect().map(TokioIo::new);
        async move { pipe }
    }));
    ControllerClient::new(channel)
}

fn request(name: &str, bytes: i64) -> proto::CreateVolumeRequest {
    proto::CreateVolumeRequest {
        name: name.into(),
        capacity_range: Some(proto::CapacityRange {
            required_bytes: bytes,
            limit_bytes: 0,
        }),
        volume_capabilities: vec![proto::VolumeCapability::default()],
        secrets: BTreeMap::from([("user".into(), "joe".into())]),
        ..Default::default()
    }
}

#[tokio::test(start_paused = true)]
async fn the_driver_keeps_the_rules_and_notes_who_does_not() {
    let driver = Driver::new("d.example.com");
    driver.configure(|identity| identity.capabilities.push(Capability::PublishUnpublishVolume));
    let mut client = client(&driver);
    let first = client
        .create_volume(request("a", 5))
        .await
        .unwrap()
        .into_inner()
        .volume
        .unwrap();
    let again = client
        .create_volume(request("a", 5))
        .await
        .unwrap()
        .into_inner()
        .volume
        .unwrap();
    assert_eq!(first, again);
    assert_eq!(driver.volumes().len(), 1);
    assert_eq!(driver.calls()[0].secrets["user"], "joe");
    assert!(driver.breaches().is_empty());
    let refused = client.create_volume(request("a", 6)).await.unwrap_err();
    assert_eq!(refused.code(), Code::AlreadyExists);
    assert_eq!(driver.breaches().len(), 1, "another request under the same name");

    let delete = || proto::DeleteVolumeRequest {
        volume_id: first.volume_id.clone(),
        ..Default::default()
    };
    client.delete_volume(delete()).await.unwrap();
    assert!(driver.volumes().is_empty());
    client.delete_volume(delete()).await.unwrap();
    assert_eq!(driver.breaches().len(), 2, "deleted twice");
}

#[tokio::test(start_paused = true)]
async fn troubles_of_the_driver_look_like_real_ones() {
    let driver = Driver::new("d.example.com");
    let mut client = client(&driver);
    driver.upset(
        "CreateVolume",
        1,
        Trouble::Refuse(Code::ResourceExhausted, "full"),
    );
    assert_eq!(
        client.create_volume(request("a", 5)).await.unwrap_err().code(),
        Code::ResourceExhausted
    );
    assert!(driver.volumes().is_empty());

    // Work goes on behind a caller that gives up, and a second call is told so.
    driver.upset("CreateVolume", 1, Trouble::Delay(Duration::from_secs(30)));
    let second = Duration::from_secs(1);
    assert!(
        tokio::time::timeout(second, client.create_volume(request("a", 5)))
            .await
            .is_err()
    );
    tokio::time::sleep(second).await;
    assert_eq!(
        client.create_volume(request("a", 5)).await.unwrap_err().code(),
        Code::Aborted
    );
    tokio::time::sleep(30 * second).await;
    assert_eq!(driver.volumes().len(), 1);

    driver.upset("CreateVolume", 1, Trouble::LoseReply);
    assert!(
        tokio::time::timeout(second, client.create_volume(request("b", 5)))
            .await
            .is_err()
    );
    assert_eq!(driver.volumes().len(), 2);
    for (trouble, right) in [
        (
            Trouble::WithoutVolume,
            (|volume| volume.is_none()) as fn(Option<proto::Volume>) -> bool,
        ),
        (Trouble::EmptyId, |volume| volume.unwrap().volume_id.is_empty()),
        (Trouble::WrongSize(3), |volume| {
            volume.unwrap().capacity_bytes == 3
        }),
    ] {
        let name = format!("{trouble:?}");
        driver.upset("CreateVolume", 1, trouble);
        let answer = client
            .create_volume(request(&name, 5))
            .await
            .unwrap()
            .into_inner();
        assert!(right(answer.volume), "{name}");
    }
    driver.upset("CreateVolume", 1, Trouble::Oversized);
    assert_eq!(
        client.create_volume(request("big", 5)).await.unwrap_err().code(),
        Code::OutOfRange
    );

    driver.stop();
    // Until the client has seen its connection close.
    tokio::time::sleep(second).await;
    assert_eq!(
        client.create_volume(request("c", 5)).await.unwrap_err().code(),
        Code::Unavailable
    );
    driver.start();
    client.create_volume(request("c", 5)).await.unwrap();
    assert_eq!(driver.volumes().len(), 7, "volumes survive");
    assert!(driver.breaches().is_empty(), "{:?}", driver.breaches());
}

#[tokio::test(start_paused = true)]
async fn two_calls_at_once_for_one_volume_are_a_breach() {
    let driver = Driver::new("d.example.com");
    driver.upset("CreateVolume", 1, Trouble::Delay(Duration::from_secs(30)));
    let (mut one, mut two) = (client(&driver), client(&driver));
    let (one, two) = tokio::join!(
        one.create_volume(request("a", 5)),
        two.create_volume(request("a", 5))
    );
    assert!(one.is_ok() != two.is_ok());
    assert_eq!(driver.breaches().len(), 1);
}
