//! The driver as the rest of the house holds it: typed calls, each through the one door.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures::FutureExt as _;
use tokio::sync::{Notify, watch};

use super::{
    call::{Code, Door, Fault, OnCall},
    connect::Line,
    profile::{Profile, Unfit},
    proto::{
        ControllerGetCapabilitiesRequest, CreateVolumeRequest, CreateVolumeResponse, DeleteVolumeRequest,
        DeleteVolumeResponse, GetPluginCapabilitiesRequest, GetPluginInfoRequest, GetPluginInfoResponse,
        ProbeRequest, ProbeResponse,
    },
    reach::{Absence, Reach},
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
    pub(super) door: Door,
    pub(super) reach: Arc<watch::Sender<Reach>>,
}

/// Why the driver's introduction was not understood or not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IntroduceError {
    /// One of the three calls failed.
    #[error("asking the CSI driver who it is ({method}) failed: {0}", method = .0.method)]
    Fault(#[from] Fault),
    /// It answered, and it is no driver for a provisioner.
    #[error(transparent)]
    Unfit(#[from] Unfit),
}

impl Driver {
    /// Connects to nothing yet. `timeout` is the deadline of each call; `on_call` hears of every finished one.
    /// Must be called inside a tokio runtime.
    pub fn new(line: &Line, timeout: Duration, on_call: OnCall) -> Self {
        let stir = Arc::new(Notify::new());
        let door = Door {
            channel: line.channel(stir.clone()),
            timeout,
            on_call,
            driver_name: Arc::new(OnceLock::new()),
            stir,
        };
        Self {
            door,
            reach: Arc::new(watch::Sender::new(Reach::never())),
        }
    }

    /// The same driver with another deadline, for calls that share what is left of one.
    pub fn within(&self, timeout: Duration) -> Self {
        let mut driver = self.clone();
        driver.door.timeout = timeout;
        driver
    }

    /// Whether the driver can be used right now, and how that changes.
    pub fn reach(&self) -> watch::Receiver<Reach> {
        self.reach.subscribe()
    }

    /// Whether the driver says that it is ready. CSI: no word about it means yes.
    pub async fn probe(&self) -> Result<bool, Fault> {
        let answer: ProbeResponse = self.door.call(PROBE, ProbeRequest {}).await?;
        Ok(answer.ready.unwrap_or(true))
    }

    /// Asks for name and capabilities, in upstream's order, and accepts or refuses the driver. From then on calls
    /// are counted under its name and [`Driver::reach`] says `Ready`.
    pub async fn introduce(&self) -> Result<Profile, IntroduceError> {
        let profile = self.ask().await?;
        self.door.driver_name.get_or_init(|| profile.name.as_str().into());
        self.found(profile.clone());
        Ok(profile)
    }

    pub(super) async fn ask(&self) -> Result<Profile, IntroduceError> {
        // What has stirred so far is answered by this; a connection made from here on has to be asked again.
        let _ = self.door.stir.notified().now_or_never();
        let info: GetPluginInfoResponse = self.door.call(GET_PLUGIN_INFO, GetPluginInfoRequest {}).await?;
        if info.name.is_empty() {
            return Err(Unfit::NoName.into());
        }
        let plugin = self
            .door
            .call(GET_PLUGIN_CAPABILITIES, GetPluginCapabilitiesRequest {})
            .await?;
        let controller = self
            .door
            .call(CONTROLLER_GET_CAPABILITIES, ControllerGetCapabilitiesRequest {})
            .await;
        let controller = match controller {
            // A driver without the Controller service does not know the call; `check` has the better words.
            Err(fault) if fault.code == Code::Unimplemented => Default::default(),
            answer => answer?,
        };
        let profile = Profile::read(info, &plugin, &controller);
        profile.check()?;
        Ok(profile)
    }

    /// CreateVolume. An answer may lack anything; judging it is the caller's.
    pub async fn create_volume(&self, request: CreateVolumeRequest) -> Result<CreateVolumeResponse, Fault> {
        self.trusted(CREATE_VOLUME)?;
        self.door.call(CREATE_VOLUME, request).await
    }

    /// DeleteVolume.
    pub async fn delete_volume(&self, request: DeleteVolumeRequest) -> Result<DeleteVolumeResponse, Fault> {
        self.trusted(DELETE_VOLUME)?;
        self.door.call(DELETE_VOLUME, request).await
    }

    /// A stranger on our socket must get no volume and no secret of ours.
    fn trusted(&self, method: &'static str) -> Result<(), Fault> {
        match &*self.reach.borrow() {
            Reach::Lost {
                why: why @ Absence::Stranger { .. },
                ..
            } => Err(Fault {
                method,
                code: Code::Unavailable,
                message: why.to_string(),
            }),
            _ => Ok(()),
        }
    }
}
