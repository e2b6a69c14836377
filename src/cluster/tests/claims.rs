//! Claims written back: their selected node, when others write too.

use sandbox::{ADMIN, Api, Fault, Harm};
use serde_json::{Value, json};

use crate::{
    base::api_error::Reason,
    cluster::{
        active::Active,
        api::{ApiClient, SelectOutcome},
        objects::{Claim, SELECTED_NODE},
    },
};

const CLAIMS: &str = "persistentvolumeclaims";

/// A claim whose selected node is this one; returns its UID.
fn claim(api: &Api, node: Option<&str>) -> String {
    let mut claim = json!({
        "metadata": {"name": "data", "labels": {"kept": "yes"}},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    });
    if let Some(node) = node {
        claim["metadata"]["annotations"] = json!({SELECTED_NODE: node, "other": "kept"});
    }
    let made = api.create(CLAIMS, "default", claim);
    made["metadata"]["uid"].as_str().unwrap().to_owned()
}

fn stands(api: &Api) -> Value {
    api.get(CLAIMS, "default", "data").unwrap()
}

async fn select(
    api: &Api,
    uid: &str,
    seen: Option<&str>,
    node: Option<&str>,
) -> Result<SelectOutcome, Reason> {
    let client = ApiClient::new(api.client(ADMIN), None);
    let claim = Claim {
        uid: uid.into(),
        namespace: "default".into(),
        name: "data".into(),
        ..Claim::default()
    };
    let active = Active::default();
    let _active = active.set();
    let selected = client.select_node(&claim, seen, node, &active).await;
    selected.map_err(|error| error.reason)
}

#[tokio::test(start_paused = true)]
async fn a_selected_node_comes_off_and_nothing_else() {
    let api = Api::new();
    let uid = claim(&api, Some("a"));
    let before = stands(&api);
    assert_eq!(select(&api, &uid, Some("a"), None).await, Ok(SelectOutcome::Done));
    let mut expected = before;
    let mut now = stands(&api);
    for metadata in [&mut expected["metadata"], &mut now["metadata"]] {
        for field in ["resourceVersion", "managedFields"] {
            metadata.as_object_mut().unwrap().remove(field);
        }
    }
    expected["metadata"]["annotations"]
        .as_object_mut()
        .unwrap()
        .remove(SELECTED_NODE);
    assert_eq!(now, expected);
    assert_eq!(
        select(&api, &uid, Some("a"), None).await,
        Ok(SelectOutcome::Done),
        "again"
    );
    assert_eq!(
        (
            api.count("get", CLAIMS),
            api.count("patch", CLAIMS),
            api.count("update", CLAIMS)
        ),
        (0, 0, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_node_is_selected_only_where_none_is() {
    let api = Api::new();
    let uid = claim(&api, None);
    assert_eq!(select(&api, &uid, None, Some("b")).await, Ok(SelectOutcome::Done));
    assert_eq!(stands(&api)["metadata"]["annotations"][SELECTED_NODE], "b");
    assert_eq!(
        select(&api, &uid, None, Some("c")).await,
        Ok(SelectOutcome::Overtaken)
    );
    assert_eq!(stands(&api)["metadata"]["annotations"][SELECTED_NODE], "b");
}

#[tokio::test(start_paused = true)]
async fn d77_a_claim_that_is_another_one_by_now_or_gone_is_left_alone() {
    let api = Api::new();
    let uid = claim(&api, Some("a"));
    assert_eq!(
        select(&api, "older", Some("a"), None).await,
        Ok(SelectOutcome::Overtaken)
    );
    assert_eq!(
        select(&api, &uid, Some("z"), None).await,
        Ok(SelectOutcome::Overtaken)
    );
    assert_eq!(api.count("update", CLAIMS), 0);
    api.edit(CLAIMS, "default", "data", |claim| {
        claim["metadata"]["finalizers"] = json!([])
    });
    api.delete(CLAIMS, "default", "data");
    assert_eq!(
        select(&api, &uid, Some("a"), None).await,
        Ok(SelectOutcome::Overtaken),
        "D-77"
    );
}

#[tokio::test(start_paused = true)]
async fn a_conflict_is_told_and_the_next_try_reads_the_claim_anew() {
    let api = Api::new();
    let uid = claim(&api, Some("a"));
    api.harm(Fault::new(Harm::Status(409)).on("update", CLAIMS).times(1));
    assert_eq!(select(&api, &uid, Some("a"), None).await, Err(Reason::Conflict));
    api.edit(CLAIMS, "default", "data", |claim| {
        claim["metadata"]["labels"]["new"] = "yes".into()
    });
    assert_eq!(select(&api, &uid, Some("a"), None).await, Ok(SelectOutcome::Done));
    assert_eq!(
        stands(&api)["metadata"]["labels"],
        json!({"kept": "yes", "new": "yes"})
    );
}

#[tokio::test(start_paused = true)]
async fn who_does_not_lead_any_more_writes_nothing() {
    let api = Api::new();
    let uid = claim(&api, Some("a"));
    let client = ApiClient::new(api.client(ADMIN), None);
    let claim = Claim {
        uid,
        namespace: "default".into(),
        name: "data".into(),
        ..Claim::default()
    };
    let selected = client
        .select_node(&claim, Some("a"), None, &Active::default())
        .await;
    assert_eq!(selected, Ok(SelectOutcome::Overtaken));
    assert_eq!(stands(&api)["metadata"]["annotations"][SELECTED_NODE], "a");
}
