//! The in-memory driver of Kubernetes' own end-to-end suite, as a process.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    os::unix::net::UnixStream,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    supervisor::{Process, SIGHUP},
    world::{SOON, World, eventually},
};

pub(crate) struct Driver {
    pub(crate) name: String,
    pub(crate) socket: PathBuf,
    /// The node whose driver this is, where each node has its own.
    pub(crate) node: Option<String>,
    process: Process,
    log: Mutex<Log>,
    config: PathBuf,
}

/// What was read of the file with the calls: a long run asks often.
struct Log {
    path: PathBuf,
    offset: u64,
    calls: Vec<Arc<Call>>,
}

impl Log {
    fn read(&mut self) -> &[Arc<Call>] {
        let mut file = File::open(&self.path).unwrap();
        file.seek(SeekFrom::Start(self.offset)).unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        // The last line may be half written.
        for line in bytes
            .split_inclusive(|byte| *byte == b'\n')
            .filter(|line| line.ends_with(b"\n"))
        {
            self.offset += line.len() as u64;
            self.calls
                .push(serde_json::from_slice(line).map(Arc::new).unwrap());
        }
        &self.calls
    }
}

/// Labels of a node, and segments of a topology.
pub(crate) type Labels = BTreeMap<String, String>;

/// What a driver is like; the defaults are those of the suite: no topology, and capacity without end.
#[derive(Clone, Default, Serialize)]
pub(crate) struct Options {
    /// Its name, where another one would not do. Only one scenario may have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<&'static str>,
    /// How long CreateVolume and DeleteVolume take each.
    #[serde(skip)]
    pub(crate) delay: Duration,
    /// Places for volumes. A volume goes to the first one with room that the caller prefers.
    pub(crate) segments: Vec<Segment>,
    /// What NodeGetInfo says. A driver with a node has files of its own: there may be one for each node.
    pub(crate) node: Option<NodeInfo>,
    /// Capabilities of its controller, by the protocol's names, that it does not have, and has besides.
    pub(crate) without: Vec<String>,
    pub(crate) with: Vec<String>,
    pub(crate) script: Vec<Upset>,
    pub(crate) losses: Losses,
}

/// Answers to CreateVolume and DeleteVolume that never arrive, although the call was carried out: half of them end with
/// their connection, half are waited for until the caller gives up.
#[derive(Clone, Copy, Default, Serialize)]
pub(crate) struct Losses {
    pub(crate) percent: u8,
    /// Of the draw.
    pub(crate) seed: u64,
}

/// Where volumes can be, with room for so much; `None` is no limit.
#[derive(Clone, Default, Serialize)]
pub(crate) struct Segment {
    pub(crate) labels: Labels,
    pub(crate) bytes: Option<i64>,
    pub(crate) volumes: Option<usize>,
}

#[derive(Clone, Default, Serialize)]
pub(crate) struct NodeInfo {
    pub(crate) id: String,
    pub(crate) labels: Labels,
    /// How many volumes there can be on the node; without limit when 0.
    pub(crate) limit: i32,
}

/// What calls get instead of being carried out, or other than the driver would answer. They are counted from when the
/// driver learns of it.
#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Upset {
    pub(crate) method: String,
    /// As the protocol spells it: `RESOURCE_EXHAUSTED`. Without one the call is carried out.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) code: String,
    /// What goes with the code.
    pub(crate) message: String,
    /// A merge patch over the driver's answer, with the names of the protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) answer: Option<Value>,
    /// How long the call takes first.
    pub(crate) milliseconds: u64,
    /// Only the n-th of those that are meant, from 1; 0 means each.
    pub(crate) nth: usize,
    /// Only calls that have at least these fields.
    pub(crate) when: Option<Value>,
}

impl Upset {
    /// What a call has whose first preferred term is this.
    pub(crate) fn in_place(labels: &Labels) -> Value {
        json!({"accessibility_requirements": {"preferred": [{"segments": labels}]}})
    }
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
    /// A digest of the secrets' values.
    #[serde(default)]
    pub(crate) secrets: String,
    #[serde(default)]
    pub(crate) volume_id: String,
    /// How the answer was lost, when it was.
    #[serde(default)]
    pub(crate) lost: String,
    /// The process that called.
    #[serde(default)]
    pub(crate) pid: u32,
    /// When it began, or was answered, in microseconds of Unix time.
    pub(crate) at: u64,
}

impl Call {
    /// Whether this line says that the call begins; there is another one when it is answered.
    pub(crate) fn begins(&self) -> bool {
        self.code.is_empty()
    }
}

impl Driver {
    /// One without topology whose CreateVolume and DeleteVolume take `delay` each.
    pub(crate) async fn start(world: &World, delay: Duration) -> Self {
        let options = Options {
            delay,
            ..Options::default()
        };
        Self::with(world, options).await
    }

    pub(crate) async fn with(world: &World, options: Options) -> Self {
        let dir = &world.cluster.supervisor.dir;
        let name = match options.name {
            Some(name) => name.to_owned(),
            None => format!("{}.csi.example.com", world.namespace),
        };
        let node = options.node.as_ref().map(|node| node.id.clone());
        // The name of a node starts with the world's.
        let stem = node.clone().unwrap_or_else(|| world.namespace.clone());
        let file = |suffix: &str| dir.join(format!("{stem}{suffix}"));
        let (socket, calls, config) = (file(".sock"), file(".calls"), file("-driver.json"));
        write(&config, &options);
        let argv = [
            world.cluster.bin.join("driver").to_str().unwrap().to_owned(),
            format!("-name={name}"),
            format!("-socket={}", socket.display()),
            format!("-calls={}", calls.display()),
            format!("-config={}", config.display()),
            format!("-delay={}ms", options.delay.as_millis()),
            "-pause=2s".to_owned(),
        ];
        let process = world.cluster.supervisor.run(&argv, &[], file("-driver.log"));
        let driver = Self {
            name,
            socket,
            node,
            process,
            log: Mutex::new(Log {
                path: calls,
                offset: 0,
                calls: Vec::new(),
            }),
            config,
        };
        driver.serves().await;
        driver
    }

    /// Other segments and another script from the next call on; the delay stays, and where volumes are.
    pub(crate) fn configure(&self, options: &Options) {
        write(&self.config, options);
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

    /// Every call as it began and as it was answered.
    pub(crate) fn lines(&self) -> Vec<Arc<Call>> {
        self.log.lock().unwrap().read().to_vec()
    }

    /// How many lines there are by now.
    pub(crate) fn line_count(&self) -> usize {
        self.log.lock().unwrap().read().len()
    }

    /// The calls of this method that have begun since so many lines.
    pub(crate) fn begun_since(&self, line: usize, method: &str) -> Vec<Arc<Call>> {
        let mut log = self.log.lock().unwrap();
        let begun = |call: &&Arc<Call>| call.method == method && call.begins();
        log.read()[line..].iter().filter(begun).cloned().collect()
    }

    /// The calls that were answered.
    pub(crate) fn calls(&self) -> Vec<Arc<Call>> {
        let mut lines = self.lines();
        lines.retain(|call| !call.begins());
        lines
    }

    /// Waits until the driver has begun so many calls of this method.
    pub(crate) async fn begins(&self, method: &str, count: usize) {
        eventually(
            &format!("the driver begins {method} for the {count}th time"),
            SOON,
            async || {
                let seen = self.begun_since(0, method).len();
                if seen >= count {
                    Ok(())
                } else {
                    Err(format!("{seen} calls"))
                }
            },
        )
        .await;
    }

    pub(crate) fn calls_of(&self, method: &str) -> Vec<Arc<Call>> {
        let mut calls = self.calls();
        calls.retain(|call| call.method == method);
        calls
    }

    /// The volumes that exist, by id: what was created and not deleted.
    pub(crate) fn volumes(&self) -> BTreeSet<String> {
        let mut volumes = BTreeSet::new();
        for call in self.calls().into_iter().filter(|call| call.code == "OK") {
            match call.method.as_str() {
                "CreateVolume" => _ = volumes.insert(call.volume_id.clone()),
                "DeleteVolume" => _ = volumes.remove(&call.volume_id),
                _ => {}
            }
        }
        volumes
    }
}

/// In one step, because the driver reads it at each call.
fn write(path: &std::path::Path, options: &Options) {
    let part = path.with_extension("part");
    std::fs::write(&part, serde_json::to_vec(options).unwrap()).unwrap();
    std::fs::rename(part, path).unwrap();
}
