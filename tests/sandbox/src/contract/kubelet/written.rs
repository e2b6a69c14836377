//! What the kubelet writes of a driver into Node and CSINode, and what it takes off again.

use super::{Case, CaseResult, ground::Ground, same};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("a driver is in Node and CSINode when it is told so", told),
        Case::new(
            "a count of volumes is written if it is above zero, and cut to 32 bits",
            count,
        ),
        Case::new("a removed socket takes entry and id away, labels stay", removed),
        Case::new("drivers register and go without touching others", many),
    ]
}

async fn told(ground: Ground) -> CaseResult {
    let mut plugin = ground.plugin()?;
    let [zone, rack] = ["zone", "rack"].map(|key| format!("topology.{}/{key}", plugin.name));
    plugin.topology(&[(&zone, "a"), (&rack, "1")]);
    plugin.node(|node| node.max_volumes_per_node = 7);
    plugin.open()?;
    ground.registered(&plugin, 1).await?;
    let entry = ground
        .entry(&plugin.name)
        .await?
        .ok_or("no entry in the CSINode")?;
    let id = format!("{}-id", plugin.name);
    same("id in the CSINode", &entry.node_id, &id)?;
    same(
        "topology keys",
        entry.topology_keys,
        Some(vec![rack.clone(), zone.clone()]),
    )?;
    let count = entry.allocatable.and_then(|it| it.count);
    same("count", count, Some(7))?;
    same("id in the Node", ground.node_id(&plugin.name).await?, Some(id))?;
    same("label", ground.label(&zone).await?, Some("a".into()))?;
    same("label", ground.label(&rack).await?, Some("1".into()))
}

async fn count(ground: Ground) -> CaseResult {
    for (most, expected) in [
        (0, None),
        (-3, None),
        (1, Some(1)),
        (i64::from(i32::MAX), Some(i32::MAX)),
        (i64::MAX, Some(i32::MAX)),
    ] {
        let mut plugin = ground.plugin()?;
        plugin.node(|node| node.max_volumes_per_node = most);
        plugin.open()?;
        ground.registered(&plugin, 1).await?;
        let entry = ground
            .entry(&plugin.name)
            .await?
            .ok_or("no entry in the CSINode")?;
        let count = entry.allocatable.and_then(|it| it.count);
        same(&format!("count for {most}"), count, expected)?;
        same("topology keys", entry.topology_keys.unwrap_or_default(), vec![])?;
    }
    Ok(())
}

async fn removed(ground: Ground) -> CaseResult {
    let mut plugin = ground.plugin()?;
    let zone = format!("topology.{}/zone", plugin.name);
    plugin.topology(&[(&zone, "a")]);
    plugin.open()?;
    let before = ground.registered(&plugin, 1).await?;
    plugin.close();
    ground.gone(&plugin.name).await?;
    same("the label", ground.label(&zone).await?, Some("a".into()))?;
    same("calls after the removal", plugin.calls().len(), before.len())
}

async fn many(ground: Ground) -> CaseResult {
    let mut plugins = Vec::new();
    for _ in 0..3 {
        let mut plugin = ground.plugin()?;
        plugin.open()?;
        plugins.push(plugin);
    }
    for plugin in &plugins {
        ground.registered(plugin, 1).await?;
    }
    plugins[0].close();
    ground.gone(&plugins[0].name).await?;
    for plugin in &plugins[1..] {
        let id = Some(format!("{}-id", plugin.name));
        let entry = ground.entry(&plugin.name).await?;
        same("id in the CSINode", &entry.map(|it| it.node_id), &id)?;
        same("id in the Node", ground.node_id(&plugin.name).await?, id)?;
    }
    Ok(())
}
