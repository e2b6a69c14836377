//! The driver behind the socket: the only place that speaks gRPC.
//!
//! [`connect`] finds the socket and says what is wrong with it, [`call`] is the one door for calls, [`driver`] is
//! what the rest of the house holds: typed calls, the driver's [`DriverInfo`], and whether it can be [`DriverState`]ed.

pub mod connect;
pub mod driver;
pub mod driver_info;
pub mod driver_state;
pub mod proto;
pub mod rpc;
pub mod rpc_error;

pub use connect::{Address, ConnectError, Dialer};
pub use driver::{Driver, IdentifyError};
pub use driver_info::{DriverInfo, UnsupportedDriver};
pub use driver_state::{DriverState, NotADriver, NotReadyReason};
pub use rpc::{Call, OnCall};
pub use rpc_error::{Code, RpcError};

#[cfg(test)]
mod tests;
