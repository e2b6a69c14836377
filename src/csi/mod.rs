//! The driver behind the socket: the only place that speaks gRPC.
//!
//! [`connect`] finds the socket and says what is wrong with it, [`call`] is the one door for calls, [`driver`] is
//! what the rest of the house holds: typed calls, the driver's [`Profile`], and whether it can be [`Reach`]ed.

pub mod call;
pub mod connect;
pub mod driver;
pub mod profile;
pub mod proto;
pub mod reach;

pub use call::{Call, Code, Fault, OnCall};
pub use connect::{Address, Line, Trouble};
pub use driver::{Driver, IntroduceError};
pub use profile::{Profile, Unfit};
pub use reach::{Absence, ContactError, Reach};

#[cfg(test)]
mod tests;
