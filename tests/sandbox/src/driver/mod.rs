//! A CSI driver with volumes in memory, a script of what goes wrong, and an
//! eye on whether its caller keeps the rules of the specification.

mod calls;
pub mod proto;
mod serve;
mod volumes;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{task::JoinSet, time::Instant};
use tonic::Code;

pub use proto::controller_service_capability::rpc::Type as Capability;
pub use volumes::Segment;

use crate::Line;
use proto::{CreateVolumeRequest, GetCapacityRequest, GetCapacityResponse, VolumeContentSource};

/// The key of a volume's context that tells it from an earlier one of the same id.
pub const INCARNATION: &str = "incarnation";

/// A CSI driver. Clones share the same state; it serves until stopped or dropped.
#[derive(Clone)]
pub struct Driver {
    pub(crate) state: Arc<Mutex<State>>,
    began: Instant,
    /// Who is connected.
    line: Line,
}

pub(crate) struct State {
    identity: Identity,
    pub(crate) volumes: BTreeMap<String, Volume>,
    /// Which of all volumes that were ever made one is, by id.
    incarnations: BTreeMap<String, u64>,
    /// Where volumes are, by id.
    placed: BTreeMap<String, BTreeMap<String, String>>,
    /// What volumes were made from, by id.
    pub(crate) sources: BTreeMap<String, VolumeContentSource>,
    /// Ids of the snapshots that exist.
    pub(crate) snapshots: BTreeSet<String>,
    /// What ids begin with.
    prefix: String,
    creations: Vec<CreateVolumeRequest>,
    capacity_requests: Vec<GetCapacityRequest>,
    /// How often the driver has stopped: a call from before a stop is not answered.
    stops: u32,
    /// Ids of volumes whose deletion was answered, when, and to whom.
    deleted: BTreeMap<String, (Duration, Line)>,
    /// The request that a name was first asked for with, secrets taken out.
    pub(crate) asked: BTreeMap<String, CreateVolumeRequest>,
    /// Volumes, by name or id, that a caller waits for right now.
    awaited: BTreeSet<String>,
    /// Volumes, by name or id, that work goes on for, awaited or not.
    pub(crate) busy: BTreeSet<String>,
    /// How many calls of a method are awaited now, and the most that ever were.
    at_once: BTreeMap<&'static str, (usize, usize)>,
    script: Vec<Upset>,
    log: Vec<Call>,
    breaches: Vec<String>,
    made: u64,
    running: bool,
    connections: JoinSet<()>,
}

/// What the driver says about itself.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Plugin name.
    pub name: String,
    /// Whether it has the CONTROLLER_SERVICE capability.
    pub controller: bool,
    /// Whether it has the VOLUME_ACCESSIBILITY_CONSTRAINTS capability.
    pub topology: bool,
    /// Controller capabilities.
    pub capabilities: Vec<Capability>,
    /// What Probe answers; `None` leaves the field out, which means ready.
    pub ready: Option<bool>,
    /// Whether a volume's id is the name that it was asked for with, as with most drivers, instead of a new one each time.
    /// Its context says which incarnation it is then.
    pub id_is_name: bool,
    /// Sizes are rounded up to a multiple of this many bytes.
    pub granularity: i64,
    /// Where volumes can be and how much room is left. None: anywhere, without end, and GetCapacity says 0.
    pub segments: Vec<Segment>,
    /// `maximum_volume_size` of GetCapacity.
    pub maximum_volume_size: Option<i64>,
    /// `minimum_volume_size` of GetCapacity.
    pub minimum_volume_size: Option<i64>,
    /// `node_id` of NodeGetInfo.
    pub node_id: String,
    /// `accessible_topology` of NodeGetInfo; `None` leaves it out.
    pub node_topology: Option<BTreeMap<String, String>>,
    /// `max_volumes_per_node` of NodeGetInfo; 0 says nothing.
    pub max_volumes_per_node: i64,
}

/// One volume at the driver.
#[derive(Clone, Debug, PartialEq)]
pub struct Volume {
    /// Handle.
    pub id: String,
    /// The name that it was asked for with.
    pub name: String,
    /// Size.
    pub bytes: i64,
    /// Parameters of the request.
    pub parameters: BTreeMap<String, String>,
}

/// What goes wrong with a call.
#[derive(Clone, Debug)]
pub enum Trouble {
    /// Refused with this code and text; nothing is done.
    Refuse(Code, &'static str),
    /// As `Refuse`, with a `grpc-status-details-bin` that is no base64.
    OddDetails(Code, &'static str),
    /// Carried out and refused with this code all the same.
    RefuseAfter(Code, &'static str),
    /// Carried out after this time, whether the caller still waits or not.
    Delay(Duration),
    /// Carried out, but the answer never comes.
    LoseReply,
    /// Nothing is done and no answer comes.
    Hang,
    /// CreateVolume: an answer without a volume. The volume exists.
    WithoutVolume,
    /// CreateVolume: the volume gets this size whatever was asked.
    WrongSize(i64),
    /// CreateVolume: the answer has an empty id. The volume exists.
    EmptyId,
    /// CreateVolume: the volume gets this id, and its answer this context.
    Odd {
        /// Handle.
        id: String,
        /// `volume_context` of the answer.
        context: BTreeMap<String, String>,
    },
    /// CreateVolume: an answer of more than 4 MiB. The volume exists.
    Oversized,
    /// CreateVolume: the answer says that the volume is here, wherever it was placed.
    Topology(Vec<BTreeMap<String, String>>),
    /// CreateVolume: the answer has no `content_source`, whatever was asked.
    WithoutSource,
    /// CreateVolume: the answer says that the volume was made from this.
    OtherSource(VolumeContentSource),
    /// GetCapacity: this answer.
    Capacity(GetCapacityResponse),
}

/// A trouble for some calls of one method.
#[derive(Clone, Debug)]
struct Upset {
    method: &'static str,
    target: Option<String>,
    skip: usize,
    times: usize,
    trouble: Trouble,
}

/// One call that was received.
#[derive(Clone, Debug)]
pub struct Call {
    /// Method without service, like `CreateVolume`.
    pub method: &'static str,
    /// Name for CreateVolume, segment (`zone=a,rack=1`) for GetCapacity, id for the others, empty where there is none.
    pub target: String,
    /// Secrets as received.
    pub secrets: BTreeMap<String, String>,
    /// What was answered; `None` while it runs and for ever when the reply was lost.
    pub code: Option<Code>,
    /// Since the driver was made, in virtual time.
    pub at: Duration,
}

impl Driver {
    /// A driver that can create and delete volumes. It runs at once.
    pub fn new(name: &str) -> Self {
        let identity = Identity {
            name: name.to_owned(),
            controller: true,
            topology: false,
            capabilities: vec![Capability::CreateDeleteVolume],
            ready: None,
            id_is_name: false,
            granularity: 1,
            segments: Vec::new(),
            maximum_volume_size: None,
            minimum_volume_size: None,
            node_id: "node".into(),
            node_topology: None,
            max_volumes_per_node: 0,
        };
        let state = State {
            identity,
            volumes: BTreeMap::new(),
            incarnations: BTreeMap::new(),
            placed: BTreeMap::new(),
            sources: BTreeMap::new(),
            snapshots: BTreeSet::new(),
            prefix: "vol".into(),
            creations: Vec::new(),
            capacity_requests: Vec::new(),
            stops: 0,
            deleted: BTreeMap::new(),
            asked: BTreeMap::new(),
            awaited: BTreeSet::new(),
            busy: BTreeSet::new(),
            at_once: BTreeMap::new(),
            script: Vec::new(),
            log: Vec::new(),
            breaches: Vec::new(),
            made: 0,
            running: true,
            connections: JoinSet::new(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            began: Instant::now(),
            line: Line::new(),
        }
    }

    /// Changes what the driver says about itself, also while it serves.
    pub fn configure(&self, change: impl FnOnce(&mut Identity)) -> &Self {
        change(&mut self.state.lock().identity);
        self
    }

    /// The next `times` calls of a method meet this trouble.
    pub fn upset(&self, method: &'static str, times: usize, trouble: Trouble) -> &Self {
        self.state.lock().script.push(Upset {
            method,
            target: None,
            skip: 0,
            times,
            trouble,
        });
        self
    }

    /// As [`Driver::upset`], only for one target, as [`Call::target`] names it.
    pub fn upset_for(&self, method: &'static str, target: &str, times: usize, trouble: Trouble) -> &Self {
        let target = Some(target.to_owned());
        self.state.lock().script.push(Upset {
            method,
            target,
            skip: 0,
            times,
            trouble,
        });
        self
    }

    /// As [`Driver::upset`], after `skip` calls without.
    pub fn upset_after(&self, method: &'static str, skip: usize, times: usize, trouble: Trouble) -> &Self {
        self.state.lock().script.push(Upset {
            method,
            target: None,
            skip,
            times,
            trouble,
        });
        self
    }

    /// Ends all troubles.
    pub fn heal(&self) {
        self.state.lock().script.clear();
    }

    /// The process dies: connections break, new ones are refused, volumes stay.
    pub fn stop(&self) {
        let mut state = self.state.lock();
        state.running = false;
        state.stops += 1;
        state.connections.abort_all();
        state.awaited.clear();
        // An answer that was on its way is lost, so asking again is right.
        let now = self.began.elapsed();
        state
            .deleted
            .retain(|_, (at, _)| now.saturating_sub(*at) > Duration::from_millis(100));
    }

    /// The process comes back.
    pub fn start(&self) {
        self.state.lock().running = true;
    }

    /// Volumes that exist now, by id.
    pub fn volumes(&self) -> Vec<Volume> {
        self.state.lock().volumes.values().cloned().collect()
    }

    /// Makes a volume that no call asked for, as an administrator would. It has this id, unless that is its name.
    pub fn add_volume(&self, mut volume: Volume) {
        let mut state = self.state.lock();
        if state.identity.id_is_name {
            volume.id.clone_from(&volume.name);
        }
        state.keep(volume);
    }

    /// Takes a volume away that no call asked to delete, as an administrator would.
    pub fn remove_volume(&self, id: &str) {
        self.state.lock().volumes.remove(id);
    }

    /// There is a snapshot of this id, however it was made.
    pub fn add_snapshot(&self, id: &str) {
        self.state.lock().snapshots.insert(id.to_owned());
    }

    /// The snapshot of this id is gone. Volumes that were made from it stay.
    pub fn remove_snapshot(&self, id: &str) {
        self.state.lock().snapshots.remove(id);
    }

    /// What the context of this volume says about its incarnation: nothing while there is no such volume, and nothing
    /// where ids are never used again.
    pub fn incarnation(&self, id: &str) -> Option<String> {
        self.state.lock().context(id).remove(INCARNATION)
    }

    /// Every call so far, in the order of arrival.
    pub fn calls(&self) -> Vec<Call> {
        self.state.lock().log.clone()
    }

    /// How many calls of a method arrived.
    pub fn count(&self, method: &str) -> usize {
        self.state
            .lock()
            .log
            .iter()
            .filter(|call| call.method == method)
            .count()
    }

    /// The most calls of a method that were ever awaited at once.
    pub fn peak(&self, method: &str) -> usize {
        self.state.lock().at_once.get(method).map_or(0, |(_, most)| *most)
    }

    /// What the caller did against the specification: two calls at once for one volume, a name asked for again with
    /// other parameters, a volume deleted twice, what the driver has no capability for, a requirement that
    /// contradicts itself.
    pub fn breaches(&self) -> Vec<String> {
        self.state.lock().breaches.clone()
    }
}

impl State {
    /// The trouble of this call, used up by asking.
    fn trouble(&mut self, method: &str, target: &str) -> Option<Trouble> {
        for upset in &mut self.script {
            let hit = upset.method == method && upset.target.as_deref().is_none_or(|t| t == target);
            if !hit {
                continue;
            }
            if upset.skip > 0 {
                upset.skip -= 1;
            } else if upset.times > 0 {
                upset.times -= 1;
                return Some(upset.trouble.clone());
            }
        }
        None
    }
}
