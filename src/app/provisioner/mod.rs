//! The csi-provisioner.

mod check;
pub mod config;
pub mod flags;
pub mod gates;
