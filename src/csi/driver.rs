//! The driver as the rest of the house holds it: typed calls, each through the one door.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures::FutureExt as _;
use tokio::sync::{Notify, watch};

use super::{
    connect::Dialer,
    driver_info::{DriverInfo, UnsupportedDriver, check_name},
    driver_state::{DriverState, NotReadyReason},
    proto::{
        ControllerGetCapabilitiesRequest, CreateVolumeRequest, CreateVolumeResponse, DeleteVolumeRequest,
        DeleteVolumeResponse, GetPluginCapabilitiesRequest, GetPluginInfoRequest, GetPluginInfoResponse,
        ProbeRequest, ProbeResponse,
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

/// A driver. Clones are cheap and share one connection, which comes back by itself after a loss.
#[derive(Clone)]
pub struct Driver {
    pub(super) rpc: RpcClient,
    pub(super) driver_state: Arc<watch::Sender<DriverState>>,
}

/// Why the driver's introduction was not understood or not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentifyError {
    /// One of the three calls failed.
    #[error("asking the CSI driver who it is ({method}) failed: {0}", method = .0.method)]
    RpcError(#[from] RpcError),
    /// It answered, and no sidecar can serve it.
    #[error(transparent)]
    UnsupportedDriver(#[from] UnsupportedDriver),
    /// Another driver has taken the socket. It is shown and gets no calls.
    #[error(
        "the socket now belongs to the CSI driver {found:?}, this sidecar serves {expected:?}: check what mounts \
         the directory, or restart the sidecar to serve the new one"
    )]
    Stranger {
        /// The first name heard on this socket.
        expected: String,
        /// The name now.
        found: String,
    },
}

impl Driver {
    /// Connects to nothing yet. `timeout` is the deadline of each call; `on_call` hears of every finished one.
    /// Must be called inside a tokio runtime.
    pub fn new(dialer: &Dialer, timeout: Duration, on_call: OnCall) -> Self {
        let stir = Arc::new(Notify::new());
        let rpc = RpcClient {
            channel: dialer.channel(stir.clone()),
            timeout,
            on_call,
            driver_name: Arc::new(OnceLock::new()),
            stir,
        };
        Self {
            rpc,
            driver_state: Arc::new(watch::Sender::new(DriverState::never())),
        }
    }

    /// The same driver with another deadline, for calls that share what is left of one.
    pub fn within(&self, timeout: Duration) -> Self {
        let mut driver = self.clone();
        driver.rpc.timeout = timeout;
        driver
    }

    /// Whether the driver can be used right now, and how that changes.
    pub fn driver_state(&self) -> watch::Receiver<DriverState> {
        self.driver_state.subscribe()
    }

    /// Whether the driver says that it is ready. CSI: no word about it means yes.
    pub async fn probe(&self) -> Result<bool, RpcError> {
        let answer: ProbeResponse = self.rpc.call(PROBE, ProbeRequest {}).await?;
        Ok(answer.ready.unwrap_or(true))
    }

    /// Asks for name and capabilities, in upstream's order; then [`Driver::driver_state`] says `Ready`, unless the name
    /// is refused. The first name heard stays: calls are counted under it, and a driver with
    /// another one is refused from then on.
    pub async fn identify(&self) -> Result<DriverInfo, IdentifyError> {
        // What has stirred so far is answered by this; a connection made from here on has to be asked again.
        let _ = self.rpc.stir.notified().now_or_never();
        let info: GetPluginInfoResponse = self.rpc.call(GET_PLUGIN_INFO, GetPluginInfoRequest {}).await?;
        check_name(&info.name)?;
        let expected = self.rpc.driver_name.get_or_init(|| info.name.as_str().into());
        if **expected != *info.name {
            return Err(IdentifyError::Stranger {
                expected: expected.to_string(),
                found: info.name,
            });
        }
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
        let driver_info = DriverInfo::read(info, &plugin, &controller);
        self.found(&driver_info);
        Ok(driver_info)
    }

    /// CreateVolume. An answer may lack anything; judging it is the caller's.
    pub async fn create_volume(
        &self,
        request: CreateVolumeRequest,
    ) -> Result<CreateVolumeResponse, RpcError> {
        self.trusted(CREATE_VOLUME)?;
        self.rpc.call(CREATE_VOLUME, request).await
    }

    /// DeleteVolume.
    pub async fn delete_volume(
        &self,
        request: DeleteVolumeRequest,
    ) -> Result<DeleteVolumeResponse, RpcError> {
        self.trusted(DELETE_VOLUME)?;
        self.rpc.call(DELETE_VOLUME, request).await
    }

    /// A stranger on our socket must get no volume and no secret of ours.
    fn trusted(&self, method: &'static str) -> Result<(), RpcError> {
        match &*self.driver_state.borrow() {
            DriverState::Lost {
                why: why @ NotReadyReason::UnsupportedDriver(IdentifyError::Stranger { .. }),
                ..
            } => Err(RpcError {
                method,
                code: Code::Unavailable,
                message: why.to_string(),
            }),
            _ => Ok(()),
        }
    }
}
