//! The calls about volumes on this node.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, ErrorKind},
};

use sandbox::driver::proto::{
    NodeExpandVolumeRequest, NodeExpandVolumeResponse, NodeGetCapabilitiesRequest,
    NodeGetCapabilitiesResponse, NodeGetInfoRequest, NodeGetInfoResponse, NodeGetVolumeStatsRequest,
    NodeGetVolumeStatsResponse, NodePublishVolumeRequest, NodePublishVolumeResponse, NodeServiceCapability,
    NodeStageVolumeRequest, NodeStageVolumeResponse, NodeUnpublishVolumeRequest, NodeUnpublishVolumeResponse,
    NodeUnstageVolumeRequest, NodeUnstageVolumeResponse, VolumeUsage, node_server::Node,
    node_service_capability, volume_capability::AccessType, volume_usage::Unit,
};
use tonic::{Request, Response, Status};

use crate::{Driver, answer, given, some};

use node_service_capability::{Rpc, Type, rpc::Type as Capability};

const CAPABILITIES: [Capability; 3] = [
    Capability::StageUnstageVolume,
    Capability::GetVolumeStats,
    Capability::ExpandVolume,
];

/// Where volumes are on this node, each with its id.
#[derive(Default)]
pub(crate) struct Paths {
    staged: BTreeSet<(String, String)>,
    published: BTreeSet<(String, String)>,
}

#[tonic::async_trait]
impl Node for Driver {
    async fn node_get_capabilities(
        &self,
        _: Request<NodeGetCapabilitiesRequest>,
    ) -> Result<Response<NodeGetCapabilitiesResponse>, Status> {
        let capability = |it: Capability| NodeServiceCapability {
            r#type: Some(Type::Rpc(Rpc { r#type: it.into() })),
        };
        let capabilities = CAPABILITIES.map(capability).to_vec();
        answer(
            "NodeGetCapabilities",
            "",
            Ok(NodeGetCapabilitiesResponse { capabilities }),
        )
    }

    async fn node_get_info(
        &self,
        _: Request<NodeGetInfoRequest>,
    ) -> Result<Response<NodeGetInfoResponse>, Status> {
        let info = NodeGetInfoResponse {
            node_id: self.node.clone(),
            accessible_topology: self.volumes.lock().own_segment(),
            ..Default::default()
        };
        answer("NodeGetInfo", "", Ok(info))
    }

    async fn node_stage_volume(
        &self,
        request: Request<NodeStageVolumeRequest>,
    ) -> Result<Response<NodeStageVolumeResponse>, Status> {
        let request = request.into_inner();
        let id = &request.volume_id;
        let valid = given("staging_target_path", &request.staging_target_path)
            .and_then(|()| some("volume_capability", &request.volume_capability))
            .and_then(|()| self.volumes.lock().get(id).map(drop));
        if valid.is_ok() {
            let path = request.staging_target_path;
            self.paths.lock().staged.insert((id.clone(), path));
        }
        answer("NodeStageVolume", id, valid.map(|()| NodeStageVolumeResponse {}))
    }

    async fn node_unstage_volume(
        &self,
        request: Request<NodeUnstageVolumeRequest>,
    ) -> Result<Response<NodeUnstageVolumeResponse>, Status> {
        let NodeUnstageVolumeRequest {
            volume_id: id,
            staging_target_path: path,
        } = request.into_inner();
        let valid = given("volume_id", &id).and_then(|()| given("staging_target_path", &path));
        self.paths.lock().staged.remove(&(id.clone(), path));
        answer(
            "NodeUnstageVolume",
            &id,
            valid.map(|()| NodeUnstageVolumeResponse {}),
        )
    }

    async fn node_publish_volume(
        &self,
        request: Request<NodePublishVolumeRequest>,
    ) -> Result<Response<NodePublishVolumeResponse>, Status> {
        let request = request.into_inner();
        let published = self.publish_here(&request);
        answer(
            "NodePublishVolume",
            &request.volume_id,
            published.map(|()| NodePublishVolumeResponse {}),
        )
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<NodeUnpublishVolumeRequest>,
    ) -> Result<Response<NodeUnpublishVolumeResponse>, Status> {
        let NodeUnpublishVolumeRequest {
            volume_id: id,
            target_path: path,
        } = request.into_inner();
        let done = given("volume_id", &id)
            .and_then(|()| given("target_path", &path))
            .and_then(|()| self.unpublish_here(&id, &path));
        answer(
            "NodeUnpublishVolume",
            &id,
            done.map(|()| NodeUnpublishVolumeResponse {}),
        )
    }

    async fn node_get_volume_stats(
        &self,
        request: Request<NodeGetVolumeStatsRequest>,
    ) -> Result<Response<NodeGetVolumeStatsResponse>, Status> {
        let NodeGetVolumeStatsRequest {
            volume_id: id,
            volume_path: path,
            ..
        } = request.into_inner();
        let usage = self.size_at(&id, &path).map(|total| VolumeUsage {
            available: total,
            total,
            used: 0,
            unit: Unit::Bytes.into(),
        });
        let response = usage.map(|usage| NodeGetVolumeStatsResponse { usage: vec![usage] });
        answer("NodeGetVolumeStats", &id, response)
    }

    async fn node_expand_volume(
        &self,
        request: Request<NodeExpandVolumeRequest>,
    ) -> Result<Response<NodeExpandVolumeResponse>, Status> {
        let NodeExpandVolumeRequest {
            volume_id: id,
            volume_path: path,
            ..
        } = request.into_inner();
        // The controller made it larger, and there is no file system.
        let response = self
            .size_at(&id, &path)
            .map(|capacity_bytes| NodeExpandVolumeResponse { capacity_bytes });
        answer("NodeExpandVolume", &id, response)
    }
}

impl Driver {
    fn publish_here(&self, request: &NodePublishVolumeRequest) -> Result<(), Status> {
        let NodePublishVolumeRequest {
            volume_id: id,
            target_path: path,
            ..
        } = request;
        given("volume_id", id)?;
        given("target_path", path)?;
        some("volume_capability", &request.volume_capability)?;
        self.volumes.lock().get(id)?;
        let mut paths = self.paths.lock();
        let staged = (id.clone(), request.staging_target_path.clone());
        if !paths.staged.contains(&staged) {
            let text = format!("{id} is not staged at {:?}", staged.1);
            return Err(Status::failed_precondition(text));
        }
        let capability = request.volume_capability.as_ref();
        let made = match capability.and_then(|it| it.access_type.as_ref()) {
            Some(AccessType::Block(_)) => fs::write(path, ""),
            _ => fs::create_dir(path).or_else(|error| unless(error, ErrorKind::AlreadyExists)),
        };
        made.map_err(|error| Status::internal(format!("{path}: {error}")))?;
        paths.published.insert((id.clone(), path.clone()));
        Ok(())
    }

    /// Removes only what we made.
    fn unpublish_here(&self, id: &str, path: &str) -> Result<(), Status> {
        let mut paths = self.paths.lock();
        let published = (id.to_owned(), path.to_owned());
        if !paths.published.contains(&published) {
            return Ok(());
        }
        fs::remove_dir(path)
            .or_else(|error| match error.kind() {
                ErrorKind::NotADirectory => fs::remove_file(path),
                _ => unless(error, ErrorKind::NotFound),
            })
            .map_err(|error| Status::internal(format!("{path}: {error}")))?;
        paths.published.remove(&published);
        Ok(())
    }

    /// Bytes of a volume that is published at this path.
    fn size_at(&self, id: &str, path: &str) -> Result<i64, Status> {
        given("volume_id", id)?;
        given("volume_path", path)?;
        let size = self.volumes.lock().get(id)?.volume.capacity_bytes;
        let published = (id.to_owned(), path.to_owned());
        match self.paths.lock().published.contains(&published) {
            true => Ok(size),
            false => Err(Status::not_found(format!("{id} is not at {path}"))),
        }
    }
}

/// An error of this kind is none.
fn unless(error: io::Error, kind: ErrorKind) -> io::Result<()> {
    if error.kind() == kind { Ok(()) } else { Err(error) }
}
