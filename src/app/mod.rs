//! The sidecars: command lines and composition roots.

pub mod provisioner;
pub mod sidecar;
