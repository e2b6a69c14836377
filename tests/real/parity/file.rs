//! A scenario as its file in tests/parity has it. There `zone` stands for a label key that only this scenario has, and
//! `<world>` for its namespace, with which all names across the cluster begin; `<driver>` is the driver's name and
//! `<uid of X>` the UID of an object that is there.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;
use serde_json::Value;

use crate::driver::Upset;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScenarioFile {
    /// Of the reference.
    pub(super) section: String,
    /// What must be the same.
    pub(super) about: String,
    /// Whether `make test` runs it, too.
    #[serde(default)]
    pub(super) share: bool,
    #[serde(default)]
    pub(super) rights: RightsFile,
    #[serde(default)]
    pub(super) flags: Vec<String>,
    #[serde(default)]
    pub(super) pod: PodFile,
    #[serde(default)]
    pub(super) driver: DriverFile,
    #[serde(default)]
    pub(super) nodes: BTreeMap<String, NodeFile>,
    /// By kind and name, each laid over what most objects of its kind have.
    #[serde(default)]
    pub(super) objects: BTreeMap<String, Value>,
    #[serde(default)]
    pub(super) claims: BTreeMap<String, ClaimFile>,
    /// Without any, all claims get their volume and are deleted.
    #[serde(default)]
    pub(super) steps: Vec<Step>,
    /// Claims that ours refuses in its own words, before their creation begins; upstream says first that it begins.
    #[serde(default)]
    refused: Vec<String>,
    /// Claims of whose failure ours tells in its own words.
    #[serde(default)]
    own_words: Vec<String>,
    /// What else may differ. That there is such a difference at all is asserted.
    #[serde(default)]
    differences: Vec<Difference>,
    #[serde(default)]
    pub(super) peer_6_3: Vec<Peer63>,
}

/// Beside those of upstream's example, each as verb and resource: `get secrets`.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RightsFile {
    pub(super) also: Vec<String>,
    pub(super) without: Vec<String>,
}

/// What the sidecar's Pod is like.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct PodFile {
    /// Variables that it does not set.
    pub(super) without: Vec<String>,
    /// By a ReplicaSet, which is a Deployment's.
    pub(super) owned: bool,
    /// No sidecar runs in it, until a step starts it.
    pub(super) idle: bool,
}

/// In a step only what is given changes.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct DriverFile {
    pub(super) segments: Option<Vec<SegmentFile>>,
    pub(super) without: Option<Vec<String>>,
    pub(super) with: Option<Vec<String>>,
    pub(super) script: Option<Vec<Upset>>,
}

/// A place where volumes can be.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SegmentFile {
    pub(super) at: BTreeMap<String, String>,
    /// Without limit when it is not there.
    pub(super) gib: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeFile {
    #[serde(default)]
    pub(super) at: BTreeMap<String, String>,
    /// The keys with which the driver is registered there, when they are not those of `at`.
    pub(super) keys: Option<Vec<String>>,
    /// Who is registered there, when it is not the scenario's driver; empty is nobody.
    pub(super) driver: Option<String>,
    /// A driver and a sidecar of its own; none is in the middle then.
    #[serde(default)]
    pub(super) sidecar: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClaimFile {
    pub(super) class: Option<String>,
    /// 1Gi when it is not there.
    pub(super) size: Option<String>,
    /// ReadWriteOnce when they are not there.
    pub(super) modes: Option<Vec<String>>,
    /// The data source, by kind and name.
    pub(super) from: Option<String>,
    /// The node that the scheduler wants it for.
    pub(super) node: Option<String>,
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, String>,
    /// Laid over the rest.
    #[serde(default)]
    pub(super) spec: Value,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Names {
    One(String),
    Many(Vec<String>),
}

impl Names {
    pub(super) fn list(&self) -> &[String] {
        match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Many(names) => names,
        }
    }
}

/// Objects are named by kind and name; a bare name is a claim.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Step {
    /// They come to be.
    Claims(Names),
    /// Waits until they have their volumes, and looks at both.
    Bound(Names),
    /// Waits until a Warning with this text says that provisioning failed.
    Fails(BTreeMap<String, String>),
    Event(EventFile),
    /// What the object is now counts.
    Look(Names),
    Delete(Names),
    /// Waits for it; with a claim its volume is gone, too.
    Gone(Names),
    /// Waits until the volumes of these deleted claims are left alone, and looks at them.
    Released(Names),
    /// Waits until the scheduler is to choose a node again, and looks at the claims.
    Returned(Names),
    /// The scheduler chooses a node.
    Select(BTreeMap<String, String>),
    /// Waits until the object is like this.
    Wait(BTreeMap<String, Value>),
    Create(BTreeMap<String, Value>),
    Patch(BTreeMap<String, Value>),
    Status(BTreeMap<String, Value>),
    Nodes(BTreeMap<String, NodeFile>),
    Driver(DriverFile),
    Asked(AskedFile),
    /// Waits until exactly these are published, as class and place: GiB; and looks at them.
    Capacities(BTreeMap<String, f64>),
    /// Pods with the claims of the same name, and the zone they have to be in.
    Pods(BTreeMap<String, BTreeMap<String, String>>),
    /// Waits until the Pods are on these nodes.
    Placed(BTreeMap<String, String>),
    /// The sidecar of an idle Pod.
    Start,
    /// SIGKILL, and the container starts again.
    Restart,
    /// SIGTERM; how the process ends counts.
    Stop,
    /// Which of these paths are served counts.
    Pages(Names),
    Metrics(MetricsFile),
    /// Each runs a sidecar until it ends.
    Exits(BTreeMap<String, ExitFile>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventFile {
    pub(super) on: String,
    /// Any of them.
    pub(super) reason: Names,
    #[serde(default)]
    pub(super) says: String,
    /// At least.
    #[serde(default = "once")]
    pub(super) times: i32,
}

fn once() -> i32 {
    1
}

/// Waits until the driver has answered so many calls, or so many more than now. With `exactly` it was not asked more
/// often.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AskedFile {
    pub(super) method: String,
    pub(super) claim: Option<String>,
    #[serde(default)]
    pub(super) times: usize,
    pub(super) more: Option<usize>,
    pub(super) exactly: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MetricsFile {
    /// Waits until they are so.
    #[serde(default)]
    pub(super) values: BTreeMap<String, f64>,
    /// How the names begin of which all series count, without their values.
    #[serde(default)]
    pub(super) series: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ExitFile {
    pub(super) flags: Vec<String>,
    pub(super) without: Vec<String>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Difference {
    /// How the row of COMPATIBILITY.md begins.
    pub(super) row: String,
    /// How the lines begin that both have in their own way.
    #[serde(default)]
    pub(super) both: Vec<String>,
    /// How the lines begin that only one has.
    #[serde(default)]
    pub(super) upstream: Vec<String>,
    #[serde(default)]
    pub(super) ours: Vec<String>,
}

const WORDS: &str = "our own texts in `ProvisioningFailed`";
const BEGUN: &str = "`Provisioning` is published once for a claim";

/// What 6.4 does, and the peer does not yet: COMPATIBILITY.md says which versions are compared.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Peer63 {
    /// How the lines begin.
    pub(super) line: String,
    /// The lines of a provisioner that is like 6.4.
    pub(super) target: Names,
    /// Why, with the section of the reference.
    pub(super) why: String,
}

impl ScenarioFile {
    /// All that is declared.
    pub(super) fn differences(&self) -> Vec<Difference> {
        let mut all = self.differences.clone();
        let starts = |claims: Vec<&String>, event: &str| {
            let start = |claim| format!("event of PersistentVolumeClaim {claim}, {event}");
            claims.into_iter().map(start).collect::<Vec<_>>()
        };
        let words = self.refused.iter().chain(&self.own_words).collect();
        for (row, both, upstream) in [
            (WORDS, starts(words, "Warning ProvisioningFailed"), Vec::new()),
            (
                BEGUN,
                Vec::new(),
                starts(self.refused.iter().collect(), "Normal Provisioning: \"External"),
            ),
        ] {
            if both.len() + upstream.len() > 0 {
                let row = row.to_owned();
                let ours = Vec::new();
                all.push(Difference {
                    row,
                    both,
                    upstream,
                    ours,
                });
            }
        }
        all
    }

    pub(super) fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        let file: Self =
            serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(
            file.about.ends_with(".")
                && !file.section.is_empty()
                && file.peer_6_3.iter().all(|it| !it.why.is_empty()),
            "{}: say of which section it is, and in a sentence what must be the same",
            path.display()
        );
        file
    }
}
