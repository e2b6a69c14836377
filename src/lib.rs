//! CSI sidecars for Kubernetes: one library, one thin binary per sidecar. The first is `csi-provisioner`.
//!
//! The world comes in as rows, a pure function turns facts into a decision, a thin hand carries it out. ARCHITECTURE.md
//! follows one claim through these rooms; `tests/architecture.rs` keeps them apart.
//!
//! - [`app`] puts a sidecar together: flags, start-up, terms of leadership. Nothing imports it but the doors in `bin/`.
//! - [`provision`] and [`reclaim`] are the rooms: a claim becomes a volume, a released volume goes away.
//! - [`csi`] is the driver's side: one door for calls, who the driver is, whether it is there.
//! - [`cluster`] is the API server's side: watches as lean rows, what is hot and its turns, reads and writes, events.
//! - [`lease`] finds one leader; [`ledger`] remembers what may exist at the driver although no PersistentVolume says so.
//! - [`serve`] is what operators see; [`base`] holds small pure values.

pub mod app;
pub mod base;
pub mod cluster;
pub mod csi;
pub mod lease;
pub mod ledger;
pub mod provision;
pub mod reclaim;
pub mod telemetry;
