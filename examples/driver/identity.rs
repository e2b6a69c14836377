//! Who the driver is.

use sandbox::driver::proto::{
    GetPluginCapabilitiesRequest, GetPluginCapabilitiesResponse, GetPluginInfoRequest, GetPluginInfoResponse,
    PluginCapability, ProbeRequest, ProbeResponse, identity_server::Identity, plugin_capability,
};
use tonic::{Request, Response, Status};

use crate::{Driver, answer};

#[tonic::async_trait]
impl Identity for Driver {
    async fn get_plugin_info(
        &self,
        _: Request<GetPluginInfoRequest>,
    ) -> Result<Response<GetPluginInfoResponse>, Status> {
        let info = GetPluginInfoResponse {
            name: self.name.clone(),
            vendor_version: env!("CARGO_PKG_VERSION").into(),
            ..Default::default()
        };
        answer("GetPluginInfo", "", Ok(info))
    }

    async fn get_plugin_capabilities(
        &self,
        _: Request<GetPluginCapabilitiesRequest>,
    ) -> Result<Response<GetPluginCapabilitiesResponse>, Status> {
        use plugin_capability::{Service, Type, VolumeExpansion, service, volume_expansion};
        let service = |service: service::Type| {
            Type::Service(Service {
                r#type: service.into(),
            })
        };
        let mut types = vec![
            service(service::Type::ControllerService),
            Type::VolumeExpansion(VolumeExpansion {
                r#type: volume_expansion::Type::Online.into(),
            }),
        ];
        if self.volumes.lock().own_segment().is_some() {
            types.push(service(service::Type::VolumeAccessibilityConstraints));
        }
        let capability = |it| PluginCapability { r#type: Some(it) };
        let capabilities = types.into_iter().map(capability).collect();
        answer(
            "GetPluginCapabilities",
            "",
            Ok(GetPluginCapabilitiesResponse { capabilities }),
        )
    }

    /// Not said: it is the sidecar's way to see whether we still live.
    async fn probe(&self, _: Request<ProbeRequest>) -> Result<Response<ProbeResponse>, Status> {
        Ok(Response::new(ProbeResponse { ready: Some(true) }))
    }
}
