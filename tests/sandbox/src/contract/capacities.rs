//! CSIStorageCapacity and Pod: validation, spelling, selectors.

use serde_json::{Value, json};

use super::{
    Case, CaseResult,
    probe::{Probe, holds, same},
    samples::capacity,
};
use crate::{Kind, PatchKind};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("a capacity has one spelling", spelling),
        Case::new("the segment of a capacity is kept as it is meant", segments),
        Case::new("a capacity needs a class and no negative size", bad),
        Case::new("segment and class of a capacity are immutable", fixed),
        Case::new("capacities are chosen by label and name", chosen),
        Case::new("a capacity that stops matching is deleted for its watch", watched),
        Case::new("a pod needs a container and keeps its spec", pods),
    ]
}

fn kind(plural: &str) -> Result<&'static Kind, String> {
    Kind::named(plural).ok_or_else(|| format!("no kind {plural}"))
}

fn capacities() -> Result<&'static Kind, String> {
    kind("csistoragecapacities")
}

async fn spelling(probe: Probe) -> CaseResult {
    for (sent, kept) in [
        ("0", "0"),
        ("0Gi", "0"),
        ("1000", "1k"),
        ("1024", "1024"),
        ("1023", "1023"),
        ("1Ki", "1Ki"),
        ("1024Mi", "1Gi"),
        ("1500Mi", "1500Mi"),
        ("1073741824", "1073741824"),
        ("2000000000", "2G"),
        ("1000Ki", "1000Ki"),
        ("1024k", "1024k"),
        ("9223372036854775807", "9223372036854775807"),
        ("8Ei", "9223372036854775807"),
        ("00012", "00012"),
    ] {
        let mut object = capacity(&probe.name());
        object["capacity"] = sent.into();
        object["maximumVolumeSize"] = sent.into();
        let (made, path) = probe.make(capacities()?, object.clone()).await?;
        same(sent, &made["capacity"], kept)?;
        same(sent, &made["maximumVolumeSize"], kept)?;
        object["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"].clone();
        let again = probe.put(&path, object).await.is(200)?;
        same(
            "the same size in other words is no change",
            &again["metadata"]["resourceVersion"],
            made["metadata"]["resourceVersion"].clone(),
        )?;
    }
    let mut object = capacity(&probe.name());
    object["capacity"] = "much".into();
    let all = capacities()?.path(probe.namespace(), "");
    probe.post(&all, object).await.refused(
        400,
        "BadRequest",
        "quantities must match the regular expression",
    )?;
    let mut object = capacity(&probe.name());
    object["capacity"] = Value::Null;
    let (made, _) = probe.make(capacities()?, object).await?;
    same("no size", &made["capacity"], Value::Null)
}

async fn segments(probe: Probe) -> CaseResult {
    for (sent, kept) in [
        (Value::Null, Value::Null),
        (json!({}), json!({})),
        (json!({"matchLabels": {}}), json!({})),
        (
            json!({"matchLabels": {"a": "b"}}),
            json!({"matchLabels": {"a": "b"}}),
        ),
    ] {
        let mut object = capacity(&probe.name());
        object["nodeTopology"] = sent.clone();
        object["metadata"]["labels"] = json!({});
        let (made, _) = probe.make(capacities()?, object).await?;
        same(&sent.to_string(), &made["nodeTopology"], kept)?;
        same("no labels", &made["metadata"]["labels"], Value::Null)?;
    }
    Ok(())
}

async fn bad(probe: Probe) -> CaseResult {
    let all = capacities()?.path(probe.namespace(), "");
    for (field, value, text) in [
        (
            "storageClassName",
            "",
            "CSIStorageCapacity.storage.k8s.io \"{name}\" is invalid: storageClassName: Invalid value: \"\": a lowercase RFC 1123 subdomain",
        ),
        (
            "storageClassName",
            "Bad_",
            "storageClassName: Invalid value: \"Bad_\"",
        ),
        (
            "capacity",
            "-1Gi",
            "capacity: Invalid value: \"-1Gi\": must be greater than or equal to 0",
        ),
    ] {
        let name = probe.name();
        let mut object = capacity(&name);
        object[field] = value.into();
        let refused = probe.post(&all, object).await;
        refused.refused(422, "Invalid", &text.replace("{name}", &name))?;
    }
    // One that nobody looks at.
    let mut object = capacity(&probe.name());
    object["maximumVolumeSize"] = "-1".into();
    probe.make(capacities()?, object).await?;
    Ok(())
}

async fn fixed(probe: Probe) -> CaseResult {
    let (_, path) = probe.make(capacities()?, capacity(&probe.name())).await?;
    for (field, value) in [
        ("nodeTopology", json!({"matchLabels": {"zone": "b"}})),
        ("nodeTopology", Value::Null),
        ("storageClassName", json!("contract-other")),
    ] {
        let refused = probe.patch(&path, PatchKind::Merge, json!({field: value})).await;
        let status = refused.refused(422, "Invalid", "field is immutable")?;
        same("cause", &status["details"]["causes"][0]["field"], field)?;
    }
    let grown = json!({"capacity": "2Gi", "maximumVolumeSize": "1Gi"});
    let grown = probe.patch(&path, PatchKind::Merge, grown).await.is(200)?;
    same("capacity", &grown["capacity"], "2Gi")?;
    same("maximum", &grown["maximumVolumeSize"], "1Gi")
}

/// Three in this namespace with labels of this case: `case` of all, `n` of each.
async fn three(probe: &Probe) -> Result<(String, Vec<String>), String> {
    let (case, mut names) = (probe.name(), Vec::new());
    for n in ["1", "2", "3"] {
        let mut object = capacity("");
        object["metadata"] =
            json!({"generateName": format!("{case}-{n}-"), "labels": {"x.example.com/case": case, "n": n}});
        let (made, _) = probe.make(capacities()?, object).await?;
        names.push(made["metadata"]["name"].as_str().unwrap_or_default().to_owned());
    }
    Ok((case, names))
}

async fn chosen(probe: Probe) -> CaseResult {
    let (case, names) = three(&probe).await?;
    let mine = format!("labelSelector=x.example.com%2Fcase%3D{case}");
    for place in [probe.namespace(), ""] {
        let all = capacities()?.path(place, "");
        for (query, expected) in [
            (mine.clone(), &names[..]),
            (format!("{mine},n%3D2"), &names[1..2]),
            (format!("{mine},n!%3D2,n!%3D3"), &names[..1]),
            (format!("fieldSelector=metadata.name%3D{}", names[2]), &names[2..]),
            (
                format!("{mine}&fieldSelector=metadata.namespace%3D{}", probe.namespace()),
                &names[..],
            ),
            (format!("{mine}&fieldSelector=metadata.namespace%3Ddefault"), &[]),
        ] {
            let list = probe.get(&format!("{all}?{query}")).await.is(200)?;
            let items = list["items"].as_array().into_iter().flatten();
            let found: Vec<_> = items.map(|item| &item["metadata"]["name"]).collect();
            same(&query, &json!(found), json!(expected))?;
            let watch = format!("{all}?watch=1&resourceVersion=0&timeoutSeconds=2&{query}");
            let seen = probe.watch_to_end(&watch).await?;
            holds(
                &format!("a watch chooses the same: {query}"),
                seen.len() == expected.len() && seen.iter().all(|event| event["type"] == "ADDED"),
            )?;
        }
    }
    Ok(())
}

async fn watched(probe: Probe) -> CaseResult {
    let (case, names) = three(&probe).await?;
    let all = capacities()?.path(probe.namespace(), "");
    let stream = format!(
        "{all}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&labelSelector=x.example.com%2Fcase%3D{case},n%3D2"
    );
    let relabel = async |to: &str| {
        let label = json!({"metadata": {"labels": {"n": to}}});
        let path = capacities()?.path(probe.namespace(), &names[1]);
        probe.patch(&path, PatchKind::Merge, label).await.is(200)
    };
    let seen = probe.watch(&stream, |event| event["type"] == "BOOKMARK").await?;
    same(
        "what matches now",
        &seen[0]["object"]["metadata"]["name"],
        names[1].as_str(),
    )?;
    holds("one, and the end", seen.len() == 2)?;
    let from = &seen[1]["object"]["metadata"]["resourceVersion"];
    let from = from.as_str().unwrap_or_default();
    relabel("4").await?;
    relabel("2").await?;
    let on =
        format!("{all}?watch=1&resourceVersion={from}&labelSelector=x.example.com%2Fcase%3D{case},n%3D2");
    let seen = probe.watch(&on, |event| event["type"] == "ADDED").await?;
    let types: Vec<_> = seen.iter().map(|event| &event["type"]).collect();
    same("events", &json!(types), json!(["DELETED", "ADDED"]))?;
    same(
        "as it was when it matched",
        &seen[0]["object"]["metadata"]["labels"]["n"],
        "2",
    )
}

async fn pods(probe: Probe) -> CaseResult {
    let pods = kind("pods")?;
    let bare = json!({"metadata": {"name": probe.name()}, "spec": {}});
    let refused = probe.post(&pods.path(probe.namespace(), ""), bare).await;
    refused.refused(422, "Invalid", "spec.containers: Required value")?;
    let pod = json!({
        "metadata": {
            "name": probe.name(),
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u", "controller": true}],
        },
        "spec": {
            "containers": [{"name": "c", "image": "example.com/absent"}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}],
        },
        "status": {"phase": "Failed"},
    });
    let (made, path) = probe.make(pods, pod.clone()).await?;
    same("phase", &made["status"]["phase"], "Pending")?;
    same("scheduler", &made["spec"]["schedulerName"], "default-scheduler")?;
    same(
        "owner",
        &made["metadata"]["ownerReferences"],
        pod["metadata"]["ownerReferences"].clone(),
    )?;
    same(
        "claim",
        &made["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"],
        "data",
    )?;
    let other = json!({"spec": {"restartPolicy": "Never"}});
    probe.patch(&path, PatchKind::Merge, other).await.refused(
        422,
        "Invalid",
        "spec: Forbidden: pod updates may not change fields other than",
    )?;
    Ok(())
}
