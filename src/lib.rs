//! CSI sidecars for Kubernetes.

pub mod base;
pub mod csi;
pub mod lease;
pub mod serve;
