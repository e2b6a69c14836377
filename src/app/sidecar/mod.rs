//! What every sidecar needs: a command line that is read as Go reads it, the settings that all of them share (each with
//! its flags and its checks), the identity of the process, metrics, when it may lead, and the signals that stop it.

pub mod argv;
pub mod driver;
pub mod election;
pub(super) mod eligibility;
pub mod flags;
pub mod http;
pub mod identity;
pub mod kubernetes;
pub mod literal;
pub mod log;
pub mod metrics;
pub mod node;
pub(super) mod process;
pub(super) mod signals;
pub(super) mod startup;
