//! Which sockets the kubelet finds, when, and what it calls.

use std::{
    fs,
    os::unix::{ffi::OsStrExt, net::UnixListener},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    Case, CaseResult,
    ground::Ground,
    plugin::{Call, Plugin},
    same,
};
use crate::kubelet::encoded;

const ALL: [Call; 3] = [Call::GetInfo, Call::NodeGetInfo, Call::Registered];

pub(super) fn cases() -> Vec<Case> {
    vec![
        Case::new("a socket is asked for its name within two ticks", soon),
        Case::new(
            "the order is GetInfo, NodeGetInfo, notification, and then nothing",
            order,
        ),
        Case::new(
            "a registration socket gets its percent-encoded path as :authority, a driver's localhost",
            authority,
        ),
        Case::new(
            "without an endpoint the registration socket is the driver's",
            no_endpoint,
        ),
        Case::new("names with a dot and plain files are no plugins", ignored),
        Case::new("a socket in a folder below is found", below),
        Case::new("a socket that is created anew at once is registered anew", anew),
        Case::new(
            "a socket that is renamed over another is registered anew",
            renamed_over,
        ),
        Case::new("a socket whose mode changes is not registered anew", mode),
        Case::new("a registrar that is killed leaves its driver registered", killed),
        Case::new(
            "a socket where nobody listens does not keep the next one from being registered",
            stale,
        ),
        Case::new("a GetInfo that hangs is given up and tried again", hangs),
    ]
}

pub(super) fn after_restart() -> Vec<Case> {
    vec![Case::new(
        "a socket that was there before the kubelet is registered",
        restarted,
    )]
}

async fn soon(ground: Ground) -> CaseResult {
    let mut plugin = ground.plugin()?;
    let begun = Instant::now();
    plugin.open()?;
    let heard = ground.registered(&plugin, 1).await?;
    let took = heard[0].at - begun;
    // Two ticks, and a second for a machine that is busy.
    if took > ground.ticks(2) + Duration::from_secs(1) {
        return Err(format!("GetInfo came after {took:?}"));
    }
    Ok(())
}

async fn order(ground: Ground) -> CaseResult {
    let mut plugin = ground.plugin()?;
    plugin.open()?;
    ground.registered(&plugin, 1).await?;
    ground.quiet().await;
    same("calls", plugin.calls(), ALL.to_vec())
}

async fn authority(ground: Ground) -> CaseResult {
    let mut plugin = ground.plugin()?;
    plugin.open()?;
    let heard = ground.registered(&plugin, 1).await?;
    let path = encoded(plugin.socket.as_os_str().as_bytes());
    same("of GetInfo", heard[0].authority.as_deref(), Some(&*path))?;
    same("of NodeGetInfo", heard[1].authority.as_deref(), Some("localhost"))?;
    same("of the second call over a connection", &heard[2].authority, &None)
}

async fn no_endpoint(ground: Ground) -> CaseResult {
    let mut plugin = ground.plugin()?;
    plugin.script(|script| script.info.endpoint.clear());
    plugin.kill_driver();
    plugin.open()?;
    ground.registered(&plugin, 1).await?;
    same("calls", plugin.calls(), ALL.to_vec())
}

async fn ignored(ground: Ground) -> CaseResult {
    let mut hidden = ground.plugin()?;
    let name = hidden.socket.file_name().unwrap_or_default().to_owned();
    hidden.socket = hidden.socket.with_file_name(format!(".{}", name.display()));
    hidden.open()?;
    let mut seen = ground.plugin()?;
    let file = seen.socket.with_extension("txt");
    fs::write(&file, "not a socket").map_err(|error| error.to_string())?;
    seen.open()?;
    let registered = ground.registered(&seen, 1).await;
    ground.quiet().await;
    drop(fs::remove_file(&file));
    registered?;
    same("calls of the hidden one", hidden.calls(), vec![])
}

async fn below(ground: Ground) -> CaseResult {
    let mut plugin = ground.plugin()?;
    let folder = ground
        .target
        .registry
        .join(&plugin.name[..plugin.name.len().min(12)]);
    fs::create_dir(&folder).map_err(|error| error.to_string())?;
    plugin.socket = folder.join("reg.sock");
    let found = in_folder(&ground, &mut plugin).await;
    plugin.close();
    drop(fs::remove_dir(&folder));
    found
}

async fn in_folder(ground: &Ground, plugin: &mut Plugin) -> CaseResult {
    plugin.open()?;
    ground.registered(plugin, 1).await?;
    plugin.close();
    ground.gone(&plugin.name).await
}

/// What must be when a plugin has registered twice.
async fn twice(ground: &Ground, plugin: &Plugin) -> CaseResult {
    ground.registered(plugin, 2).await?;
    ground.quiet().await;
    same("calls", plugin.calls(), [ALL, ALL].concat())?;
    let entry = ground.entry(&plugin.name).await?;
    same("its entry in the CSINode exists", entry.is_some(), true)
}

async fn anew(ground: Ground) -> CaseResult {
    let mut plugin = ground.plugin()?;
    plugin.open()?;
    ground.registered(&plugin, 1).await?;
    plugin.open()?;
    twice(&ground, &plugin).await
}

async fn renamed_over(ground: Ground) -> CaseResult {
    let mut plugin = ground.plugin()?;
    plugin.open_over()?;
    ground.registered(&plugin, 1).await?;
    plugin.open_over()?;
    twice(&ground, &plugin).await
}

async fn mode(ground: Ground) -> CaseResult {
    use std::os::unix::fs::PermissionsExt;
    let mut plugin = ground.plugin()?;
    plugin.open()?;
    ground.registered(&plugin, 1).await?;
    let mode = fs::Permissions::from_mode(0o600);
    fs::set_permissions(&plugin.socket, mode).map_err(|error| error.to_string())?;
    ground.quiet().await;
    same("calls", plugin.calls(), ALL.to_vec())
}

async fn killed(ground: Ground) -> CaseResult {
    let mut plugin = ground.plugin()?;
    plugin.open()?;
    ground.registered(&plugin, 1).await?;
    plugin.kill();
    ground.quiet().await;
    let entry = ground.entry(&plugin.name).await?;
    same("its entry in the CSINode exists", entry.is_some(), true)
}

async fn stale(ground: Ground) -> CaseResult {
    let mut plugin = ground.plugin()?;
    drop(UnixListener::bind(&plugin.socket).map_err(|error| error.to_string())?);
    ground.quiet().await;
    same("calls while nobody listens", plugin.calls(), vec![])?;
    plugin.open()?;
    ground.registered(&plugin, 1).await?;
    // A kubelet that was still dialing the old one registers twice.
    ground.quiet().await;
    ground.quiet().await;
    let entry = ground.entry(&plugin.name).await?;
    same("its entry in the CSINode exists", entry.is_some(), true)
}

async fn hangs(ground: Ground) -> CaseResult {
    let mut plugin = ground.plugin()?;
    plugin.script(|script| script.hangs = 1);
    plugin.open()?;
    let heard = ground.registered(&plugin, 1).await?;
    let expected = [&[Call::GetInfo], &ALL[..]].concat();
    same("calls", plugin.calls(), expected)?;
    let between = heard[1].at - heard[0].at;
    // Its clock began before the call came here.
    let limit = Duration::from_millis(900);
    same("the second comes after a second", between > limit, true)
}

async fn restarted(ground: Ground) -> CaseResult {
    let Some(restart) = &ground.target.restart else {
        return Ok(());
    };
    let mut plugin = ground.plugin()?;
    plugin.open()?;
    ground.registered(&plugin, 1).await?;
    restart().await;
    twice(&ground, &plugin).await?;
    plugin.close();
    ground.gone(&plugin.name).await
}
