//! The driver behind the socket: the only place that knows gRPC.
//!
//! [`connect`] connects to the socket and says what is wrong with it, [`rpc`] makes one call, [`driver`] is what other
//! modules use: typed calls, the driver's [`DriverInfo`], and its [`DriverState`].

pub mod connect;
pub mod driver;
pub mod driver_info;
pub mod driver_state;
mod encoded_codec;
pub mod fence;
mod grpc_status;
pub mod proto;
pub mod rpc;
pub mod rpc_error;

pub use connect::{Address, ConnectError, Dialer};
pub use driver::{Driver, IdentifyError, Needs};
pub use driver_info::{DriverInfo, NodeInfo, UnsupportedDriver};
pub use driver_state::{DriverState, NotADriver, NotReadyReason};
pub use fence::{MayCall, NotSent};
pub use rpc::{Call, OnCall};
pub use rpc_error::{Code, RpcError};

#[cfg(test)]
mod tests;
