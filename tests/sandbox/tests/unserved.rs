//! What no contract case covers is refused as such, and nothing is done.

#![allow(missing_docs, reason = "the names of the tests say it")]

use http::Request;
use http_body_util::BodyExt;
use kube::client::Body;
use sandbox::{ADMIN, Api};
use serde_json::{Value, json};

const VOLUMES: &str = "/api/v1/persistentvolumes";
const VOLUME: &str = "/api/v1/persistentvolumes/there";
const PATCH: &str = "application/merge-patch+json";

fn volume(name: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
            "csi": {"driver": "d.example.com", "volumeHandle": name},
        },
    })
}

async fn ask(api: &Api, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let content_type = if method == "PATCH" {
        PATCH
    } else {
        "application/json"
    };
    let body = if body.is_null() {
        Vec::new()
    } else {
        body.to_string().into()
    };
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", content_type);
    let answer = api
        .client(ADMIN)
        .send(request.body(Body::from(body)).unwrap())
        .await
        .unwrap();
    let code = answer.status().as_u16();
    if code == 200 && path.contains("watch=") {
        return (code, Value::Null);
    }
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&bytes).unwrap_or_default())
}

#[tokio::test(start_paused = true)]
async fn what_no_case_covers_is_answered_501_and_changes_nothing() {
    let api = Api::new();
    api.create("persistentvolumes", "", volume("there"));
    let before = *api.changes().borrow();
    let reads = [
        // Resources that only the real server has.
        "/api/v1/services",
        "/api/v1/namespaces/default/endpoints/x",
        "/api/v1/namespaces/default/configmaps",
        "/api/v1/watch/persistentvolumes",
        "/apis/storage.k8s.io/v1/watch/csistoragecapacities",
        "/apis/apps/v1/controllerrevisions",
        "/apis/events.k8s.io/v1/events",
        "/apis/batch/v1",
        // Discovery beyond one group and version, and what is no API at all.
        "/api",
        "/apis",
        "/apis/storage.k8s.io",
        "/apis/apps",
        "/openapi/v2",
        "/healthz",
        // Subresources.
        "/api/v1/nodes/x/status",
        "/api/v1/nodes/x/proxy/metrics",
        "/api/v1/namespaces/default/pods/x/binding",
        "/apis/apps/v1/namespaces/default/replicasets/x/scale",
        "/api/v1/namespaces/default/status",
        "/api/v1/persistentvolumes/there/scale",
        "/apis/storage.k8s.io/v1/volumeattachments/x/status",
        // Parameters and values.
        "/api/v1/persistentvolumes/there?resourceVersion=0",
        "/api/v1/persistentvolumes?pretty=true",
        "/api/v1/persistentvolumes?timeoutSeconds=1",
        "/api/v1/persistentvolumes?shardSelector=x",
        "/api/v1/persistentvolumes?watch=perhaps",
        "/api/v1/persistentvolumes?watch=true&continue=x",
        "/api/v1/persistentvolumes?watch=true&timeoutSeconds=soon",
        "/api/v1/persistentvolumes?watch=true&allowWatchBookmarks=perhaps",
        "/api/v1/persistentvolumes?resourceVersion=1&resourceVersionMatch=Sideways",
        // Selectors.
        "/api/v1/persistentvolumes?labelSelector=a%20in%20(b)",
        "/api/v1/persistentvolumes?labelSelector=a%3E1",
        "/api/v1/persistentvolumes?fieldSelector=metadata.name!%3Dx",
        "/api/v1/persistentvolumes?fieldSelector=metadata.name",
        "/api/v1/events?fieldSelector=involvedObject.name%3Dx",
        "/api/v1/pods?fieldSelector=spec.nodeName%3Dx",
    ];
    let mut rows: Vec<_> = reads.map(|path| ("GET", path.to_owned(), Value::Null)).into();
    for parameter in ["dryRun=All", "force=true", "fieldValidation=Strict", "unheard=of"] {
        rows.push(("POST", format!("{VOLUMES}?{parameter}"), volume("new")));
        rows.push(("PUT", format!("{VOLUME}?{parameter}"), volume("there")));
        let labels = json!({"metadata": {"labels": {"a": "b"}}});
        rows.push(("PATCH", format!("{VOLUME}?{parameter}"), labels.clone()));
        rows.push(("PATCH", format!("{VOLUME}/status?{parameter}"), labels));
        rows.push(("DELETE", format!("{VOLUME}?{parameter}"), Value::Null));
    }
    for options in [
        json!({"dryRun": ["All"]}),
        json!({"gracePeriodSeconds": 0}),
        json!({"orphanDependents": true}),
        json!({"propagationPolicy": "Foreground"}),
    ] {
        rows.push(("DELETE", VOLUME.to_owned(), options));
    }
    let review = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    rows.push(("POST", format!("{review}?dryRun=All"), json!({"spec": {}})));
    rows.push(("POST", "/api/v1/namespaces/default/configmaps".into(), json!({})));
    rows.push(("PUT", "/api/v1/namespaces/default/finalize".into(), json!({})));
    rows.push(("DELETE", VOLUMES.into(), Value::Null));
    rows.push(("DELETE", "/api/v1/namespaces/default".into(), Value::Null));

    let mut wrong = Vec::new();
    for (method, path, body) in &rows {
        let (code, status) = ask(&api, method, path, body).await;
        if code != 501 || status["reason"] != "NotImplemented" {
            wrong.push(format!("{method} {path} {body}: {code}"));
        }
    }
    assert!(wrong.is_empty(), "not refused:\n{}", wrong.join("\n"));
    assert_eq!(*api.changes().borrow(), before, "nothing was written");
}

#[tokio::test(start_paused = true)]
async fn what_no_server_has_stays_404_and_harmless_parameters_stay_accepted() {
    let api = Api::new();
    api.hide("volumeattributesclasses");
    api.hide("snapshot.storage.k8s.io");
    let labels = json!({"metadata": {"labels": {"a": "b"}}});
    for (method, path, body, expected) in [
        ("GET", "/api/v1/unheardofs", Value::Null, 404),
        (
            "GET",
            "/api/v1/namespaces/default/persistentvolumes",
            Value::Null,
            404,
        ),
        ("GET", "/api/v9/persistentvolumes", Value::Null, 404),
        ("GET", "/apis/snapshot.storage.k8s.io", Value::Null, 404),
        ("GET", "/apis/snapshot.storage.k8s.io/v1", Value::Null, 404),
        (
            "GET",
            "/apis/snapshot.storage.k8s.io/v1/volumesnapshots",
            Value::Null,
            404,
        ),
        ("GET", "/apis/storage.k8s.io/v9", Value::Null, 404),
        (
            "GET",
            "/apis/storage.k8s.io/v1/volumeattributesclasses",
            Value::Null,
            404,
        ),
        (
            "POST",
            "/api/v1/persistentvolumes?fieldManager=me&fieldValidation=Ignore",
            volume("there"),
            201,
        ),
        (
            "PATCH",
            "/api/v1/persistentvolumes/there?fieldManager=me&fieldValidation=Warn",
            labels,
            200,
        ),
        (
            "GET",
            "/api/v1/persistentvolumes?watch=false&labelSelector=&continue=",
            Value::Null,
            200,
        ),
        (
            "GET",
            "/api/v1/persistentvolumes?watch=1&allowWatchBookmarks=false&timeoutSeconds=1",
            Value::Null,
            200,
        ),
    ] {
        assert_eq!(
            ask(&api, method, path, &body).await.0,
            expected,
            "{method} {path}"
        );
    }
}
