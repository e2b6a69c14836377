//! What the two sidecars beside a driver on its node have in common: of the driver they know its name alone, and what ends
//! them ends them with 1.

use super::process::ExitStatus;
use crate::{
    csi::{IdentifyError, connect::BadAddress},
    register::RegisterError,
    telemetry::{http::HttpError, metrics::MetricsError},
};

/// Why such a sidecar ended by itself. A driver that is away is no reason.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// The driver cannot be addressed.
    #[error(transparent)]
    Address(#[from] BadAddress),
    /// What listens on the socket is no CSI driver, or has no name.
    #[error(transparent)]
    Identify(#[from] IdentifyError),
    /// The driver is not registered.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// An HTTP endpoint.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The metrics.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// A task that runs from start to end has ended.
    #[error(
        "a defect: a task that must not end has ended, see the log above; the process ends to start anew"
    )]
    Defect,
    /// A signal handler could not be registered.
    #[error("the operating system refuses: {0}")]
    System(#[from] std::io::Error),
}

impl ExitStatus for Fatal {
    /// Upstream's livenessprobe ends with 0 when `/healthz` cannot be served, and kubelet then restarts the driver for
    /// ever.
    fn code(&self) -> u8 {
        1
    }
}
