//! Answers with metadata only.

use serde_json::{Value, json};

use super::{
    Case, CaseResult,
    probe::{PATIENCE, Probe, holds, same},
    samples::lease,
};
use crate::{Kind, PatchKind};

const ONE: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const MANY: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("an object can be had as metadata only", one),
        Case::new("a list can be had as metadata only, by pages too", many),
        Case::new("a watch can tell metadata only", watched),
    ]
}

fn leases(probe: &Probe) -> Result<String, String> {
    Ok(Kind::named("leases")
        .ok_or("no leases")?
        .path(probe.namespace(), ""))
}

/// Leases with a label of this case.
async fn made(probe: &Probe, many: usize) -> Result<(String, Vec<(Value, String)>), String> {
    let (case, mut all) = (probe.name(), Vec::new());
    for _ in 0..many {
        let mut object = lease(&probe.name());
        object["metadata"]["labels"] = json!({"case": case});
        object["metadata"]["annotations"] = json!({"a": "b"});
        all.push(
            probe
                .make(Kind::named("leases").ok_or("no leases")?, object)
                .await?,
        );
    }
    Ok((case, all))
}

/// Nothing but the metadata of a lease, all of it that clients look at.
fn is_metadata_of(found: &Value, whole: &Value) -> CaseResult {
    same("kind", &found["kind"], "PartialObjectMetadata")?;
    same("apiVersion", &found["apiVersion"], "meta.k8s.io/v1")?;
    let keys: Vec<_> = found
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, _)| key.as_str())
        .collect();
    holds(
        &format!("no more than metadata: {keys:?}"),
        keys.iter()
            .all(|key| ["apiVersion", "kind", "metadata"].contains(key)),
    )?;
    for key in [
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "labels",
        "annotations",
    ] {
        same(key, &found["metadata"][key], whole["metadata"][key].clone())?;
    }
    Ok(())
}

async fn one(probe: Probe) -> CaseResult {
    let (_, all) = made(&probe, 1).await?;
    let (whole, path) = &all[0];
    for accept in [ONE, &format!("{ONE}, application/json")] {
        let found = probe.get_as(accept, path).await.is(200)?;
        is_metadata_of(&found, whole)?;
    }
    let absent = format!("{path}-absent");
    probe
        .get_as(ONE, &absent)
        .await
        .refused(404, "NotFound", "not found")?;
    Ok(())
}

async fn many(probe: Probe) -> CaseResult {
    let (case, mut all) = made(&probe, 3).await?;
    // As lists are sorted.
    all.sort_by(|(_, one), (_, other)| one.cmp(other));
    let path = format!("{}?labelSelector=case%3D{case}", leases(&probe)?);
    for accept in [MANY, &format!("{MANY},application/json;q=0.5")] {
        let list = probe.get_as(accept, &path).await.is(200)?;
        same("kind", &list["kind"], "PartialObjectMetadataList")?;
        same("apiVersion", &list["apiVersion"], "meta.k8s.io/v1")?;
        holds("a revision", list["metadata"]["resourceVersion"].is_string())?;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        same("items", &items.len().into(), 3)?;
        for (item, (whole, _)) in items.iter().zip(&all) {
            is_metadata_of(item, whole)?;
        }
    }
    let mut found = 0;
    let mut page = probe.get_as(MANY, &format!("{path}&limit=2")).await.is(200)?;
    loop {
        same("kind of a page", &page["kind"], "PartialObjectMetadataList")?;
        found += page["items"].as_array().map_or(0, Vec::len);
        let Some(token) = page["metadata"]["continue"].as_str() else {
            break;
        };
        let next = format!("{path}&limit=2&continue={token}");
        page = probe.get_as(MANY, &next).await.is(200)?;
    }
    same("items of all pages", &found.into(), 3)
}

async fn watched(probe: Probe) -> CaseResult {
    let (case, all) = made(&probe, 1).await?;
    let (whole, path) = &all[0];
    let here = format!("{}?watch=1&labelSelector=case%3D{case}", leases(&probe)?);
    let stream =
        format!("{here}&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true");
    let end = |event: &Value| event["type"] == "BOOKMARK";
    let seen = probe.watch_as(ONE, PATIENCE, &stream, end).await?;
    same("events", &seen.len().into(), 2)?;
    is_metadata_of(&seen[0]["object"], whole)?;
    let bookmark = &seen[1]["object"];
    same("kind of a bookmark", &bookmark["kind"], "PartialObjectMetadata")?;
    same(
        "apiVersion of a bookmark",
        &bookmark["apiVersion"],
        "meta.k8s.io/v1",
    )?;
    let notes = &bookmark["metadata"]["annotations"];
    same("the end", &notes["k8s.io/initial-events-end"], "true")?;
    let from = bookmark["metadata"]["resourceVersion"]
        .as_str()
        .unwrap_or_default();
    let label = json!({"metadata": {"labels": {"a": "1"}}});
    let changed = probe.patch(path, PatchKind::Merge, label).await.is(200)?;
    probe.delete(path).await.is(200)?;
    let on = format!("{here}&resourceVersion={from}");
    let gone = |event: &Value| event["type"] == "DELETED";
    let seen = probe.watch_as(ONE, PATIENCE, &on, gone).await?;
    is_metadata_of(&seen[0]["object"], &changed)?;
    same(
        "kind of a deletion",
        &seen[1]["object"]["kind"],
        "PartialObjectMetadata",
    )
}
