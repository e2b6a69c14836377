//! Which plugins the kubelet refuses, what it tells them, and whether it asks again.

use tonic::Status;

use super::{
    Case, CaseResult,
    ground::Ground,
    plugin::{Call, Heard, Plugin},
    same,
};

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "a type without a handler is refused and asked again after waits that double",
            handler,
        ),
        Case::new("versions that are not 1.x are refused and asked again", versions),
        Case::new("a version 1.x among others is enough", some_versions),
        Case::new(
            "a driver of a name that is taken is refused until the other goes",
            taken,
        ),
        Case::new(
            "a NodeGetInfo that fails is refused, and not asked again until the socket is new",
            node_fails,
        ),
        Case::new(
            "an endpoint where nobody listens is refused, and not asked again",
            nobody,
        ),
        Case::new("a driver without an id for the node is refused", no_id),
        Case::new(
            "a segment that is another on the node is refused, and the label stays",
            collision,
        ),
        Case::new(
            "a plugin that fails when it is told of its registration is unregistered, and asked again",
            told_badly,
        ),
    ]
}

/// The texts of all refusals.
fn texts(heard: &[Heard]) -> Vec<&str> {
    let refusals = heard.iter().filter_map(|heard| match &heard.call {
        Call::Refused(text) => Some(text.as_str()),
        _ => None,
    });
    refusals.collect()
}

fn says(heard: &[Heard], part: &str) -> CaseResult {
    match texts(heard).iter().find(|text| !text.contains(part)) {
        Some(other) => Err(format!("{other:?} does not say {part:?}")),
        None => Ok(()),
    }
}

async fn handler(ground: Ground) -> CaseResult {
    let mut plugin = ground.plugin()?;
    plugin.script(|script| script.info.r#type = "OtherPlugin".into());
    plugin.open()?;
    let heard = ground.refused(&plugin, 4).await?;
    says(&heard, "no handler")?;
    for (round, pair) in heard.chunks(2).enumerate() {
        let [asked, refused] = pair else { break };
        let expected = matches!((&asked.call, &refused.call), (Call::GetInfo, Call::Refused(_)));
        same(&format!("round {round} is GetInfo and a refusal"), expected, true)?;
        let Some(next) = heard.get(2 * round + 2) else {
            break;
        };
        let (waited, wait) = (next.at - refused.at, ground.ticks(1 << round) / 2);
        // It waits from when it has our answer.
        if waited < wait {
            return Err(format!("asked again after {waited:?}, before {wait:?}"));
        }
    }
    Ok(())
}

async fn versions(ground: Ground) -> CaseResult {
    let mut plugins = Vec::new();
    for versions in [&[][..], &["2.0.0"], &["0.9.0"], &["1"], &["new"]] {
        let mut plugin = ground.plugin()?;
        let versions = versions.iter().map(|it| (*it).to_owned()).collect();
        plugin.script(|script| script.info.supported_versions = versions);
        plugin.open()?;
        plugins.push(plugin);
    }
    for plugin in &plugins {
        let heard = ground.refused(plugin, 2).await?;
        says(&heard, "validation failed")?;
        let called = plugin.calls();
        let asked = called.iter().filter(|call| **call == Call::NodeGetInfo).count();
        same("calls of NodeGetInfo", asked, 0)?;
    }
    Ok(())
}

async fn some_versions(ground: Ground) -> CaseResult {
    for versions in [
        &["1.0"][..],
        &["v1.2.3-alpha"],
        &["2.0.0", "1.1.0", "0.3.0"],
        &["new", "1.0.0"],
    ] {
        let mut plugin = ground.plugin()?;
        let versions = versions.iter().map(|it| (*it).to_owned()).collect();
        plugin.script(|script| script.info.supported_versions = versions);
        plugin.open()?;
        ground.registered(&plugin, 1).await?;
    }
    Ok(())
}

async fn taken(ground: Ground) -> CaseResult {
    let (mut first, mut second) = (ground.plugin()?, ground.plugin()?);
    first.open()?;
    ground.registered(&first, 1).await?;
    let name = first.name.clone();
    second.script(|script| script.info.name.clone_from(&name));
    second.open()?;
    let heard = ground.refused(&second, 1).await?;
    says(&heard, "validation failed")?;
    let entry = ground.entry(&name).await?;
    same("the entry of the first exists", entry.is_some(), true)?;
    first.close();
    ground.registered(&second, 1).await?;
    Ok(())
}

/// Refused in the handler, twice, and nothing stays written.
async fn refused_late(ground: &Ground, plugin: &mut Plugin) -> CaseResult {
    plugin.open()?;
    let heard = ground.refused(plugin, 2).await?;
    says(&heard, "registration failed")?;
    let entry = ground.entry(&plugin.name).await?;
    same("its entry in the CSINode", entry, None)?;
    same("its id in the Node", ground.node_id(&plugin.name).await?, None)
}

async fn node_fails(ground: Ground) -> CaseResult {
    let mut plugin = ground.plugin()?;
    let mut good = Err(Status::unavailable("the driver is not ready"));
    plugin.script(|script| std::mem::swap(&mut script.node, &mut good));
    refused_late(&ground, &mut plugin).await?;
    let calls = plugin.calls();
    same("calls", &calls[..2], &[Call::GetInfo, Call::NodeGetInfo])?;
    plugin.script(|script| script.node = good);
    ground.registered(&plugin, 1).await?;
    Ok(())
}

async fn nobody(ground: Ground) -> CaseResult {
    let mut plugin = ground.plugin()?;
    plugin.kill_driver();
    refused_late(&ground, &mut plugin).await
}

async fn no_id(ground: Ground) -> CaseResult {
    let mut plugin = ground.plugin()?;
    plugin.node(|node| node.node_id.clear());
    refused_late(&ground, &mut plugin).await
}

async fn collision(ground: Ground) -> CaseResult {
    let (mut first, mut second) = (ground.plugin()?, ground.plugin()?);
    let key = format!("topology.{}/zone", first.name);
    first.topology(&[(&key, "a")]);
    first.open()?;
    ground.registered(&first, 1).await?;
    second.topology(&[(&key, "b")]);
    refused_late(&ground, &mut second).await?;
    same("the label", ground.label(&key).await?, Some("a".into()))
}

async fn told_badly(ground: Ground) -> CaseResult {
    let mut plugin = ground.plugin()?;
    plugin.script(|script| script.fails_when_told = 1);
    plugin.open()?;
    ground.registered(&plugin, 2).await?;
    let once = [Call::GetInfo, Call::NodeGetInfo, Call::Registered];
    same("calls", plugin.calls(), [once.clone(), once].concat())?;
    let entry = ground.entry(&plugin.name).await?;
    same("its entry in the CSINode exists", entry.is_some(), true)
}
