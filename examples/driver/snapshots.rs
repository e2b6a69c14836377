//! The snapshots that exist. They take no room.

use std::{collections::BTreeMap, time::SystemTime};

use sandbox::driver::proto::{
    CreateSnapshotRequest, ListSnapshotsRequest, ListSnapshotsResponse, Snapshot,
    list_snapshots_response::Entry,
};
use tonic::Status;

use crate::{given, volumes::page};

/// By number, with the name of each.
#[derive(Default)]
pub(crate) struct Snapshots {
    all: BTreeMap<u64, (String, Snapshot)>,
    made: u64,
}

impl Snapshots {
    /// A snapshot of a volume of this size.
    pub(crate) fn create(&mut self, request: &CreateSnapshotRequest, size: i64) -> Result<Snapshot, Status> {
        if let Some((_, known)) = self.all.values().find(|(name, _)| *name == request.name) {
            return match known.source_volume_id == request.source_volume_id {
                true => Ok(known.clone()),
                false => Err(Status::already_exists(format!(
                    "{} is a snapshot of volume {}",
                    request.name, known.source_volume_id
                ))),
            };
        }
        self.made += 1;
        let snapshot = Snapshot {
            size_bytes: size,
            snapshot_id: self.made.to_string(),
            source_volume_id: request.source_volume_id.clone(),
            creation_time: Some(SystemTime::now().into()),
            ready_to_use: true,
            ..Default::default()
        };
        self.all
            .insert(self.made, (request.name.clone(), snapshot.clone()));
        Ok(snapshot)
    }

    pub(crate) fn delete(&mut self, id: &str) -> Result<(), Status> {
        given("snapshot_id", id)?;
        self.all.retain(|_, (_, snapshot)| snapshot.snapshot_id != id);
        Ok(())
    }

    pub(crate) fn list(&self, request: &ListSnapshotsRequest) -> Result<ListSnapshotsResponse, Status> {
        let is = |asked: &str, value: &str| asked.is_empty() || asked == value;
        let asked = self.all.iter().filter(|(_, (_, snapshot))| {
            is(&request.snapshot_id, &snapshot.snapshot_id)
                && is(&request.source_volume_id, &snapshot.source_volume_id)
        });
        let entries = asked.map(|(id, (_, snapshot))| {
            let snapshot = Some(snapshot.clone());
            (id, Entry { snapshot })
        });
        let (entries, next_token) = page(entries, &request.starting_token, request.max_entries)?;
        Ok(ListSnapshotsResponse { entries, next_token })
    }

    pub(crate) fn size(&self, id: &str) -> Result<i64, Status> {
        self.all
            .values()
            .find(|(_, snapshot)| snapshot.snapshot_id == id)
            .map(|(_, snapshot)| snapshot.size_bytes)
            .ok_or_else(|| Status::not_found(format!("there is no snapshot {id}")))
    }
}
