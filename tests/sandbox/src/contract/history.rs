//! A server that has forgotten: pages and watches from before answer 410.

use serde_json::json;

use super::{
    Case, CaseResult,
    probe::{Probe, holds, same},
    samples::lease,
};
use crate::{Kind, PatchKind};

pub(crate) fn case() -> Case {
    Case::new("a forgotten revision is gone", forgotten)
}

async fn forgotten(probe: Probe) -> CaseResult {
    let kind = Kind::named("leases").ok_or("no leases")?;
    let all = kind.path(probe.namespace(), "");
    let (_, path) = probe.make(kind, lease(&probe.name())).await?;
    probe.make(kind, lease(&probe.name())).await?;
    let page = probe.get(&format!("{all}?limit=1")).await.is(200)?;
    let text = |key: &str| page["metadata"][key].as_str().unwrap_or_default();
    let (token, revision) = (text("continue"), text("resourceVersion"));
    probe
        .patch(
            &path,
            PatchKind::Merge,
            json!({"metadata": {"labels": {"a": "1"}}}),
        )
        .await
        .is(200)?;

    if let Some(expire) = &probe.target().expire {
        expire().await;
    }

    let next = probe.get(&format!("{all}?limit=1&continue={token}")).await;
    let status = next.refused(
        410,
        "Expired",
        "The provided continue parameter is too old to display a consistent list result.",
    )?;
    let anyway = status["metadata"]["continue"].as_str().unwrap_or_default();
    holds("a token to go on without consistency", !anyway.is_empty())?;
    let rest = probe.get(&format!("{all}?continue={anyway}")).await.is(200)?;
    holds(
        "the rest",
        rest["items"].as_array().is_some_and(|items| !items.is_empty()),
    )?;

    let exact = probe
        .get(&format!(
            "{all}?resourceVersion={revision}&resourceVersionMatch=Exact"
        ))
        .await;
    exact.refused(
        410,
        "Expired",
        "The resourceVersion for the provided list is too old.",
    )?;

    // Once as the answer's only event, not as its code.
    for from in [revision, "1"] {
        for more in ["", "&allowWatchBookmarks=true"] {
            let path = format!("{all}?watch=1&resourceVersion={from}{more}");
            let seen = probe.watch_to_end(&path).await?;
            holds("one event", seen.len() == 1)?;
            same("type", &seen[0]["type"], "ERROR")?;
            same("code", &seen[0]["object"]["code"], 410)?;
            same("reason", &seen[0]["object"]["reason"], "Expired")?;
            let text = seen[0]["object"]["message"].as_str().unwrap_or_default();
            holds(
                "the message names the revision",
                text.starts_with(&format!("too old resource version: {from} (")),
            )?;
        }
    }

    // A new start works, and so does a streaming list from back then.
    let list = probe.get(&all).await.is(200)?;
    let now = list["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    probe
        .patch(
            &path,
            PatchKind::Merge,
            json!({"metadata": {"labels": {"a": "2"}}}),
        )
        .await
        .is(200)?;
    let seen = probe
        .watch(&format!("{all}?watch=1&resourceVersion={now}"), |_| true)
        .await?;
    same("type", &seen[0]["type"], "MODIFIED")?;
    let stream = format!(
        "{all}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&resourceVersion={revision}"
    );
    let seen = probe.watch(&stream, |event| event["type"] == "BOOKMARK").await?;
    holds("everything, then the bookmark", seen.len() >= 3)
}
