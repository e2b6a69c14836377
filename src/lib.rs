//! CSI sidecars for Kubernetes.

pub mod app;
pub mod base;
pub mod cluster;
pub mod csi;
pub mod lease;
pub mod ledger;
pub mod provision;
pub mod reclaim;
pub mod serve;
