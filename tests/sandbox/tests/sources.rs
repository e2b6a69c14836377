//! What volumes are made from: snapshots of the world, at the API and at the driver, and volumes.

#![allow(missing_docs, reason = "the names of the tests say it")]

use hyper_util::rt::TokioIo;
use sandbox::{
    Driver, World,
    driver::proto::{
        self, VolumeContentSource,
        controller_client::ControllerClient,
        volume_content_source::{SnapshotSource, Type, VolumeSource},
    },
    driver::{Capability, Trouble},
};
use serde_json::{Value, json};
use tonic::{Code, Status};

fn snapshot(id: &str) -> Option<VolumeContentSource> {
    let source = SnapshotSource {
        snapshot_id: id.into(),
    };
    Some(VolumeContentSource {
        r#type: Some(Type::Snapshot(source)),
    })
}

fn volume(id: &str) -> Option<VolumeContentSource> {
    let source = VolumeSource { volume_id: id.into() };
    Some(VolumeContentSource {
        r#type: Some(Type::Volume(source)),
    })
}

fn driver() -> Driver {
    let driver = Driver::new("d.example.com");
    driver.configure(|identity| {
        let more = [Capability::CreateDeleteSnapshot, Capability::CloneVolume];
        identity.capabilities.extend(more);
    });
    driver
}

async fn create(
    driver: &Driver,
    name: &str,
    source: Option<VolumeContentSource>,
) -> Result<proto::Volume, Status> {
    let driver = driver.clone();
    let endpoint = tonic::transport::Endpoint::from_static("http://localhost");
    let channel = endpoint.connect_with_connector_lazy(tower::service_fn(move |_: http::Uri| {
        let pipe = driver.connect().map(TokioIo::new);
        async move { pipe }
    }));
    let request = proto::CreateVolumeRequest {
        name: name.into(),
        volume_capabilities: vec![proto::VolumeCapability::default()],
        volume_content_source: source,
        ..Default::default()
    };
    let answer = ControllerClient::new(channel).create_volume(request).await?;
    Ok(answer.into_inner().volume.unwrap_or_default())
}

#[tokio::test(start_paused = true)]
async fn a_volume_is_made_from_what_is_known_and_its_answer_says_so() {
    let driver = driver();
    for unknown in [snapshot("snap"), volume("vol-1")] {
        let refused = create(&driver, "early", unknown).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound);
    }
    assert!(driver.volumes().is_empty());
    assert_eq!(driver.breaches().len(), 1, "one name, two sources");

    driver.add_snapshot("snap");
    let restored = create(&driver, "restored", snapshot("snap")).await.unwrap();
    assert_eq!(restored.content_source, snapshot("snap"));
    let cloned = create(&driver, "cloned", volume(&restored.volume_id))
        .await
        .unwrap();
    assert_eq!(cloned.content_source, volume(&restored.volume_id));
    let plain = create(&driver, "plain", None).await.unwrap();
    assert_eq!(plain.content_source, None);

    // What was made once stays made, and is nothing else.
    driver.remove_snapshot("snap");
    let again = create(&driver, "restored", snapshot("snap")).await.unwrap();
    assert_eq!(again, restored);
    let other = create(&driver, "restored", None).await.unwrap_err();
    assert_eq!(other.code(), Code::AlreadyExists);
    let gone = create(&driver, "late", snapshot("snap")).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound);
}

#[tokio::test(start_paused = true)]
async fn an_answer_may_tell_no_source_or_another_one() {
    let driver = driver();
    driver.add_snapshot("snap");
    driver.upset("CreateVolume", 1, Trouble::WithoutSource);
    let without = create(&driver, "a", snapshot("snap")).await.unwrap();
    assert_eq!(without.content_source, None);
    let other = volume("other").unwrap();
    driver.upset("CreateVolume", 1, Trouble::OtherSource(other));
    let told = create(&driver, "a", snapshot("snap")).await.unwrap();
    assert_eq!(told.content_source, volume("other"));
    let right = create(&driver, "a", snapshot("snap")).await.unwrap();
    assert_eq!(right.content_source, snapshot("snap"));
    assert!(driver.breaches().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_source_that_the_driver_has_no_capability_for_is_a_breach() {
    let driver = Driver::new("d.example.com");
    driver.add_snapshot("snap");
    create(&driver, "a", snapshot("snap")).await.unwrap();
    create(&driver, "b", volume("vol-1")).await.unwrap();
    let breaches = driver.breaches();
    assert!(breaches[0].contains("CreateDeleteSnapshot"), "{breaches:?}");
    assert!(breaches[1].contains("CloneVolume"), "{breaches:?}");
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_of_the_world_and_its_content_name_each_other() {
    let world = World::new("d.example.com");
    let name = world.add_snapshot("default", "nightly", |snapshot| {
        snapshot["status"]["restoreSize"] = "2Gi".into();
    });
    let snapshot = world.api.get("volumesnapshots", "default", "nightly").unwrap();
    let content = world.api.get("volumesnapshotcontents", "", &name).unwrap();
    assert_eq!(
        snapshot["status"],
        json!({"boundVolumeSnapshotContentName": name, "readyToUse": true, "restoreSize": "2Gi"})
    );
    let named = &content["spec"]["volumeSnapshotRef"];
    assert_eq!(named["uid"], snapshot["metadata"]["uid"]);
    assert_eq!(
        (&named["namespace"], &named["name"]),
        (&json!("default"), &json!("nightly"))
    );
    assert_eq!(content["spec"]["driver"], "d.example.com");
    assert_eq!(content["status"]["snapshotHandle"], "snap-default-nightly");
    world
        .driver
        .configure(|identity| identity.capabilities.push(Capability::CreateDeleteSnapshot));
    let handle = "snap-default-nightly";
    let restored = create(&world.driver, "a", self::snapshot(handle)).await;
    assert_eq!(restored.unwrap().content_source, self::snapshot(handle));
}

#[tokio::test(start_paused = true)]
async fn a_group_of_custom_resources_comes_and_goes_as_one() {
    let world = World::new("d.example.com");
    let get = async |path: &str| {
        let request = http::Request::get(path).body(Vec::new()).unwrap();
        world.client().request::<Value>(request).await.map(drop)
    };
    let snapshots = [
        "/apis/snapshot.storage.k8s.io/v1",
        "/apis/snapshot.storage.k8s.io/v1/volumesnapshots",
        "/apis/snapshot.storage.k8s.io/v1/volumesnapshotcontents",
    ];
    let grants = "/apis/gateway.networking.k8s.io/v1beta1/referencegrants";
    let absent = async |path: &str| {
        let error = get(path).await.unwrap_err();
        assert!(
            matches!(&error, kube::Error::Api(status) if status.code == 404),
            "{path}: {error}"
        );
    };
    for path in snapshots {
        get(path).await.unwrap();
    }
    absent(grants).await;
    world.api.hide("snapshot.storage.k8s.io");
    world.api.reveal("referencegrants");
    for path in snapshots {
        absent(path).await;
    }
    get(grants).await.unwrap();
}
