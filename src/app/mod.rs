//! The sidecars: command lines and composition roots.

pub mod liveness;
pub mod provisioner;
pub mod registrar;
pub mod sidecar;
