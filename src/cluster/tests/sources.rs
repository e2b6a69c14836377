//! The objects that a volume's content comes from, read as they are.

use sandbox::{ADMIN, Fault, Harm, World};
use serde_json::{Value, json};

use crate::{
    base::api_error::{ApiError, Reason},
    cluster::{api::ApiClient, source::SNAPSHOT_GROUP},
};

const SNAPSHOTS: &str = "volumesnapshots";
const CLAIMS: &str = "persistentvolumeclaims";

fn world() -> (World, ApiClient) {
    let world = World::new("d.example.com");
    let client = ApiClient::new(world.api.client(ADMIN), None);
    (world, client)
}

/// The answer to the next request of this kind.
fn answer(world: &World, verb: &'static str, resource: &'static str, body: &Value) {
    let harm = Harm::Body(200, body.to_string());
    world.api.harm(Fault::new(harm).on(verb, resource).times(1));
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_is_read_with_its_content() {
    let (world, client) = world();
    let name = world.add_snapshot("default", "backup", |_| {});
    let snapshot = client.snapshot("default", "backup").await.unwrap().unwrap();
    assert_eq!(snapshot.content.as_ref(), Some(&name));
    assert_eq!((snapshot.ready, snapshot.restore_size), (true, Some(1 << 30)));
    let content = client.snapshot_content(&name).await.unwrap().unwrap();
    assert_eq!(content.snapshot.uid, snapshot.uid);
    assert_eq!(content.handle.as_deref(), Some("snap-default-backup"));
    assert_eq!(client.snapshot("default", "other").await, Ok(None));
    assert_eq!(client.snapshot_content("other").await, Ok(None));
}

#[tokio::test(start_paused = true)]
async fn where_snapshots_are_not_served_there_are_none() {
    let (world, client) = world();
    world.api.hide(SNAPSHOT_GROUP);
    assert_eq!(client.snapshot("default", "backup").await, Ok(None));
}

#[tokio::test(start_paused = true)]
async fn a_claim_to_be_cloned_is_read_with_its_phase_volume_and_size() {
    let (world, client) = world();
    assert_eq!(client.source_claim("default", "origin").await, Ok(None));
    world.add_claim("default", "origin", "2Ki", |claim| {
        claim["spec"]["volumeName"] = "pv".into();
    });
    let bound = |claim: &mut Value| claim["status"]["phase"] = "Bound".into();
    world.api.edit(CLAIMS, "default", "origin", bound);
    let read = client.source_claim("default", "origin").await.unwrap().unwrap();
    assert_eq!((&*read.phase, &*read.volume, read.bytes), ("Bound", "pv", 2048));
    assert_eq!(read.claim.name, "origin");
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_not_what_the_api_promises_is_an_error_that_names_it() {
    let (world, client) = world();
    let meta = json!({"name": "odd", "namespace": "default"});
    let check = |error: ApiError, start: &str| {
        assert!(error.to_string().starts_with(start), "{error}");
        assert_eq!(error.reason, Reason::Unavailable);
    };
    for odd in [
        json!({"metadata": meta, "status": {"readyToUse": 7}}),
        json!({"metadata": {"name": "odd", "finalizers": 7}}),
        json!({"metadata": meta, "status": {"restoreSize": {}}}),
    ] {
        answer(&world, "get", SNAPSHOTS, &odd);
        let error = client.snapshot("default", "odd").await.unwrap_err();
        check(error, "get volumesnapshots default/odd: ");
    }
    let contents = "volumesnapshotcontents";
    answer(
        &world,
        "get",
        contents,
        &json!({"metadata": meta, "spec": {"driver": 7}}),
    );
    let error = client.snapshot_content("odd").await.unwrap_err();
    check(error, "get volumesnapshotcontents odd: ");
    for odd in [
        json!({"metadata": meta, "spec": {"accessModes": 7}}),
        json!({"metadata": meta, "spec": {"resources": {"requests": {"storage": "much"}}}}),
    ] {
        answer(&world, "list", CLAIMS, &json!({"items": [odd]}));
        let error = client.source_claim("default", "odd").await.unwrap_err();
        check(error, "list persistentvolumeclaims default/odd: ");
    }
}
