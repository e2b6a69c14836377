//! What the driver does: makes volumes, places them in segments, and says how much room there is.

use std::collections::{BTreeMap, BTreeSet};

use tonic::Status;

use super::{
    Capability, Driver, INCARNATION, State, Trouble, Volume,
    proto::{
        self, CreateVolumeRequest, CreateVolumeResponse, GetCapacityRequest, GetCapacityResponse, Topology,
        TopologyRequirement, VolumeContentSource, volume_content_source::Type,
    },
};

/// A response just above what gRPC clients accept, 4 MiB.
const TOO_MUCH: usize = 4 * 1024 * 1024 + 1;

/// Where volumes can be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Segment {
    /// Keys and values, as nodes have them as labels; empty where every node reaches every volume.
    pub topology: BTreeMap<String, String>,
    /// Bytes that are left; `None` is without end.
    pub room: Option<i64>,
}

impl Segment {
    /// A segment of these keys and values.
    pub fn new(topology: &[(&str, &str)], room: Option<i64>) -> Self {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        Self {
            topology: topology.iter().map(owned).collect(),
            room,
        }
    }

    /// Whether a term means this segment: they share a key and differ in none. An empty one means every other.
    fn fits(&self, term: &BTreeMap<String, String>) -> bool {
        let mut shared = self.topology.iter().filter(|(key, _)| term.contains_key(*key));
        let any = self.topology.is_empty() || term.is_empty() || shared.clone().next().is_some();
        any && shared.all(|(key, value)| term.get(key) == Some(value))
    }

    fn has(&self, bytes: i64) -> bool {
        self.room.is_none_or(|room| room >= bytes)
    }
}

impl Driver {
    /// The driver of one node, as in node deployment: its volumes are there and nowhere else, and their ids begin with
    /// the node's name.
    pub fn on_node(name: &str, node: &str, segment: Segment) -> Self {
        let driver = Self::new(name);
        driver.state.lock().prefix = format!("{node}-vol");
        driver.configure(|identity| {
            identity.node_id = node.to_owned();
            identity.node_topology = Some(segment.topology.clone());
        });
        driver.segment(segment);
        driver
    }

    /// Adds a segment. With keys the driver has VOLUME_ACCESSIBILITY_CONSTRAINTS from now on, with a room GET_CAPACITY.
    pub fn segment(&self, segment: Segment) -> &Self {
        self.configure(|identity| {
            identity.topology |= !segment.topology.is_empty();
            if segment.room.is_some() && !identity.capabilities.contains(&Capability::GetCapacity) {
                identity.capabilities.push(Capability::GetCapacity);
            }
            identity.segments.push(segment);
        })
    }

    /// Where the volume of this name is; `None` while there is none, or none that was placed.
    pub fn placed(&self, name: &str) -> Option<BTreeMap<String, String>> {
        let state = self.state.lock();
        let volume = state.volumes.values().find(|volume| volume.name == name)?;
        state.placed.get(&volume.id).cloned()
    }

    /// Every CreateVolume request so far, without its secrets: as many as calls of that method.
    pub fn creations(&self) -> Vec<CreateVolumeRequest> {
        self.state.lock().creations.clone()
    }

    /// Every GetCapacity request so far: as many as calls of that method.
    pub fn capacity_requests(&self) -> Vec<GetCapacityRequest> {
        self.state.lock().capacity_requests.clone()
    }
}

impl State {
    /// Whether work on this volume goes on, under its name or its id: a creation and a deletion never overlap.
    pub(crate) fn is_busy(&self, target: &str) -> bool {
        let mut volumes = self.volumes.values();
        let volume = volumes.find(|volume| volume.name == target || volume.id == target);
        let known = volume.into_iter().flat_map(|volume| [&*volume.name, &*volume.id]);
        known.chain([target]).any(|name| self.busy.contains(name))
    }

    /// The id of a volume that is made now.
    pub(crate) fn new_id(&self, name: &str) -> String {
        match self.identity.id_is_name {
            true => name.to_owned(),
            false => format!("{}-{}", self.prefix, self.made + 1),
        }
    }

    /// There is a new volume. One of the same id may have been deleted before.
    pub(crate) fn keep(&mut self, volume: Volume) {
        self.made += 1;
        self.deleted.remove(&volume.id);
        self.incarnations.insert(volume.id.clone(), self.made);
        self.volumes.insert(volume.id.clone(), volume);
    }

    /// `volume_context` of this volume.
    pub(crate) fn context(&self, id: &str) -> BTreeMap<String, String> {
        let incarnation = self.incarnations.get(id).map(ToString::to_string);
        let told = incarnation.filter(|_| self.identity.id_is_name && self.volumes.contains_key(id));
        told.map(|told| (INCARNATION.to_owned(), told))
            .into_iter()
            .collect()
    }

    /// The next request for this name may be another one, unless there is a volume.
    pub(super) fn forget(&mut self, name: &str) {
        if self.volumes.values().all(|volume| volume.name != name) {
            self.asked.remove(name);
        }
    }
}

/// `zone=a,rack=1`: how a segment is named in the log of calls.
pub(super) fn spelled(topology: Option<&Topology>) -> String {
    let pairs = topology.iter().flat_map(|topology| &topology.segments);
    pairs
        .map(|(key, value)| format!("{key}={value}"))
        .collect::<Vec<_>>()
        .join(",")
}

/// What a caller may not ask of this driver or in this form.
fn check(state: &mut State, request: &CreateVolumeRequest) {
    let source = request.volume_content_source.as_ref();
    let needed = match source.and_then(|source| source.r#type.as_ref()) {
        Some(Type::Snapshot(_)) => Some(Capability::CreateDeleteSnapshot),
        Some(Type::Volume(_)) => Some(Capability::CloneVolume),
        None => None,
    };
    if let Some(needed) = needed.filter(|needed| !state.identity.capabilities.contains(needed)) {
        let text = format!(
            "CreateVolume of {} from a source, for which the driver lacks {needed:?}",
            request.name
        );
        state.breaches.push(text);
    }
    let Some(requirement) = &request.accessibility_requirements else {
        return;
    };
    let name = &request.name;
    if !state.identity.topology {
        let text = format!("CreateVolume of {name} with topology, which the driver does not have");
        state.breaches.push(text);
    }
    let requisite: BTreeSet<_> = requirement.requisite.iter().map(|term| &term.segments).collect();
    let within = |term: &Topology| requisite.contains(&term.segments);
    if !requisite.is_empty() && !requirement.preferred.iter().all(within) {
        let text = format!("CreateVolume of {name}: a preferred term is not in requisite");
        state.breaches.push(text);
    }
}

/// Takes room in the first segment that has it, in the order of the requirement.
fn place(
    state: &mut State,
    bytes: i64,
    requirement: Option<&TopologyRequirement>,
) -> Result<Option<BTreeMap<String, String>>, Status> {
    let segments = &mut state.identity.segments;
    if segments.is_empty() {
        return Ok(None);
    }
    let terms: Vec<_> = requirement
        .iter()
        .flat_map(|wanted| wanted.preferred.iter().chain(&wanted.requisite))
        .map(|term| &term.segments)
        .collect();
    let found = if terms.is_empty() {
        segments.iter().position(|segment| segment.has(bytes))
    } else {
        let within =
            |term: &&BTreeMap<_, _>| segments.iter().position(|one| one.fits(term) && one.has(bytes));
        terms.iter().find_map(within)
    };
    let Some(segment) = found.and_then(|at| segments.get_mut(at)) else {
        let text = format!("no room for {bytes} bytes in any of {terms:?}");
        return Err(Status::resource_exhausted(text));
    };
    segment.room = segment.room.map(|room| room - bytes);
    Ok(Some(segment.topology.clone()))
}

/// Whether there is what a new volume is to be made from.
fn look_up(state: &State, source: Option<&VolumeContentSource>) -> Result<(), Status> {
    let Some(kind) = source.map(|source| &source.r#type) else {
        return Ok(());
    };
    let (what, id, there) = match kind {
        Some(Type::Snapshot(from)) => {
            let id = &from.snapshot_id;
            ("snapshot", id, state.snapshots.contains(id))
        }
        Some(Type::Volume(from)) => {
            let id = &from.volume_id;
            ("volume", id, state.volumes.contains_key(id))
        }
        None => return Err(Status::invalid_argument("volume_content_source is empty")),
    };
    match there {
        true => Ok(()),
        false => Err(Status::not_found(format!("there is no {what} {id:?}"))),
    }
}

/// Gives back the room of a volume that is gone.
pub(super) fn release(state: &mut State, volume: &Volume) {
    state.sources.remove(&volume.id);
    let Some(topology) = state.placed.remove(&volume.id) else {
        return;
    };
    let mut segments = state.identity.segments.iter_mut();
    if let Some(segment) = segments.find(|segment| segment.topology == topology) {
        segment.room = segment.room.map(|room| room.saturating_add(volume.bytes));
    }
}

pub(super) fn capacity(
    state: &mut State,
    request: &GetCapacityRequest,
    trouble: Option<&Trouble>,
) -> Result<GetCapacityResponse, Status> {
    let identity = &state.identity;
    if !identity.capabilities.contains(&Capability::GetCapacity) {
        state
            .breaches
            .push("GetCapacity, which the driver does not have".into());
        return Err(Status::unimplemented("GetCapacity"));
    }
    if let Some(Trouble::Capacity(answer)) = trouble {
        return Ok(*answer);
    }
    let asked = request.accessible_topology.as_ref();
    let meant = identity
        .segments
        .iter()
        .filter(|segment| asked.is_none_or(|topology| segment.fits(&topology.segments)));
    let available = meant.fold(0_i64, |sum, segment| {
        sum.saturating_add(segment.room.unwrap_or(i64::MAX))
    });
    Ok(GetCapacityResponse {
        available_capacity: available,
        maximum_volume_size: identity.maximum_volume_size,
        minimum_volume_size: identity.minimum_volume_size,
    })
}

pub(super) fn create(
    state: &mut State,
    request: CreateVolumeRequest,
    trouble: Option<&Trouble>,
) -> Result<CreateVolumeResponse, Status> {
    if request.name.is_empty() || request.volume_capabilities.is_empty() {
        return Err(Status::invalid_argument("name or volume_capabilities missing"));
    }
    check(state, &request);
    if let Some(first) = state.asked.insert(request.name.clone(), request.clone())
        && first != request
    {
        let text = format!("CreateVolume of {} again, with another request", request.name);
        state.breaches.push(text);
    }
    let range = request.capacity_range.unwrap_or_default();
    let (least, most) = (range.required_bytes, range.limit_bytes);
    let unit = state.identity.granularity.max(1);
    let bytes = match trouble {
        Some(Trouble::WrongSize(bytes)) => *bytes,
        _ => least.saturating_add(unit - 1) / unit * unit,
    };
    if most > 0 && bytes > most && !matches!(trouble, Some(Trouble::WrongSize(_))) {
        return Err(Status::out_of_range(format!(
            "{bytes} bytes are more than the limit of {most}"
        )));
    }
    let wanted = request.accessibility_requirements.as_ref();
    let known = state
        .volumes
        .values()
        .find(|volume| volume.name == request.name)
        .cloned();
    let volume = match known {
        Some(known)
            if known.bytes < least
                || most > 0 && known.bytes > most
                || known.parameters != request.parameters
                || state.sources.get(&known.id) != request.volume_content_source.as_ref()
                || !reaches(state, &known.id, wanted) =>
        {
            return Err(Status::already_exists(format!(
                "{} exists and is another volume",
                request.name
            )));
        }
        Some(known) => known,
        None => {
            look_up(state, request.volume_content_source.as_ref())?;
            let topology = place(state, bytes, wanted)?;
            let id = match trouble {
                Some(Trouble::Odd { id, .. }) => id.clone(),
                _ => state.new_id(&request.name),
            };
            if let Some(topology) = topology {
                state.placed.insert(id.clone(), topology);
            }
            if let Some(source) = request.volume_content_source {
                state.sources.insert(id.clone(), source);
            }
            let made = Volume {
                id,
                name: request.name,
                bytes,
                parameters: request.parameters,
            };
            state.keep(made.clone());
            made
        }
    };
    let placed = state.placed.get(&volume.id).filter(|_| state.identity.topology);
    let one = |segments: &BTreeMap<_, _>| Topology {
        segments: segments.clone(),
    };
    let mut answer = proto::Volume {
        capacity_bytes: volume.bytes,
        accessible_topology: placed.map(one).into_iter().collect(),
        volume_context: state.context(&volume.id),
        content_source: state.sources.get(&volume.id).cloned(),
        volume_id: volume.id,
    };
    match trouble {
        Some(Trouble::WithoutVolume) => return Ok(CreateVolumeResponse { volume: None }),
        Some(Trouble::Odd { context, .. }) => answer.volume_context.clone_from(context),
        Some(Trouble::Topology(topology)) => answer.accessible_topology = topology.iter().map(one).collect(),
        Some(Trouble::WithoutSource) => answer.content_source = None,
        Some(Trouble::OtherSource(source)) => answer.content_source = Some(source.clone()),
        Some(Trouble::EmptyId) => answer.volume_id.clear(),
        Some(Trouble::Oversized) => {
            answer
                .volume_context
                .insert("filler".into(), "x".repeat(TOO_MUCH));
        }
        _ => {}
    }
    Ok(CreateVolumeResponse { volume: Some(answer) })
}

/// Whether a volume that exists is where it is asked for.
fn reaches(state: &State, id: &str, requirement: Option<&TopologyRequirement>) -> bool {
    let (Some(topology), Some(wanted)) = (state.placed.get(id), requirement) else {
        return true;
    };
    let here = Segment {
        topology: topology.clone(),
        room: None,
    };
    wanted.requisite.is_empty() || wanted.requisite.iter().any(|term| here.fits(&term.segments))
}
