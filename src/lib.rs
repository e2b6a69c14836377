//! CSI sidecars for Kubernetes: one library, one thin binary per sidecar.
//!
//! Objects come in lean, a pure function turns facts into a decision, a thin reconciler carries it out. ARCHITECTURE.md
//! follows one claim through these modules; `tests/architecture.rs` keeps them apart.
//!
//! - [`app`] puts a sidecar together: flags, start-up, leadership. Nothing imports it but the binaries in `bin/`.
//! - [`provision`], [`reclaim`], [`protect`] and [`capacity`] are controllers: a claim becomes a volume, a released volume
//!   goes away, what volumes are made from stays meanwhile, and how much room there is gets published.
//! - [`register`] and [`probe`] are controllers beside a driver on its node: the kubelet gets to know it, and whether it
//!   is alive.
//! - [`csi`] is the driver's side: the RPC client, who the driver is, whether it is ready.
//! - [`kubelet`] is the kubelet's side: the registration socket and who answers there.
//! - [`cluster`] is the API server's side: reflectors and cache, work queue and workers, requests, events.
//! - [`lease`] elects one leader; [`ledger`] remembers what may exist at the driver although no PersistentVolume says
//!   so.
//! - [`telemetry`] is what operators see: metrics, log, HTTP endpoints; [`base`] holds small pure values.

pub mod app;
pub mod base;
pub mod capacity;
pub mod cluster;
pub mod csi;
pub mod kubelet;
pub mod lease;
pub mod ledger;
pub mod probe;
pub mod protect;
pub mod provision;
pub mod reclaim;
pub mod register;
pub mod telemetry;
