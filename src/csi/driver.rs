//! The driver as other modules use it: typed calls, all made in [`super::rpc`].

use std::{
    fmt,
    sync::{Arc, OnceLock, atomic::AtomicU64},
    time::Duration,
};

use futures::FutureExt as _;
use tokio::sync::{Notify, watch};

use super::{
    connect::Dialer,
    driver_info::{DriverInfo, NodeInfo, UnsupportedDriver},
    driver_state::{DriverState, NotReadyReason},
    fence::{MayCall, NotSent},
    proto::{
        ControllerGetCapabilitiesRequest, CreateVolumeRequest, CreateVolumeResponse, DeleteVolumeRequest,
        DeleteVolumeResponse, GetCapacityRequest, GetCapacityResponse, GetPluginCapabilitiesRequest,
        GetPluginInfoRequest, GetPluginInfoResponse, NodeGetInfoRequest, NodeGetInfoResponse, ProbeRequest,
        ProbeResponse,
    },
    rpc::{OnCall, RpcClient},
    rpc_error::{Code, RpcError},
};

const PROBE: &str = "/csi.v1.Identity/Probe";
const GET_PLUGIN_INFO: &str = "/csi.v1.Identity/GetPluginInfo";
const GET_PLUGIN_CAPABILITIES: &str = "/csi.v1.Identity/GetPluginCapabilities";
const CONTROLLER_GET_CAPABILITIES: &str = "/csi.v1.Controller/ControllerGetCapabilities";
const CREATE_VOLUME: &str = "/csi.v1.Controller/CreateVolume";
const DELETE_VOLUME: &str = "/csi.v1.Controller/DeleteVolume";
const GET_CAPACITY: &str = "/csi.v1.Controller/GetCapacity";
const NODE_GET_INFO: &str = "/csi.v1.Node/NodeGetInfo";

/// A driver. Clones are cheap and share one connection, which comes back by itself after a loss.
#[derive(Clone)]
pub struct Driver {
    pub(super) rpc: RpcClient,
    pub(super) driver_state: Arc<watch::Sender<DriverState>>,
    /// How many connections have been made.
    pub(super) connections: Arc<AtomicU64>,
    /// How often it has come back; see [`Driver::returns`].
    pub(super) returns: Arc<watch::Sender<u64>>,
    dialer: Dialer,
    needs: Needs,
}

/// What a sidecar has to know of its driver besides the name, which GetPluginInfo tells all of them. Nothing else is
/// asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// What it can do: GetPluginCapabilities and ControllerGetCapabilities.
    pub capabilities: bool,
    /// Where its node is: NodeGetInfo, for a sidecar that serves this one node.
    pub node: bool,
}

/// Why the driver could not be identified, or was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentifyError {
    /// One of the calls failed.
    #[error("asking the CSI driver who it is ({method}) failed: {0}", method = .0.method)]
    RpcError(#[from] RpcError),
    /// It answered, and this sidecar cannot serve it.
    #[error(transparent)]
    UnsupportedDriver(#[from] UnsupportedDriver),
    /// Another driver has taken the socket. It is reported and gets no calls.
    #[error(
        "the socket now belongs to the CSI driver {found:?}, this sidecar serves {expected:?}: check what mounts \
         the directory, or restart the sidecar to serve the new one"
    )]
    OtherDriver {
        /// The first name given on this socket.
        expected: String,
        /// The name now.
        found: String,
    },
}

impl Driver {
    /// Connects to nothing yet. `timeout` is the deadline of each call; `on_call` is told of every finished one.
    /// Must be called inside a tokio runtime.
    pub fn new(dialer: &Dialer, timeout: Duration, needs: Needs, on_call: OnCall) -> Self {
        let (recheck, connections) = (Arc::new(Notify::new()), Arc::new(AtomicU64::new(0)));
        let rpc = RpcClient {
            channel: dialer.channel(recheck.clone(), connections.clone()),
            timeout,
            migrated: false,
            on_call,
            driver_name: Arc::new(OnceLock::new()),
            recheck,
            answers: Arc::default(),
            may_call: None,
        };
        Self {
            rpc,
            driver_state: Arc::new(watch::Sender::new(DriverState::not_checked())),
            connections,
            returns: Arc::new(watch::Sender::new(0)),
            dialer: dialer.clone(),
            needs,
        }
    }

    /// The same driver over a connection of its own, which is made when the first call needs it: whether one can be made
    /// is part of what that call tells.
    pub fn reconnected(&self) -> Self {
        let mut driver = self.clone();
        let (recheck, connections) = (self.rpc.recheck.clone(), self.connections.clone());
        driver.rpc.channel = self.dialer.channel(recheck, connections);
        driver
    }

    /// The same driver, which gets no CreateVolume, DeleteVolume or GetCapacity while `may_call` says no. That is asked
    /// as late as possible: on a connection that stands, right before the request goes out.
    pub fn fenced(mut self, may_call: MayCall) -> Self {
        self.rpc.may_call = Some(may_call);
        self
    }

    /// Changes whenever the driver has been identified again after it was away, or over a new connection: between two
    /// checks it may have been restarted without being missed.
    pub fn returns(&self) -> watch::Receiver<u64> {
        self.returns.subscribe()
    }

    /// The same driver with another deadline, for calls that share what is left of one.
    pub fn within(&self, timeout: Duration) -> Self {
        let mut driver = self.clone();
        driver.rpc.timeout = timeout;
        driver
    }

    /// The same driver, whose calls are counted as made for what an in-tree plugin left behind, or as not.
    pub fn migrated(&self, migrated: bool) -> Self {
        let mut driver = self.clone();
        driver.rpc.migrated = migrated;
        driver
    }

    /// Whether the driver can be used right now, and how that changes.
    pub fn driver_state(&self) -> watch::Receiver<DriverState> {
        self.driver_state.subscribe()
    }

    /// Whether the driver says that it is ready. CSI: an answer without `ready` means yes.
    ///
    /// # Errors
    /// [`RpcError`] when the call fails.
    pub async fn probe(&self) -> Result<bool, RpcError> {
        let answer: ProbeResponse = self.rpc.call(PROBE, ProbeRequest {}).await?;
        Ok(answer.ready.unwrap_or(true))
    }

    /// Asks for the name and what else the sidecar needs, in upstream's order; then [`Driver::driver_state`] says
    /// `Ready`. The first name stays: calls are counted under it, and a driver with another one is refused from then on.
    /// Whether the capabilities suffice is for the caller to decide.
    ///
    /// # Errors
    /// [`IdentifyError`] when a call fails or the driver is refused.
    pub async fn identify(&self) -> Result<DriverInfo, IdentifyError> {
        // This answers all notifications so far; a connection made from here on has to be asked again.
        let _ = self.rpc.recheck.notified().now_or_never();
        let info: GetPluginInfoResponse = self.rpc.call(GET_PLUGIN_INFO, GetPluginInfoRequest {}).await?;
        if info.name.is_empty() {
            return Err(UnsupportedDriver::NoName.into());
        }
        let expected = self.rpc.driver_name.get_or_init(|| info.name.as_str().into());
        if **expected != *info.name {
            return Err(IdentifyError::OtherDriver {
                expected: expected.to_string(),
                found: info.name,
            });
        }
        let mut driver_info = DriverInfo::new(info);
        if self.needs.capabilities {
            // Before the driver is asked for more: no volume of such a driver could be written down.
            driver_info.check_name()?;
            self.read_capabilities(&mut driver_info).await?;
        }
        if self.needs.node {
            driver_info.node = Some(self.node_info().await?);
        }
        self.set_ready(&driver_info);
        Ok(driver_info)
    }

    async fn read_capabilities(&self, driver_info: &mut DriverInfo) -> Result<(), RpcError> {
        let plugin = self
            .rpc
            .call(GET_PLUGIN_CAPABILITIES, GetPluginCapabilitiesRequest {})
            .await?;
        let controller = self
            .rpc
            .call(CONTROLLER_GET_CAPABILITIES, ControllerGetCapabilitiesRequest {})
            .await;
        let controller = match controller {
            // A driver without the Controller service does not know the call.
            Err(rpc_error) if rpc_error.code == Code::Unimplemented => Default::default(),
            answer => answer?,
        };
        driver_info.read_capabilities(&plugin, &controller);
        Ok(())
    }

    async fn node_info(&self) -> Result<NodeInfo, IdentifyError> {
        let answer = self.rpc.call(NODE_GET_INFO, NodeGetInfoRequest {}).await;
        let answer: NodeGetInfoResponse = answer.map_err(|error| match error.code {
            Code::Unimplemented => UnsupportedDriver::NoNodeService.into(),
            _ => IdentifyError::from(error),
        })?;
        let topology = answer.accessible_topology.unwrap_or_default();
        Ok(NodeInfo {
            segment: topology.segments.into(),
        })
    }

    /// CreateVolume. An answer may lack anything; checking it is the caller's task.
    ///
    /// # Errors
    /// [`NotSent`] when we may not call any more. Inside it, [`RpcError`] when the call fails, or another driver has
    /// taken the socket.
    pub async fn create_volume(
        &self,
        request: CreateVolumeRequest,
    ) -> Result<Result<CreateVolumeResponse, RpcError>, NotSent> {
        self.call_fenced(CREATE_VOLUME, request).await
    }

    /// DeleteVolume.
    ///
    /// # Errors
    /// [`NotSent`] when we may not call any more. Inside it, [`RpcError`] when the call fails, or another driver has
    /// taken the socket.
    pub async fn delete_volume(
        &self,
        request: DeleteVolumeRequest,
    ) -> Result<Result<DeleteVolumeResponse, RpcError>, NotSent> {
        self.call_fenced(DELETE_VOLUME, request).await
    }

    /// GetCapacity.
    ///
    /// # Errors
    /// [`NotSent`] when we may not call any more. Inside it, [`RpcError`] when the call fails, or another driver has
    /// taken the socket.
    pub async fn get_capacity(
        &self,
        request: GetCapacityRequest,
    ) -> Result<Result<GetCapacityResponse, RpcError>, NotSent> {
        self.call_fenced(GET_CAPACITY, request).await
    }

    async fn call_fenced<Q, A>(
        &self,
        method: &'static str,
        request: Q,
    ) -> Result<Result<A, RpcError>, NotSent>
    where
        Q: prost::Message + fmt::Debug + 'static,
        A: prost::Message + Default + fmt::Debug + 'static,
    {
        match self.refuse_other_driver(method) {
            Ok(()) => self.rpc.call_fenced(method, request).await,
            Err(error) => Ok(Err(error)),
        }
    }

    /// Another driver on our socket must get no volume and no secret of ours.
    fn refuse_other_driver(&self, method: &'static str) -> Result<(), RpcError> {
        match &*self.driver_state.borrow() {
            DriverState::Lost {
                reason: reason @ NotReadyReason::NotIdentified(_),
                ..
            } if reason.is_another_driver() => Err(RpcError {
                method,
                code: Code::Unavailable,
                message: reason.to_string(),
            }),
            _ => Ok(()),
        }
    }
}
