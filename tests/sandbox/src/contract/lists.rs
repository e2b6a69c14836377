//! Lists: pages, stale reads, exact revisions, selectors.

use serde_json::{Value, json};

use super::{
    Case, CaseResult,
    probe::{Probe, holds, same},
    samples::lease,
};
use crate::{Kind, PatchKind};

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("pages show the state of the first page", pages),
        Case::new("a list from the cache ignores the limit", stale),
        Case::new("a list at an exact revision shows the past", exact),
        Case::new("a revision of the future is a timeout", future),
        Case::new("parameters that are no numbers are refused", bad_numbers),
        Case::new("selectors choose by label, name and namespace", selectors),
    ]
}

/// Three leases in a namespace of their own, with their names.
async fn three(probe: &Probe) -> Result<(String, Vec<String>), String> {
    let namespaces = Kind::named("namespaces").ok_or("no namespaces")?;
    let (made, _) = probe
        .make(namespaces, json!({"metadata": {"name": probe.name()}}))
        .await?;
    let namespace = made["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let all = Kind::named("leases").ok_or("no leases")?.path(&namespace, "");
    for name in ["a", "b", "c"] {
        let mut object = lease(name);
        object["metadata"]["labels"] = json!({"name": name});
        probe.post(&all, object).await.is(201)?;
    }
    Ok((all, vec!["a".into(), "b".into(), "c".into()]))
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().into_iter().flatten();
    items
        .filter_map(|item| item["metadata"]["name"].as_str())
        .collect()
}

fn chose(list: &Value, expected: &[&str]) -> CaseResult {
    same("items", &json!(names(list)), json!(expected))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

async fn pages(probe: Probe) -> CaseResult {
    let (all, _) = three(&probe).await?;
    let first = probe.get(&format!("{all}?limit=2")).await.is(200)?;
    chose(&first, &["a", "b"])?;
    same("remaining", &first["metadata"]["remainingItemCount"], 1)?;
    let token = text(&first["metadata"]["continue"]);
    holds("a continue token", !token.is_empty())?;
    probe.delete(&format!("{all}/c")).await.is(200)?;
    probe.post(&all, lease("d")).await.is(201)?;
    let second = probe
        .get(&format!("{all}?limit=2&continue={token}"))
        .await
        .is(200)?;
    chose(&second, &["c"])?;
    same("the last page", &second["metadata"]["continue"], Value::Null)?;
    let revision = &first["metadata"]["resourceVersion"];
    same(
        "one revision for all pages",
        &second["metadata"]["resourceVersion"],
        revision.clone(),
    )?;
    let whole = probe.get(&format!("{all}?limit=3")).await.is(200)?;
    chose(&whole, &["a", "b", "d"])?;
    same("nothing remains", &whole["metadata"]["continue"], Value::Null)?;
    probe
        .get(&format!("{all}?limit=1&continue=garbage"))
        .await
        .refused(400, "BadRequest", "continue")?;
    Ok(())
}

async fn stale(probe: Probe) -> CaseResult {
    let (all, _) = three(&probe).await?;
    // The cache may lag; it has caught up once it shows the last write.
    let list = loop {
        let list = probe
            .get(&format!("{all}?resourceVersion=0&limit=1"))
            .await
            .is(200)?;
        same("no page", &list["metadata"]["continue"], Value::Null)?;
        if names(&list).len() == 3 {
            break list;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    };
    let revision = text(&list["metadata"]["resourceVersion"]);
    let newer = probe
        .get(&format!("{all}?resourceVersion={revision}"))
        .await
        .is(200)?;
    chose(&newer, &["a", "b", "c"])
}

async fn exact(probe: Probe) -> CaseResult {
    let (all, _) = three(&probe).await?;
    let before = probe.get(&all).await.is(200)?;
    let revision = text(&before["metadata"]["resourceVersion"]).to_owned();
    probe.delete(&format!("{all}/b")).await.is(200)?;
    let label = json!({"metadata": {"labels": {"name": "changed"}}});
    probe
        .patch(&format!("{all}/a"), PatchKind::Merge, label)
        .await
        .is(200)?;
    let past = probe
        .get(&format!(
            "{all}?resourceVersion={revision}&resourceVersionMatch=Exact"
        ))
        .await
        .is(200)?;
    chose(&past, &["a", "b", "c"])?;
    same(
        "revision",
        &past["metadata"]["resourceVersion"],
        revision.as_str(),
    )?;
    same("label then", &past["items"][0]["metadata"]["labels"]["name"], "a")?;
    let page = probe
        .get(&format!("{all}?resourceVersion={revision}&limit=2"))
        .await
        .is(200)?;
    chose(&page, &["a", "b"])?;
    let now = probe
        .get(&format!(
            "{all}?resourceVersion={revision}&resourceVersionMatch=NotOlderThan"
        ))
        .await
        .is(200)?;
    chose(&now, &["a", "c"])
}

async fn future(probe: Probe) -> CaseResult {
    let all = Kind::named("leases")
        .ok_or("no leases")?
        .path(probe.namespace(), "");
    let list = probe.get(&format!("{all}?resourceVersion=999999999999")).await;
    let status = list.refused(
        504,
        "Timeout",
        "Too large resource version: 999999999999, current: ",
    )?;
    same("retry", &status["details"]["retryAfterSeconds"], 1)?;
    same(
        "cause",
        &status["details"]["causes"][0]["reason"],
        "ResourceVersionTooLarge",
    )
}

async fn bad_numbers(probe: Probe) -> CaseResult {
    let all = Kind::named("leases")
        .ok_or("no leases")?
        .path(probe.namespace(), "");
    let revision = probe.get(&format!("{all}?resourceVersion=abc")).await;
    revision.refused(
        400,
        "BadRequest",
        "invalid resource version: resourceVersion: Invalid value: \"abc\"",
    )?;
    let limit = probe.get(&format!("{all}?limit=abc")).await;
    limit.refused(
        400,
        "BadRequest",
        "strconv.ParseInt: parsing \"abc\": invalid syntax",
    )?;
    let field = probe
        .get(&format!("{all}?fieldSelector=spec.holderIdentity%3Dx"))
        .await;
    field.refused(400, "BadRequest", "\"spec.holderIdentity\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")?;
    Ok(())
}

async fn selectors(probe: Probe) -> CaseResult {
    let (all, _) = three(&probe).await?;
    for (query, expected) in [
        ("labelSelector=name%3Da", &["a"][..]),
        ("labelSelector=name%3D%3Da", &["a"][..]),
        ("labelSelector=name!%3Da", &["b", "c"][..]),
        ("labelSelector=name,name!%3Db", &["a", "c"][..]),
        ("labelSelector=other", &[][..]),
        ("fieldSelector=metadata.name%3Db", &["b"][..]),
        ("fieldSelector=metadata.namespace%3Dnone", &[][..]),
        ("fieldSelector=metadata.name%3Db&labelSelector=name%3Da", &[][..]),
    ] {
        let list = probe.get(&format!("{all}?{query}")).await.is(200)?;
        chose(&list, expected).map_err(|why| format!("{query}: {why}"))?;
    }
    Ok(())
}
