//! The in-memory driver of Kubernetes' own end-to-end suite, as a process.

use std::{collections::BTreeSet, os::unix::net::UnixStream, path::PathBuf, time::Duration};

use serde::Deserialize;
use serde_json::Value;

use crate::{
    supervisor::{Process, SIGHUP},
    world::{SOON, World, eventually},
};

pub(crate) struct Driver {
    pub(crate) name: String,
    pub(crate) socket: PathBuf,
    process: Process,
    calls: PathBuf,
}

/// One call as the driver answered it, or began it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Call {
    pub(crate) method: String,
    /// Empty when it began.
    pub(crate) code: String,
    /// What was set in it, under the names of the protocol; `secrets` is the list of their keys.
    #[serde(default)]
    pub(crate) request: Value,
    #[serde(default)]
    pub(crate) volume_id: String,
}

impl Driver {
    /// One whose CreateVolume and DeleteVolume take `delay` each.
    pub(crate) async fn start(world: &World, delay: Duration) -> Self {
        let dir = &world.cluster.supervisor.dir;
        let name = format!("{}.csi.example.com", world.namespace);
        let socket = dir.join(format!("{}.sock", world.namespace));
        let calls = dir.join(format!("{}.calls", world.namespace));
        let argv = [
            world.cluster.bin.join("driver").to_str().unwrap().to_owned(),
            format!("-name={name}"),
            format!("-socket={}", socket.display()),
            format!("-calls={}", calls.display()),
            format!("-delay={}ms", delay.as_millis()),
            "-pause=2s".to_owned(),
        ];
        let process =
            world
                .cluster
                .supervisor
                .run(&argv, &[], dir.join(format!("{}-driver.log", world.namespace)));
        let driver = Self {
            name,
            socket,
            process,
            calls,
        };
        driver.serves().await;
        driver
    }

    async fn serves(&self) {
        eventually(
            "the driver's socket accepts",
            Duration::from_secs(20),
            async || {
                UnixStream::connect(&self.socket)
                    .map(drop)
                    .map_err(|error| error.to_string())
            },
        )
        .await;
    }

    /// The socket goes away for two seconds and comes back with the same volumes; returns when it is gone.
    pub(crate) async fn restart(&self) {
        self.process.signal(SIGHUP);
        eventually(
            "the driver's socket is gone",
            Duration::from_secs(10),
            async || match UnixStream::connect(&self.socket) {
                Ok(_) => Err("it accepts".to_owned()),
                Err(_) => Ok(()),
            },
        )
        .await;
    }

    fn lines(&self) -> Vec<Call> {
        let text = std::fs::read_to_string(&self.calls).unwrap();
        // The last line may be half written.
        text.split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The calls that were answered.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.lines()
            .into_iter()
            .filter(|call| !call.code.is_empty())
            .collect()
    }

    /// Waits until the driver has begun so many calls of this method.
    pub(crate) async fn begins(&self, method: &str, count: usize) {
        eventually(
            &format!("the driver begins {method} for the {count}th time"),
            SOON,
            async || {
                let begun = |call: &&Call| call.method == method && call.code.is_empty();
                let seen = self.lines().iter().filter(begun).count();
                if seen >= count {
                    Ok(())
                } else {
                    Err(format!("{seen} calls"))
                }
            },
        )
        .await;
    }

    pub(crate) fn calls_of(&self, method: &str) -> Vec<Call> {
        self.calls()
            .into_iter()
            .filter(|call| call.method == method)
            .collect()
    }

    /// The volumes that exist, by id: what was created and not deleted.
    pub(crate) fn volumes(&self) -> BTreeSet<String> {
        let mut volumes = BTreeSet::new();
        for call in self.calls().into_iter().filter(|call| call.code == "OK") {
            match call.method.as_str() {
                "CreateVolume" => _ = volumes.insert(call.volume_id),
                "DeleteVolume" => _ = volumes.remove(&call.volume_id),
                _ => {}
            }
        }
        volumes
    }
}
