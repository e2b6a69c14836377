//! The driver beside a sidecar: where its socket is, and how long a call to it may take.

use std::time::Duration;

use crate::{
    app::sidecar::flags::{Exit, ParsedFlags},
    base::duration::GoDuration,
    csi::{Address, Dialer, connect::BadAddress},
};

/// The driver's socket.
#[derive(Debug, Clone, PartialEq)]
pub struct DriverSettings {
    /// As given; the connection knows which forms there are.
    pub address: String,
    /// Limit of each call, above zero.
    pub timeout: Duration,
}

impl DriverSettings {
    /// Takes the settings from the command line. The limit is the flag `timeout`; `what` could not succeed without one.
    ///
    /// # Errors
    /// The process ends here.
    pub(crate) fn read(flags: &ParsedFlags, timeout: &str, what: &str) -> Result<Self, Exit> {
        let limit = flags.get::<GoDuration>(timeout).length();
        let limit = limit.filter(|limit| !limit.is_zero());
        Ok(Self {
            address: flags.get("csi-address"),
            timeout: limit.ok_or_else(|| {
                Exit::error(
                    2,
                    format!("--{timeout} must be above zero, or no {what} could succeed"),
                )
            })?,
        })
    }

    /// The way to the driver.
    ///
    /// # Errors
    /// The address is not one of a unix socket.
    pub(crate) fn dialer(&self) -> Result<Dialer, BadAddress> {
        Ok(Dialer::to(self.address.parse::<Address>()?))
    }
}
