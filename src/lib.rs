//! CSI sidecars for Kubernetes.

pub mod app;
pub mod base;
pub mod csi;
pub mod lease;
pub mod serve;
