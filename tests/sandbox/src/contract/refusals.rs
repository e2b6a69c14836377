//! Who may not, what is not there, and the few paths that are no resources.

use serde_json::{Value, json};

use super::{
    Case, CaseResult,
    probe::{Probe, holds, same},
    samples::volume,
};
use crate::PatchKind;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("an unknown token is unauthorized", unauthorized),
        Case::new("a right that is missing is named in full", forbidden),
        Case::new("a path that is no resource is not found", unknown),
        Case::new("a method or media type that does not fit is refused", misfits),
        Case::new("a group tells its resources", discovery),
        Case::new("the server tells its version", version),
        Case::new("one can ask what one may", reviews),
    ]
}

async fn unauthorized(probe: Probe) -> CaseResult {
    for path in [
        "/api/v1/persistentvolumes",
        "/api/v1/persistentvolumes/x",
        "/apis/storage.k8s.io/v1",
    ] {
        let reply = probe
            .send(&probe.target().nobody, "GET", path, "", Vec::new())
            .await;
        reply.refused(401, "Unauthorized", "Unauthorized")?;
    }
    Ok(())
}

async fn forbidden(probe: Probe) -> CaseResult {
    let user = &probe.target().stranger_name;
    let body = volume("x").to_string();
    for (method, path, details, text) in [
        (
            "GET",
            "/api/v1/persistentvolumes",
            json!({"kind": "persistentvolumes"}),
            "persistentvolumes is forbidden: User {user} cannot list resource \"persistentvolumes\" in API group \"\" at the cluster scope",
        ),
        (
            "GET",
            "/api/v1/persistentvolumes?watch=1",
            json!({"kind": "persistentvolumes"}),
            "persistentvolumes is forbidden: User {user} cannot watch resource \"persistentvolumes\" in API group \"\" at the cluster scope",
        ),
        (
            "GET",
            "/api/v1/persistentvolumes/x",
            json!({"name": "x", "kind": "persistentvolumes"}),
            "persistentvolumes \"x\" is forbidden: User {user} cannot get resource",
        ),
        (
            "POST",
            "/api/v1/persistentvolumes",
            json!({"kind": "persistentvolumes"}),
            "persistentvolumes is forbidden: User {user} cannot create resource",
        ),
        (
            "PUT",
            "/api/v1/persistentvolumes/x/status",
            json!({"name": "x", "kind": "persistentvolumes"}),
            "persistentvolumes \"x\" is forbidden: User {user} cannot update resource \"persistentvolumes/status\" in API group \"\" at the cluster scope",
        ),
        (
            "DELETE",
            "/api/v1/persistentvolumes/x",
            json!({"name": "x", "kind": "persistentvolumes"}),
            "persistentvolumes \"x\" is forbidden: User {user} cannot delete resource",
        ),
        (
            "GET",
            "/api/v1/namespaces/default/secrets/s",
            json!({"name": "s", "kind": "secrets"}),
            "secrets \"s\" is forbidden: User {user} cannot get resource \"secrets\" in API group \"\" in the namespace \"default\"",
        ),
        (
            "GET",
            "/apis/storage.k8s.io/v1/storageclasses",
            json!({"group": "storage.k8s.io", "kind": "storageclasses"}),
            "storageclasses.storage.k8s.io is forbidden: User {user} cannot list resource \"storageclasses\" in API group \"storage.k8s.io\" at the cluster scope",
        ),
    ] {
        let body = if matches!(method, "POST" | "PUT") {
            body.clone()
        } else {
            String::new()
        };
        let content_type = if body.is_empty() { "" } else { "application/json" };
        let reply = probe
            .send(&probe.target().stranger, method, path, content_type, body.into())
            .await;
        let text = text.replace("{user}", &format!("{user:?}"));
        let status = reply.refused(403, "Forbidden", &text)?;
        same("details", &status["details"], details)?;
    }
    let patch = PatchKind::Merge.content_type();
    let reply = probe
        .send(
            &probe.target().stranger,
            "PATCH",
            "/api/v1/persistentvolumes/x",
            patch,
            b"{}".to_vec(),
        )
        .await;
    reply.refused(403, "Forbidden", "cannot patch resource")?;
    Ok(())
}

async fn unknown(probe: Probe) -> CaseResult {
    let reply = probe.get("/api/v1/unheardofs").await;
    reply.refused(
        404,
        "NotFound",
        "the server could not find the requested resource",
    )?;
    for path in [
        "/apis/unheard.of/v1/things",
        "/apis/storage.k8s.io/v9/storageclasses",
        "/api/v1/namespaces/default/persistentvolumes",
    ] {
        probe.get(path).await.is(404)?;
    }
    Ok(())
}

async fn misfits(probe: Probe) -> CaseResult {
    let admin = &probe.target().admin;
    let text = "the server does not allow this method on the requested resource";
    let post = probe.post("/api/v1/persistentvolumes/x", volume("x")).await;
    post.refused(405, "MethodNotAllowed", text)?;
    let put = probe.put("/api/v1/persistentvolumes", volume("x")).await;
    put.refused(405, "MethodNotAllowed", text)?;
    let everywhere = probe.post("/apis/coordination.k8s.io/v1/leases", json!({})).await;
    everywhere.refused(405, "MethodNotAllowed", text)?;
    let plain = probe
        .send(
            admin,
            "PATCH",
            "/api/v1/persistentvolumes/x",
            "text/plain",
            b"{}".to_vec(),
        )
        .await;
    plain.is(415)?;
    Ok(())
}

async fn discovery(probe: Probe) -> CaseResult {
    let list = probe.get("/apis/storage.k8s.io/v1").await.is(200)?;
    same("kind", &list["kind"], "APIResourceList")?;
    same("groupVersion", &list["groupVersion"], "storage.k8s.io/v1")?;
    let resources = list["resources"].as_array().cloned().unwrap_or_default();
    for (name, kind) in [
        ("storageclasses", "StorageClass"),
        ("csinodes", "CSINode"),
        ("volumeattributesclasses", "VolumeAttributesClass"),
    ] {
        let found = resources
            .iter()
            .find(|resource| resource["name"] == name)
            .unwrap_or(&Value::Null);
        same(name, &found["kind"], kind)?;
        same(name, &found["namespaced"], false)?;
        let verbs = found["verbs"].as_array().into_iter().flatten();
        holds(
            "watch is among the verbs",
            verbs.into_iter().any(|verb| verb == "watch"),
        )?;
    }
    let core = probe.get("/api/v1").await.is(200)?;
    same("groupVersion", &core["groupVersion"], "v1")?;
    probe.get("/apis/unheard.of/v1").await.is(404)?;
    Ok(())
}

async fn version(probe: Probe) -> CaseResult {
    let version = probe.get("/version").await.is(200)?;
    same("major", &version["major"], "1")?;
    holds(
        "gitVersion",
        version["gitVersion"]
            .as_str()
            .is_some_and(|version| version.starts_with("v1.")),
    )
}

async fn reviews(probe: Probe) -> CaseResult {
    let review = json!({
        "kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1",
        "spec": {"resourceAttributes": {"verb": "list", "resource": "persistentvolumes"}},
    });
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    for (client, allowed) in [(&probe.target().admin, true), (&probe.target().stranger, false)] {
        let reply = probe
            .send(
                client,
                "POST",
                path,
                "application/json",
                review.to_string().into(),
            )
            .await;
        same("allowed", &reply.is(201)?["status"]["allowed"], allowed)?;
    }
    Ok(())
}
