//! The calls. Work goes on when the caller has gone, as it does in a real driver; a second call meanwhile gets ABORTED.

use std::collections::BTreeMap;

use tonic::{Code, Request, Response, Status, metadata::MetadataMap};

use crate::{Gust, Step};

use super::{
    Call, Driver, State, Trouble,
    proto::{
        self, ControllerGetCapabilitiesRequest, ControllerGetCapabilitiesResponse, CreateVolumeRequest,
        CreateVolumeResponse, DeleteVolumeRequest, DeleteVolumeResponse, GetCapacityRequest,
        GetCapacityResponse, GetPluginCapabilitiesRequest, GetPluginCapabilitiesResponse,
        GetPluginInfoRequest, GetPluginInfoResponse, NodeGetCapabilitiesRequest, NodeGetCapabilitiesResponse,
        NodeGetInfoRequest, NodeGetInfoResponse, ProbeRequest, ProbeResponse, controller_server::Controller,
        controller_service_capability, identity_server::Identity, node_server::Node, plugin_capability,
    },
    volumes,
};

/// The calls that have numbers on a [`Line`](crate::Line).
const NUMBERED: [&str; 3] = ["CreateVolume", "DeleteVolume", "GetCapacity"];

impl Driver {
    /// The frame around every call: log, trouble, rules.
    async fn call<T: Send + 'static>(
        &self,
        method: &'static str,
        target: &str,
        secrets: BTreeMap<String, String>,
        gust: Option<Gust>,
        work: impl FnOnce(&mut State, Option<&Trouble>) -> Result<T, Status> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let (entry, alone, pending, trouble) = {
            let mut state = self.state.lock();
            let at = self.began.elapsed();
            state.log.push(Call {
                method,
                target: target.to_owned(),
                secrets,
                code: None,
                at,
            });
            let entry = state.log.len() - 1;
            let (now, most) = state.at_once.entry(method).or_default();
            *now += 1;
            *most = (*most).max(*now);
            // Two questions at once about one segment are no breach.
            let volume = if method == "GetCapacity" { "" } else { target };
            let alone = volume.is_empty() || state.awaited.insert(volume.to_owned());
            if !alone {
                let text = format!("{method} of {target} while another call for it is awaited");
                state.breaches.push(text);
            }
            let pending = state.is_busy(volume);
            let trouble = if pending {
                None
            } else {
                gust.map(blown).or_else(|| state.trouble(method, target))
            };
            let idle = matches!(
                trouble,
                Some(Trouble::Refuse(..) | Trouble::OddDetails(..) | Trouble::Hang)
            );
            if !volume.is_empty() && !pending && !idle {
                state.busy.insert(volume.to_owned());
            }
            (entry, alone && !volume.is_empty(), pending, trouble)
        };
        // Not inside the block above: its end takes the lock again.
        let _awaited = Awaited {
            driver: self.clone(),
            method,
            target: alone.then(|| target.to_owned()),
        };
        let result = match trouble {
            _ if pending => Err(Status::aborted(format!("an operation for {target} is pending"))),
            Some(Trouble::Refuse(code, text)) => Err(Status::new(code, text)),
            Some(Trouble::OddDetails(code, text)) => Err(odd_details(code, text)),
            Some(Trouble::Hang) => std::future::pending().await,
            trouble => self.work(method, target, trouble, work).await,
        };
        let code = result.as_ref().err().map_or(Code::Ok, Status::code);
        self.state.lock().log[entry].code = Some(code);
        result.map(Response::new)
    }

    /// Carries a call out in a task of its own, then answers or not.
    async fn work<T: Send + 'static>(
        &self,
        method: &'static str,
        target: &str,
        trouble: Option<Trouble>,
        work: impl FnOnce(&mut State, Option<&Trouble>) -> Result<T, Status> + Send + 'static,
    ) -> Result<T, Status> {
        let (driver, volume, known) = (self.clone(), target.to_owned(), trouble.clone());
        let working = tokio::spawn(async move {
            if let Some(Trouble::Delay(time)) = known {
                tokio::time::sleep(time).await;
            }
            let mut state = driver.state.lock();
            let worked = work(&mut state, known.as_ref());
            state.busy.remove(&volume);
            worked
        });
        let numbered = NUMBERED.contains(&method);
        if matches!(trouble, Some(Trouble::Delay(_))) {
            self.line
                .came(numbered, "call", method, target, Step::Begun)
                .await;
        }
        let worked = working
            .await
            .map_err(|panic| Status::internal(panic.to_string()))?;
        self.line.came(numbered, "call", method, target, Step::Done).await;
        match trouble {
            Some(Trouble::LoseReply) => std::future::pending().await,
            Some(Trouble::RefuseAfter(code, text)) => Err(Status::new(code, text)),
            _ => worked,
        }
    }
}

/// What a gust is to the driver.
fn blown(gust: Gust) -> Trouble {
    const REFUSALS: [Code; 5] = [
        Code::Unavailable,
        Code::Aborted,
        Code::Internal,
        Code::DeadlineExceeded,
        Code::Cancelled,
    ];
    match gust {
        Gust::Lost => Trouble::Hang,
        Gust::Delayed(time) => Trouble::Delay(time),
        Gust::Refused(which) => Trouble::Refuse(REFUSALS[which % REFUSALS.len()], "gusty"),
        Gust::ReplyLost => Trouble::LoseReply,
    }
}

fn odd_details(code: Code, text: &str) -> Status {
    let mut headers = http::HeaderMap::new();
    headers.insert(
        "grpc-status-details-bin",
        http::HeaderValue::from_static("no base64!"),
    );
    Status::with_metadata(code, text, MetadataMap::from_headers(headers))
}

/// Dropped when the caller has its answer or has given up.
struct Awaited {
    driver: Driver,
    method: &'static str,
    /// `None` when another call for the same volume was awaited before this one.
    target: Option<String>,
}

impl Drop for Awaited {
    fn drop(&mut self) {
        let mut state = self.driver.state.lock();
        if let Some((now, _)) = state.at_once.get_mut(self.method) {
            *now -= 1;
        }
        if let Some(target) = &self.target {
            state.awaited.remove(target);
        }
    }
}

#[tonic::async_trait]
impl Controller for Driver {
    async fn create_volume(
        &self,
        request: Request<CreateVolumeRequest>,
    ) -> Result<Response<CreateVolumeResponse>, Status> {
        let mut request = request.into_inner();
        let secrets = std::mem::take(&mut request.secrets);
        let name = request.name.clone();
        let gust = self.line.sent(true, "call", "CreateVolume", &name).await;
        self.state.lock().creations.push(request.clone());
        let made = self.call("CreateVolume", &name, secrets, gust, move |state, trouble| {
            volumes::create(state, request, trouble)
        });
        let made = made.await;
        // Only where the caller hears of it: now it may ask for another place.
        if matches!(&made, Err(status) if status.code() == Code::ResourceExhausted) {
            self.state.lock().forget(&name);
        }
        made
    }

    async fn delete_volume(
        &self,
        request: Request<DeleteVolumeRequest>,
    ) -> Result<Response<DeleteVolumeResponse>, Status> {
        let DeleteVolumeRequest {
            volume_id: id,
            secrets,
        } = request.into_inner();
        if id.is_empty() {
            return Err(Status::invalid_argument("volume_id is empty"));
        }
        let target = id.clone();
        let gust = self.line.sent(true, "call", "DeleteVolume", &id).await;
        let stops = self.state.lock().stops;
        let done = self.call("DeleteVolume", &target, secrets, gust, move |state, _| {
            if let Some(volume) = state.volumes.remove(&id) {
                state.asked.remove(&volume.name);
                volumes::release(state, &volume);
            } else if state.deleted.get(&id).is_some_and(|(_, heard)| !heard.is_cut()) {
                state
                    .breaches
                    .push(format!("DeleteVolume of {id}, which was deleted before"));
            }
            Ok(DeleteVolumeResponse {})
        });
        let done = done.await;
        // Not where the work is done: that goes on when nobody is left to hear of it.
        let mut state = self.state.lock();
        let made_anew = state.volumes.contains_key(&target);
        if done.is_ok() && state.stops == stops && !made_anew {
            let heard = (self.began.elapsed(), self.line.clone());
            state.deleted.insert(target, heard);
        }
        done
    }

    async fn controller_get_capabilities(
        &self,
        _: Request<ControllerGetCapabilitiesRequest>,
    ) -> Result<Response<ControllerGetCapabilitiesResponse>, Status> {
        use controller_service_capability::{Rpc, Type};
        self.call(
            "ControllerGetCapabilities",
            "",
            BTreeMap::new(),
            None,
            |state, _| {
                let one = |capability: &super::Capability| proto::ControllerServiceCapability {
                    r#type: Some(Type::Rpc(Rpc {
                        r#type: (*capability).into(),
                    })),
                };
                let capabilities = state.identity.capabilities.iter().map(one).collect();
                Ok(ControllerGetCapabilitiesResponse { capabilities })
            },
        )
        .await
    }

    async fn get_capacity(
        &self,
        request: Request<GetCapacityRequest>,
    ) -> Result<Response<GetCapacityResponse>, Status> {
        let request = request.into_inner();
        let target = volumes::spelled(request.accessible_topology.as_ref());
        let gust = self.line.sent(true, "call", "GetCapacity", &target).await;
        self.state.lock().capacity_requests.push(request.clone());
        self.call(
            "GetCapacity",
            &target,
            BTreeMap::new(),
            gust,
            move |state, trouble| volumes::capacity(state, &request, trouble),
        )
        .await
    }
}

#[tonic::async_trait]
impl Identity for Driver {
    async fn get_plugin_info(
        &self,
        _: Request<GetPluginInfoRequest>,
    ) -> Result<Response<GetPluginInfoResponse>, Status> {
        self.call("GetPluginInfo", "", BTreeMap::new(), None, |state, _| {
            let name = state.identity.name.clone();
            Ok(GetPluginInfoResponse {
                name,
                vendor_version: "1.0.0".into(),
                ..Default::default()
            })
        })
        .await
    }

    async fn get_plugin_capabilities(
        &self,
        _: Request<GetPluginCapabilitiesRequest>,
    ) -> Result<Response<GetPluginCapabilitiesResponse>, Status> {
        use plugin_capability::{Service, Type, service};
        self.call("GetPluginCapabilities", "", BTreeMap::new(), None, |state, _| {
            let identity = &state.identity;
            let capabilities = [
                (identity.controller, service::Type::ControllerService),
                (identity.topology, service::Type::VolumeAccessibilityConstraints),
            ];
            let capabilities = capabilities
                .into_iter()
                .filter(|(has, _)| *has)
                .map(|(_, capability)| {
                    let service = Service {
                        r#type: capability.into(),
                    };
                    proto::PluginCapability {
                        r#type: Some(Type::Service(service)),
                    }
                });
            Ok(GetPluginCapabilitiesResponse {
                capabilities: capabilities.collect(),
            })
        })
        .await
    }

    async fn probe(&self, _: Request<ProbeRequest>) -> Result<Response<ProbeResponse>, Status> {
        self.call("Probe", "", BTreeMap::new(), None, |state, _| {
            Ok(ProbeResponse {
                ready: state.identity.ready,
            })
        })
        .await
    }
}

#[tonic::async_trait]
impl Node for Driver {
    async fn node_get_capabilities(
        &self,
        _: Request<NodeGetCapabilitiesRequest>,
    ) -> Result<Response<NodeGetCapabilitiesResponse>, Status> {
        let answer = |_: &mut State, _: Option<&Trouble>| Ok(NodeGetCapabilitiesResponse::default());
        self.call("NodeGetCapabilities", "", BTreeMap::new(), None, answer)
            .await
    }

    async fn node_get_info(
        &self,
        _: Request<NodeGetInfoRequest>,
    ) -> Result<Response<NodeGetInfoResponse>, Status> {
        self.call("NodeGetInfo", "", BTreeMap::new(), None, |state, _| {
            let topology = state.identity.node_topology.clone();
            Ok(NodeGetInfoResponse {
                node_id: state.identity.node_id.clone(),
                accessible_topology: topology.map(|segments| proto::Topology { segments }),
                max_volumes_per_node: state.identity.max_volumes_per_node,
            })
        })
        .await
    }
}
