//! Writes, when answers are lost and others write too.

use k8s_openapi::api::core::v1::PersistentVolume;
use sandbox::{ADMIN, Api, Fault, Harm};
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use crate::{
    base::api_error::Reason,
    cluster::{
        active::Active,
        api::{ApiClient, SaveOutcome},
        objects::VOLUME_FINALIZER,
        rate_limiter::RateLimit,
    },
};

const VOLUMES: &str = "persistentvolumes";
const PROTECTION: &str = "kubernetes.io/pv-protection";

fn draft(claim: &str) -> Value {
    json!({
        "metadata": {"name": "pvc-1", "finalizers": [VOLUME_FINALIZER]},
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Delete",
            "csi": {"driver": "drv", "volumeHandle": "h"},
            "claimRef": {"namespace": "default", "name": "c", "uid": claim}},
    })
}

fn volume(claim: &str) -> PersistentVolume {
    serde_json::from_value(draft(claim)).unwrap()
}

fn client(api: &Api) -> ApiClient {
    ApiClient::new(api.client(ADMIN), None)
}

fn finalizers(api: &Api) -> Vec<String> {
    let object = api.get(VOLUMES, "", "pvc-1").unwrap();
    let list = object["metadata"]["finalizers"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    list.iter()
        .map(|name| name.as_str().unwrap().to_owned())
        .collect()
}

fn set_finalizers(api: &Api, list: &[&str]) {
    assert!(api.edit(VOLUMES, "", "pvc-1", |object| {
        let meta = object["metadata"].as_object_mut().unwrap();
        meta.remove("finalizers");
        if !list.is_empty() {
            meta.insert("finalizers".into(), json!(list));
        }
    }));
}

fn owned(list: &[&str]) -> Vec<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_create_whose_answer_was_lost_counts_as_saved_when_it_is_tried_again() {
    let api = Api::new();
    api.harm(Fault::new(Harm::LoseReply).on("create", VOLUMES).times(1));
    let client = client(&api);
    let lost = client.create_volume(&volume("u1")).await.unwrap_err();
    assert_eq!(lost.reason, Reason::Unavailable);
    let standing = client.volume("pvc-1").await.unwrap().unwrap();
    assert_eq!(
        client.create_volume(&volume("u1")).await,
        Ok(SaveOutcome::AlreadySaved(Box::new(standing)))
    );
    assert_eq!(api.len(VOLUMES), 1);
}

#[tokio::test(start_paused = true)]
async fn a_volume_of_the_name_for_another_claim_is_not_ours() {
    for (other, by) in [
        (draft("u2"), "u2"),
        (draft(""), ""),
        (
            {
                let mut free = draft("");
                free["spec"].as_object_mut().unwrap().remove("claimRef");
                free
            },
            "",
        ),
    ] {
        let api = Api::new();
        api.create(VOLUMES, "", other);
        let taken = client(&api).create_volume(&volume("u1")).await;
        assert_eq!(taken, Ok(SaveOutcome::NameTaken { by: by.into() }));
    }
}

#[tokio::test(start_paused = true)]
async fn a_delete_hits_the_object_of_that_uid_and_no_other() {
    let api = Api::new();
    let uid = api.create(VOLUMES, "", draft("u1"))["metadata"]["uid"]
        .as_str()
        .unwrap()
        .to_owned();
    let client = client(&api);
    let error = client.delete_volume("pvc-1", "another").await.unwrap_err();
    assert_eq!(error.reason, Reason::Conflict, "D-72");
    assert!(api.get(VOLUMES, "", "pvc-1").unwrap()["metadata"]["deletionTimestamp"].is_null());

    let left = client.delete_volume("pvc-1", &uid).await.unwrap();
    assert!(
        left.unwrap().contains(&VOLUME_FINALIZER.to_owned()),
        "held by its finalizers"
    );
    set_finalizers(&api, &[]);
    api.delete(VOLUMES, "", "pvc-1");
    assert_eq!(client.delete_volume("pvc-1", &uid).await, Ok(None), "gone");
    let api = Api::new();
    let uid = api.create(VOLUMES, "", draft("u1"))["metadata"]["uid"]
        .as_str()
        .unwrap()
        .to_owned();
    set_finalizers(&api, &[]);
    assert_eq!(
        ApiClient::new(api.client(ADMIN), None)
            .delete_volume("pvc-1", &uid)
            .await,
        Ok(None),
        "gone at once"
    );
    assert_eq!(api.len(VOLUMES), 0);
}

#[tokio::test(start_paused = true)]
async fn our_finalizer_comes_and_goes_and_the_others_stay() {
    let cases: [(&str, &[&str], bool, &[&str]); 6] = [
        (
            "beside another",
            &[PROTECTION],
            true,
            &[PROTECTION, VOLUME_FINALIZER],
        ),
        ("on none at all", &[], true, &[VOLUME_FINALIZER]),
        ("off, the only one", &[VOLUME_FINALIZER], false, &[]),
        (
            "off, the first",
            &[VOLUME_FINALIZER, PROTECTION],
            false,
            &[PROTECTION],
        ),
        (
            "off, the last",
            &[PROTECTION, VOLUME_FINALIZER],
            false,
            &[PROTECTION],
        ),
        ("there already", &[VOLUME_FINALIZER], true, &[VOLUME_FINALIZER]),
    ];
    for (name, before, protect, after) in cases {
        let api = Api::new();
        api.create(VOLUMES, "", draft("u1"));
        set_finalizers(&api, before);
        let done = client(&api)
            .protect_volume("pvc-1", &owned(before), protect)
            .await;
        assert_eq!(done, Ok(()), "{name}");
        assert_eq!(finalizers(&api), owned(after), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn finalizers_that_others_changed_meanwhile_are_not_touched() {
    let cases: [(&str, &[&str], &[&str], bool); 4] = [
        (
            "one came before ours",
            &[VOLUME_FINALIZER],
            &["a.b/c", VOLUME_FINALIZER],
            false,
        ),
        (
            "ours is gone and another has its place",
            &[VOLUME_FINALIZER],
            &["a.b/c"],
            false,
        ),
        ("one was seen and none are left", &["a.b/c"], &[], true),
        ("one came behind", &["a.b/c"], &["a.b/c", "d.e/f"], true),
    ];
    for (name, seen, standing, protect) in cases {
        let api = Api::new();
        api.create(VOLUMES, "", draft("u1"));
        set_finalizers(&api, standing);
        let error = client(&api)
            .protect_volume("pvc-1", &owned(seen), protect)
            .await
            .unwrap_err();
        assert!(
            matches!(error.reason, Reason::Invalid | Reason::Conflict),
            "{name}: {error}"
        );
        assert_eq!(finalizers(&api), owned(standing), "D-9: {name}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_no_finalizer_was_seen_the_whole_object_must_be_unchanged() {
    let api = Api::new();
    api.create(VOLUMES, "", draft("u1"));
    set_finalizers(&api, &["a.b/c"]);
    assert_eq!(client(&api).protect_volume("pvc-1", &[], true).await, Ok(()));
    assert_eq!(
        finalizers(&api),
        ["a.b/c", VOLUME_FINALIZER],
        "one came before we looked"
    );

    set_finalizers(&api, &[]);
    api.harm(Fault::new(Harm::Delay(Duration::from_secs(5))).on("patch", VOLUMES));
    let (error, ()) = tokio::join!(
        async { client(&api).protect_volume("pvc-1", &[], true).await.unwrap_err() },
        async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            set_finalizers(&api, &["a.b/c"]);
        }
    );
    assert!(
        matches!(error.reason, Reason::Invalid | Reason::Conflict),
        "{error}"
    );
    assert_eq!(finalizers(&api), ["a.b/c"], "one came while we wrote");
}

#[tokio::test(start_paused = true)]
async fn a_finalizer_on_a_volume_that_is_gone_is_no_concern() {
    let api = Api::new();
    assert_eq!(client(&api).protect_volume("pvc-1", &[], true).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn every_request_has_a_deadline() {
    let api = Api::new();
    api.create(VOLUMES, "", draft("u1"));
    api.harm(Fault::new(Harm::Hang));
    let client = client(&api);
    let volume = volume("u1");
    let began = Instant::now();
    let (get, create, delete, patch, secret) = tokio::join!(
        client.volume("pvc-1"),
        client.create_volume(&volume),
        client.delete_volume("pvc-1", "u"),
        client.protect_volume("pvc-1", &[], true),
        client.secret("default", "s"),
    );
    assert_eq!(began.elapsed(), Duration::from_secs(30));
    let all = [get.err(), create.err(), delete.err(), patch.err(), secret.err()];
    for error in all {
        let error = error.unwrap();
        assert_eq!(error.reason, Reason::Unavailable);
        assert!(error.to_string().contains("no answer within 30 s"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_volume_is_not_written_after_the_lease_whatever_the_rate_limiter_made_of_the_wait() {
    let api = Api::new();
    assert_eq!(
        client(&api).create_volume(&volume("u1")).await,
        Ok(SaveOutcome::Created)
    );
    let uid = api.get(VOLUMES, "", "pvc-1").unwrap()["metadata"]["uid"]
        .as_str()
        .unwrap()
        .to_owned();
    let active = Active::elected();
    // One request in ten seconds, and the lease ends after five.
    let limit = RateLimit { qps: 0.1, burst: 1 };
    let fenced = ApiClient::new(api.client(ADMIN), Some(limit)).fenced(active.clone());
    let lease = || active.lead_until(Some(Instant::now() + Duration::from_secs(5)));
    lease();
    assert!(fenced.volume("pvc-1").await.unwrap().is_some(), "reading is free");
    let before = api.requests().len();
    let finalizers = owned(&[VOLUME_FINALIZER]);
    let created = fenced.create_volume(&volume("u2")).await.unwrap_err();
    lease();
    let deleted = fenced.delete_volume("pvc-1", &uid).await.unwrap_err();
    lease();
    let patched = fenced
        .protect_volume("pvc-1", &finalizers, false)
        .await
        .unwrap_err();
    for error in [created, deleted, patched] {
        assert_eq!(error.reason, Reason::NotLeading, "{error}");
    }
    assert_eq!(api.requests().len(), before);
    active.lead_until(Some(Instant::now() + Duration::from_secs(50)));
    assert_eq!(fenced.protect_volume("pvc-1", &finalizers, false).await, Ok(()));
}
