//! The calls about volumes as such, wherever they are used.

use sandbox::driver::proto::{
    ControllerExpandVolumeRequest, ControllerExpandVolumeResponse, ControllerGetCapabilitiesRequest,
    ControllerGetCapabilitiesResponse, ControllerGetVolumeRequest, ControllerGetVolumeResponse,
    ControllerModifyVolumeRequest, ControllerModifyVolumeResponse, ControllerPublishVolumeRequest,
    ControllerPublishVolumeResponse, ControllerServiceCapability, ControllerUnpublishVolumeRequest,
    ControllerUnpublishVolumeResponse, CreateSnapshotRequest, CreateSnapshotResponse, CreateVolumeRequest,
    CreateVolumeResponse, DeleteSnapshotRequest, DeleteSnapshotResponse, DeleteVolumeRequest,
    DeleteVolumeResponse, GetCapacityRequest, GetCapacityResponse, ListSnapshotsRequest,
    ListSnapshotsResponse, ListVolumesRequest, ListVolumesResponse, ValidateVolumeCapabilitiesRequest,
    ValidateVolumeCapabilitiesResponse, controller_get_volume_response, controller_server::Controller,
    controller_service_capability, list_volumes_response, validate_volume_capabilities_response::Confirmed,
};
use tonic::{Request, Response, Status};

use crate::{
    Driver, answer, given, some,
    volumes::{Stored, page},
};

use controller_service_capability::{Rpc, Type, rpc::Type as Capability};

const CAPABILITIES: [Capability; 11] = [
    Capability::CreateDeleteVolume,
    Capability::PublishUnpublishVolume,
    Capability::ListVolumes,
    Capability::GetCapacity,
    Capability::CreateDeleteSnapshot,
    Capability::ListSnapshots,
    Capability::CloneVolume,
    Capability::PublishReadonly,
    Capability::ExpandVolume,
    Capability::GetVolume,
    Capability::ModifyVolume,
];

#[tonic::async_trait]
impl Controller for Driver {
    async fn controller_get_capabilities(
        &self,
        _: Request<ControllerGetCapabilitiesRequest>,
    ) -> Result<Response<ControllerGetCapabilitiesResponse>, Status> {
        let capability = |it: Capability| ControllerServiceCapability {
            r#type: Some(Type::Rpc(Rpc { r#type: it.into() })),
        };
        let capabilities = CAPABILITIES.map(capability).to_vec();
        answer(
            "ControllerGetCapabilities",
            "",
            Ok(ControllerGetCapabilitiesResponse { capabilities }),
        )
    }

    async fn create_volume(
        &self,
        request: Request<CreateVolumeRequest>,
    ) -> Result<Response<CreateVolumeResponse>, Status> {
        let request = request.into_inner();
        let made = self.volumes.lock().create(&request).map(Some);
        answer(
            "CreateVolume",
            &request.name,
            made.map(|volume| CreateVolumeResponse { volume }),
        )
    }

    async fn delete_volume(
        &self,
        request: Request<DeleteVolumeRequest>,
    ) -> Result<Response<DeleteVolumeResponse>, Status> {
        let id = request.into_inner().volume_id;
        let deleted = self.volumes.lock().delete(&id);
        answer("DeleteVolume", &id, deleted.map(|()| DeleteVolumeResponse {}))
    }

    async fn validate_volume_capabilities(
        &self,
        request: Request<ValidateVolumeCapabilitiesRequest>,
    ) -> Result<Response<ValidateVolumeCapabilitiesResponse>, Status> {
        let request = request.into_inner();
        let id = request.volume_id.clone();
        let valid = self
            .volumes
            .lock()
            .get(&id)
            .and_then(|_| some("volume_capabilities", &request.volume_capabilities));
        let response = valid.map(|()| ValidateVolumeCapabilitiesResponse {
            confirmed: Some(Confirmed {
                volume_context: request.volume_context,
                volume_capabilities: request.volume_capabilities,
                parameters: request.parameters,
                mutable_parameters: request.mutable_parameters,
            }),
            message: String::new(),
        });
        answer("ValidateVolumeCapabilities", &id, response)
    }

    async fn list_volumes(
        &self,
        request: Request<ListVolumesRequest>,
    ) -> Result<Response<ListVolumesResponse>, Status> {
        let request = request.into_inner();
        let volumes = self.volumes.lock();
        let entries = volumes.all.iter().map(|(id, stored)| {
            let entry = list_volumes_response::Entry {
                volume: Some(stored.volume.clone()),
                status: None,
            };
            (id, entry)
        });
        let page = page(entries, &request.starting_token, request.max_entries);
        let response = page.map(|(entries, next_token)| ListVolumesResponse { entries, next_token });
        answer("ListVolumes", &request.starting_token, response)
    }

    async fn controller_get_volume(
        &self,
        request: Request<ControllerGetVolumeRequest>,
    ) -> Result<Response<ControllerGetVolumeResponse>, Status> {
        let id = request.into_inner().volume_id;
        let found = self.volumes.lock().get(&id).map(|stored| {
            let published_node_ids = stored.nodes.keys().cloned().collect();
            ControllerGetVolumeResponse {
                volume: Some(stored.volume.clone()),
                status: Some(controller_get_volume_response::VolumeStatus { published_node_ids }),
            }
        });
        answer("ControllerGetVolume", &id, found)
    }

    async fn get_capacity(
        &self,
        request: Request<GetCapacityRequest>,
    ) -> Result<Response<GetCapacityResponse>, Status> {
        let term = request.into_inner().accessible_topology.unwrap_or_default();
        let response = GetCapacityResponse {
            available_capacity: self.volumes.lock().capacity(&term),
            ..Default::default()
        };
        answer("GetCapacity", &format!("{:?}", term.segments), Ok(response))
    }

    async fn controller_publish_volume(
        &self,
        request: Request<ControllerPublishVolumeRequest>,
    ) -> Result<Response<ControllerPublishVolumeResponse>, Status> {
        let request = request.into_inner();
        let published = self.publish(&request);
        answer("ControllerPublishVolume", &request.volume_id, published)
    }

    async fn controller_unpublish_volume(
        &self,
        request: Request<ControllerUnpublishVolumeRequest>,
    ) -> Result<Response<ControllerUnpublishVolumeResponse>, Status> {
        let ControllerUnpublishVolumeRequest {
            volume_id, node_id, ..
        } = request.into_inner();
        let done = given("volume_id", &volume_id);
        // A volume that does not exist is published nowhere.
        if let Ok(stored) = self.volumes.lock().get(&volume_id) {
            stored
                .nodes
                .retain(|node, _| !node_id.is_empty() && *node != node_id);
        }
        answer(
            "ControllerUnpublishVolume",
            &volume_id,
            done.map(|()| ControllerUnpublishVolumeResponse {}),
        )
    }

    async fn controller_expand_volume(
        &self,
        request: Request<ControllerExpandVolumeRequest>,
    ) -> Result<Response<ControllerExpandVolumeResponse>, Status> {
        let request = request.into_inner();
        let expanded = self
            .volumes
            .lock()
            .expand(&request.volume_id, request.capacity_range.as_ref());
        let response = expanded.map(|capacity_bytes| ControllerExpandVolumeResponse {
            capacity_bytes,
            node_expansion_required: true,
        });
        answer("ControllerExpandVolume", &request.volume_id, response)
    }

    async fn controller_modify_volume(
        &self,
        request: Request<ControllerModifyVolumeRequest>,
    ) -> Result<Response<ControllerModifyVolumeResponse>, Status> {
        let request = request.into_inner();
        let modified = self
            .volumes
            .lock()
            .modify(&request.volume_id, request.mutable_parameters);
        answer(
            "ControllerModifyVolume",
            &request.volume_id,
            modified.map(|()| ControllerModifyVolumeResponse {}),
        )
    }

    async fn create_snapshot(
        &self,
        request: Request<CreateSnapshotRequest>,
    ) -> Result<Response<CreateSnapshotResponse>, Status> {
        let request = request.into_inner();
        let made = self.volumes.lock().snapshot(&request).map(Some);
        answer(
            "CreateSnapshot",
            &request.name,
            made.map(|snapshot| CreateSnapshotResponse { snapshot }),
        )
    }

    async fn delete_snapshot(
        &self,
        request: Request<DeleteSnapshotRequest>,
    ) -> Result<Response<DeleteSnapshotResponse>, Status> {
        let id = request.into_inner().snapshot_id;
        let deleted = self.volumes.lock().snapshots.delete(&id);
        answer("DeleteSnapshot", &id, deleted.map(|()| DeleteSnapshotResponse {}))
    }

    async fn list_snapshots(
        &self,
        request: Request<ListSnapshotsRequest>,
    ) -> Result<Response<ListSnapshotsResponse>, Status> {
        let request = request.into_inner();
        let list = self.volumes.lock().snapshots.list(&request);
        answer("ListSnapshots", &request.starting_token, list)
    }
}

impl Driver {
    fn publish(
        &self,
        request: &ControllerPublishVolumeRequest,
    ) -> Result<ControllerPublishVolumeResponse, Status> {
        let ControllerPublishVolumeRequest {
            volume_id, node_id, ..
        } = request;
        given("volume_id", volume_id)?;
        given("node_id", node_id)?;
        some("volume_capability", &request.volume_capability)?;
        let mut volumes = self.volumes.lock();
        let Stored { nodes, .. } = volumes.get(volume_id)?;
        if *node_id != self.node {
            return Err(Status::not_found(format!("there is no node {node_id}")));
        }
        if *nodes.entry(node_id.clone()).or_insert(request.readonly) != request.readonly {
            let text = format!("{volume_id} is published to {node_id}, otherwise");
            return Err(Status::already_exists(text));
        }
        Ok(ControllerPublishVolumeResponse::default())
    }
}
