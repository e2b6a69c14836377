//! Watches: where they start, what they say, how they end.

use serde_json::{Value, json};

use super::{
    Case, CaseResult,
    probe::{JSON, Probe, holds, same},
    samples::lease,
};
use crate::{Kind, PatchKind};

pub(crate) fn cases(patient: bool) -> Vec<Case> {
    let mut cases = vec![
        Case::new("a watch tells what happened after its revision", after),
        Case::new("a watch without revision begins with what is there", from_now),
        Case::new("a streaming list ends with a bookmark", streaming),
        Case::new(
            "watch options that contradict each other are invalid",
            bad_options,
        ),
        Case::new("an object that starts or stops matching comes and goes", labels),
        Case::new("a watch ends after the time asked for", ends),
        Case::new("a watch from the future waits", future),
    ];
    if patient {
        cases.push(Case::new("an idle watch hears bookmarks", bookmarks));
    }
    cases
}

fn leases(probe: &Probe) -> Result<String, String> {
    Ok(Kind::named("leases")
        .ok_or("no leases")?
        .path(probe.namespace(), ""))
}

async fn made(probe: &Probe) -> Result<(String, String, String), String> {
    let kind = Kind::named("leases").ok_or("no leases")?;
    let (object, path) = probe.make(kind, lease(&probe.name())).await?;
    let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
    Ok((path, text("name"), text("resourceVersion")))
}

fn types(events: &[Value]) -> Value {
    events.iter().map(|event| event["type"].clone()).collect()
}

async fn after(probe: Probe) -> CaseResult {
    let (path, name, revision) = made(&probe).await?;
    probe
        .patch(
            &path,
            PatchKind::Merge,
            json!({"metadata": {"labels": {"a": "1"}}}),
        )
        .await
        .is(200)?;
    probe.delete(&path).await.is(200)?;
    let again = probe.post(&leases(&probe)?, lease(&name)).await.is(201)?;
    let query = format!("watch=1&resourceVersion={revision}&fieldSelector=metadata.name%3D{name}");
    let uid = again["metadata"]["uid"].clone();
    let seen = probe
        .watch(&format!("{}?{query}", leases(&probe)?), |e| {
            e["object"]["metadata"]["uid"] == uid
        })
        .await?;
    same("events", &types(&seen), json!(["MODIFIED", "DELETED", "ADDED"]))?;
    let revisions: Vec<u64> = seen
        .iter()
        .filter_map(|event| {
            event["object"]["metadata"]["resourceVersion"]
                .as_str()?
                .parse()
                .ok()
        })
        .collect();
    holds(
        "revisions grow, a deletion has its own",
        revisions.len() == 3 && revisions.is_sorted_by(|a, b| a < b),
    )?;
    let last = &seen[1]["object"];
    same(
        "a deletion carries the last state",
        &last["metadata"]["labels"]["a"],
        "1",
    )?;
    same("objects in events name their kind", &last["kind"], "Lease")
}

async fn from_now(probe: Probe) -> CaseResult {
    let (_, name, _) = made(&probe).await?;
    for query in ["watch=true", "watch=1&resourceVersion=0", "watch=1&limit=1"] {
        let path = format!("{}?{query}&fieldSelector=metadata.name%3D{name}", leases(&probe)?);
        let seen = probe.watch(&path, |_| true).await?;
        same(query, &types(&seen), json!(["ADDED"]))?;
    }
    Ok(())
}

const STREAM: &str = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan";

async fn streaming(probe: Probe) -> CaseResult {
    let (path, name, revision) = made(&probe).await?;
    let is_end =
        |event: &Value| event["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true";
    for from in [
        "",
        "&resourceVersion=0",
        &format!("&resourceVersion={revision}"),
        "&resourceVersion=1",
    ] {
        let query = format!("{STREAM}&allowWatchBookmarks=true{from}&fieldSelector=metadata.name%3D{name}");
        let seen = probe
            .watch(&format!("{}?{query}", leases(&probe)?), is_end)
            .await?;
        same(from, &types(&seen), json!(["ADDED", "BOOKMARK"]))?;
        let end = &seen[1]["object"];
        same("kind of a bookmark", &end["kind"], "Lease")?;
        let at: u64 = end["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default()
            .parse()
            .unwrap_or(0);
        let least: u64 = revision.parse().unwrap_or(u64::MAX);
        holds("the bookmark's revision covers the object", at >= least)?;
    }
    // Without bookmarks there is no end, only news.
    let label = probe.patch(
        &path,
        PatchKind::Merge,
        json!({"metadata": {"labels": {"a": "1"}}}),
    );
    label.await.is(200)?;
    let query = format!("{STREAM}&timeoutSeconds=2&fieldSelector=metadata.name%3D{name}");
    let seen = probe
        .watch_to_end(&format!("{}?{query}", leases(&probe)?))
        .await?;
    same("no bookmark", &types(&seen), json!(["ADDED"]))
}

async fn bad_options(probe: Probe) -> CaseResult {
    let all = leases(&probe)?;
    let refused = probe.get(&format!("{all}?watch=1&sendInitialEvents=true")).await;
    refused.refused(422, "Invalid", "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan")?;
    let refused = probe
        .get(&format!(
            "{all}?watch=1&resourceVersion=1&resourceVersionMatch=NotOlderThan"
        ))
        .await;
    refused.refused(
        422,
        "Invalid",
        "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
    )?;
    let refused = probe.get(&format!("{all}?watch=1&resourceVersion=abc")).await;
    refused.refused(500, "", "resourceVersion: Invalid value: \"abc\"")?;
    Ok(())
}

async fn labels(probe: Probe) -> CaseResult {
    let (path, name, revision) = made(&probe).await?;
    for value in ["1", "2", "1"] {
        let label = json!({"metadata": {"labels": {"contract": format!("{name}-{value}")}}});
        probe.patch(&path, PatchKind::Merge, label).await.is(200)?;
    }
    probe.delete(&path).await.is(200)?;
    let mut deleted = 0;
    let query = format!("watch=1&resourceVersion={revision}&labelSelector=contract%3D{name}-1");
    let twice = |event: &Value| {
        deleted += usize::from(event["type"] == "DELETED");
        deleted == 2
    };
    let seen = probe
        .watch(&format!("{}?{query}", leases(&probe)?), twice)
        .await?;
    same(
        "events",
        &types(&seen),
        json!(["ADDED", "DELETED", "ADDED", "DELETED"]),
    )?;
    same(
        "the object that stopped matching",
        &seen[1]["object"]["metadata"]["labels"]["contract"],
        format!("{name}-1"),
    )
}

async fn ends(probe: Probe) -> CaseResult {
    let (_, _, revision) = made(&probe).await?;
    let path = format!(
        "{}?watch=1&resourceVersion={revision}&timeoutSeconds=1&fieldSelector=metadata.name%3Dnone",
        leases(&probe)?
    );
    let began = tokio::time::Instant::now();
    let seen = probe.watch_to_end(&path).await?;
    same("events", &types(&seen), json!([]))?;
    let lasted = began.elapsed().as_millis();
    holds(
        &format!("about a second, not {lasted} ms"),
        (900..4000).contains(&lasted),
    )
}

async fn future(probe: Probe) -> CaseResult {
    let path = format!(
        "{}?watch=1&resourceVersion=999999999999&timeoutSeconds=2",
        leases(&probe)?
    );
    let seen = probe.watch_to_end(&path).await?;
    same("events", &types(&seen), json!([]))
}

/// The real server sends one about every minute.
async fn bookmarks(probe: Probe) -> CaseResult {
    let (_, _, revision) = made(&probe).await?;
    let path = format!(
        "{}?watch=1&resourceVersion={revision}&allowWatchBookmarks=true&timeoutSeconds=100&fieldSelector=metadata.name%3Dnone",
        leases(&probe)?
    );
    let patience = std::time::Duration::from_secs(90);
    let seen = probe
        .watch_as(JSON, patience, &path, |event| event["type"] == "BOOKMARK")
        .await?;
    same("events", &types(&seen), json!(["BOOKMARK"]))?;
    holds(
        "a revision",
        seen[0]["object"]["metadata"]["resourceVersion"].is_string(),
    )
}
