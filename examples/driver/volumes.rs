//! The volumes that exist, and the room that is left for others.

use std::collections::BTreeMap;

use sandbox::driver::proto::{
    CapacityRange, CreateSnapshotRequest, CreateVolumeRequest, Snapshot, Topology, TopologyRequirement,
    Volume, VolumeContentSource, volume_content_source::Type as Source,
};
use tonic::Status;

use crate::{Labels, given, snapshots::Snapshots, some};

/// Of a segment whose room is not told: 1 TiB.
pub(crate) const ROOM: i64 = 1 << 40;

/// Of a volume that may have any size: 1 GiB.
const SIZE: i64 = 1 << 30;

/// What a volume can be given when it is made, and later, with any value; no other mutable parameter is known.
const TIER: &str = "tier";

/// Where volumes can be, with room for so many bytes.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) labels: Labels,
    pub(crate) room: i64,
}

/// A volume that exists.
pub(crate) struct Stored {
    pub(crate) name: String,
    pub(crate) volume: Volume,
    /// By index.
    segment: usize,
    mutable_parameters: Labels,
    /// Whether it is read-only on each node that it is published to.
    pub(crate) nodes: BTreeMap<String, bool>,
}

/// Ids are numbers, so that lists are in the order of creation.
pub(crate) struct Volumes {
    segments: Vec<Segment>,
    pub(crate) all: BTreeMap<u64, Stored>,
    pub(crate) snapshots: Snapshots,
    made: u64,
}

impl Volumes {
    /// Without segments there is room for [`ROOM`] bytes, and no topology.
    pub(crate) fn new(mut segments: Vec<Segment>) -> Self {
        if segments.is_empty() {
            segments.push(Segment {
                labels: Labels::new(),
                room: ROOM,
            });
        }
        Self {
            segments,
            all: BTreeMap::new(),
            snapshots: Snapshots::default(),
            made: 0,
        }
    }

    /// That of the node, if there is a topology.
    pub(crate) fn own_segment(&self) -> Option<Topology> {
        self.segments.first().and_then(topology)
    }

    pub(crate) fn create(&mut self, request: &CreateVolumeRequest) -> Result<Volume, Status> {
        given("name", &request.name)?;
        some("volume_capabilities", &request.volume_capabilities)?;
        mutable(&request.mutable_parameters)?;
        let source = request.volume_content_source.as_ref();
        let least = source.map_or(Ok(0), |source| self.source_size(source))?;
        let size = size(request.capacity_range.as_ref(), least)?;
        if let Some(known) = self.all.values().find(|it| it.name == request.name) {
            let known = &known.volume;
            if !fits(known.capacity_bytes, request.capacity_range.as_ref())
                || known.content_source.as_ref() != source
            {
                let text = format!("{} exists and is another volume", request.name);
                return Err(Status::already_exists(text));
            }
            return Ok(known.clone());
        }
        let segment = self.choose(request.accessibility_requirements.as_ref(), size)?;
        self.made += 1;
        let volume = Volume {
            capacity_bytes: size,
            volume_id: self.made.to_string(),
            content_source: source.cloned(),
            accessible_topology: topology(&self.segments[segment]).into_iter().collect(),
            ..Default::default()
        };
        let stored = Stored {
            name: request.name.clone(),
            volume: volume.clone(),
            segment,
            mutable_parameters: request.mutable_parameters.clone().into_iter().collect(),
            nodes: BTreeMap::new(),
        };
        self.all.insert(self.made, stored);
        Ok(volume)
    }

    pub(crate) fn delete(&mut self, id: &str) -> Result<(), Status> {
        given("volume_id", id)?;
        // What does not exist is deleted.
        let Ok(stored) = self.get(id) else {
            return Ok(());
        };
        if !stored.nodes.is_empty() {
            let text = format!("{id} is published to {:?}", stored.nodes.keys());
            return Err(Status::failed_precondition(text));
        }
        self.all.retain(|_, stored| stored.volume.volume_id != id);
        Ok(())
    }

    /// Makes the volume at least so large, and gives its size.
    pub(crate) fn expand(&mut self, id: &str, range: Option<&CapacityRange>) -> Result<i64, Status> {
        some("capacity_range", range)?;
        let stored = self.get(id)?;
        let (now, segment) = (stored.volume.capacity_bytes, stored.segment);
        let size = size(range, now)?;
        if size - now > self.room(segment) {
            return Err(Status::out_of_range(format!("no room for {size} bytes")));
        }
        self.get(id)?.volume.capacity_bytes = size;
        Ok(size)
    }

    pub(crate) fn modify(&mut self, id: &str, parameters: Labels) -> Result<(), Status> {
        let stored = self.get(id)?;
        mutable(&parameters)?;
        stored.mutable_parameters.extend(parameters);
        Ok(())
    }

    /// The volume with this id; NotFound without one, InvalidArgument when the id is empty.
    pub(crate) fn get(&mut self, id: &str) -> Result<&mut Stored, Status> {
        given("volume_id", id)?;
        self.all
            .values_mut()
            .find(|stored| stored.volume.volume_id == id)
            .ok_or_else(|| Status::not_found(format!("there is no volume {id}")))
    }

    pub(crate) fn snapshot(&mut self, request: &CreateSnapshotRequest) -> Result<Snapshot, Status> {
        given("name", &request.name)?;
        let size = self.get(&request.source_volume_id)?.volume.capacity_bytes;
        self.snapshots.create(request, size)
    }

    /// What is left in all segments that lie in this term.
    pub(crate) fn capacity(&self, term: &Topology) -> i64 {
        (0..self.segments.len())
            .filter(|&index| self.lies_in(index, term))
            .map(|index| self.room(index))
            .sum()
    }

    fn room(&self, segment: usize) -> i64 {
        let taken = self.all.values().filter(|stored| stored.segment == segment);
        self.segments[segment].room - taken.map(|stored| stored.volume.capacity_bytes).sum::<i64>()
    }

    /// A term may name fewer keys than the segment has.
    fn lies_in(&self, segment: usize, term: &Topology) -> bool {
        let labels = &self.segments[segment].labels;
        term.segments
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
    }

    /// The first preferred term with room counts, then the requisite ones; without a requirement all do.
    fn choose(&self, requirement: Option<&TopologyRequirement>, size: i64) -> Result<usize, Status> {
        let anywhere = [Topology::default()];
        let lists = match requirement {
            Some(it) => [it.preferred.as_slice(), &it.requisite],
            None => [anywhere.as_slice(), &[]],
        };
        lists
            .into_iter()
            .flatten()
            .flat_map(|term| (0..self.segments.len()).filter(|&index| self.lies_in(index, term)))
            .find(|&index| self.room(index) >= size)
            .ok_or_else(|| Status::resource_exhausted(format!("no room for {size} bytes")))
    }

    /// How large a copy is at least.
    fn source_size(&mut self, source: &VolumeContentSource) -> Result<i64, Status> {
        match &source.r#type {
            Some(Source::Snapshot(source)) => self.snapshots.size(&source.snapshot_id),
            Some(Source::Volume(source)) => Ok(self.get(&source.volume_id)?.volume.capacity_bytes),
            None => Err(Status::invalid_argument("volume_content_source is empty")),
        }
    }
}

/// `None` where nothing is told about places.
fn topology(segment: &Segment) -> Option<Topology> {
    let segments = segment.labels.clone();
    (!segments.is_empty()).then_some(Topology { segments })
}

fn mutable(parameters: &Labels) -> Result<(), Status> {
    match parameters.keys().find(|key| *key != TIER) {
        Some(key) => Err(Status::invalid_argument(format!(
            "mutable parameter {key}: only {TIER} is known"
        ))),
        None => Ok(()),
    }
}

/// The size for this range that holds `least` bytes.
fn size(range: Option<&CapacityRange>, least: i64) -> Result<i64, Status> {
    let range = range.copied().unwrap_or_default();
    let (required, limit) = (range.required_bytes, range.limit_bytes);
    if required < 0 || limit < 0 || limit > 0 && limit < required {
        return Err(Status::invalid_argument(format!("capacity_range is {range:?}")));
    }
    let size = match (required.max(least), limit) {
        (0, 0) => SIZE,
        (0, limit) => limit.min(SIZE),
        (size, _) => size,
    };
    match limit > 0 && size > limit {
        true => Err(Status::out_of_range(format!("{size} bytes exceed {range:?}"))),
        false => Ok(size),
    }
}

fn fits(size: i64, range: Option<&CapacityRange>) -> bool {
    let range = range.copied().unwrap_or_default();
    size >= range.required_bytes && (range.limit_bytes == 0 || size <= range.limit_bytes)
}

/// One page of a list, from the id that `token` names, and the token of the next page.
pub(crate) fn page<'a, T>(
    all: impl Iterator<Item = (&'a u64, T)>,
    token: &str,
    most: i32,
) -> Result<(Vec<T>, String), Status> {
    let first: u64 = match token {
        "" => 0,
        token => token
            .parse()
            .map_err(|_| Status::aborted(format!("starting_token {token} is none of ours")))?,
    };
    let most = match usize::try_from(most) {
        Ok(0) => usize::MAX,
        Ok(most) => most,
        Err(_) => return Err(Status::invalid_argument("max_entries is negative")),
    };
    let mut rest = all.filter(|(id, _)| **id >= first);
    let entries = rest.by_ref().take(most).map(|(_, entry)| entry).collect();
    let next = rest.next().map(|(id, _)| id.to_string());
    Ok((entries, next.unwrap_or_default()))
}
