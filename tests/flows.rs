//! The csi-provisioner in the sandbox, in virtual time: what a world is, and what must become true in it.
//!
//! Every flow runs under the rights that `manifests/rbac.yaml` grants, unless it says otherwise, and ends with
//! `Sidecar::end`: no panic, no breach of the CSI rules, no volume lost.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    missing_docs,
    reason = "a test stops at the first surprise"
)]

#[path = "flows/handles.rs"]
mod handles;
#[path = "flows/log.rs"]
mod log;
#[path = "flows/look.rs"]
mod look;
#[path = "flows/sidecar.rs"]
#[allow(dead_code, reason = "the crash points use the rest")]
mod sidecar;

#[path = "flows/attributes.rs"]
mod attributes;
#[path = "flows/bad_driver.rs"]
mod bad_driver;
#[path = "flows/bad_input.rs"]
mod bad_input;
#[path = "flows/bad_source.rs"]
mod bad_source;
#[path = "flows/capacity.rs"]
mod capacity;
#[path = "flows/capacity_cost.rs"]
mod capacity_cost;
#[path = "flows/capacity_refresh.rs"]
mod capacity_refresh;
#[path = "flows/capacity_trouble.rs"]
mod capacity_trouble;
#[path = "flows/capacity_writes.rs"]
mod capacity_writes;
#[path = "flows/claims.rs"]
mod claims;
#[path = "flows/codes.rs"]
mod codes;
#[path = "flows/cross_namespace.rs"]
mod cross_namespace;
#[path = "flows/deletion.rs"]
mod deletion;
#[path = "flows/distrust.rs"]
mod distrust;
#[path = "flows/doubles.rs"]
mod doubles;
#[path = "flows/election.rs"]
mod election;
#[path = "flows/events.rs"]
mod events;
#[path = "flows/life.rs"]
mod life;
#[path = "flows/migration.rs"]
mod migration;
#[path = "flows/migration_back.rs"]
mod migration_back;
#[path = "flows/node_deployment.rs"]
mod node_deployment;
#[path = "flows/node_race.rs"]
mod node_race;
#[path = "flows/one_node.rs"]
mod one_node;
#[path = "flows/overtaken.rs"]
mod overtaken;
#[path = "flows/protection.rs"]
mod protection;
#[path = "flows/reclaim.rs"]
mod reclaim;
#[path = "flows/records.rs"]
mod records;
#[path = "flows/renewed.rs"]
mod renewed;
#[path = "flows/replicas.rs"]
mod replicas;
#[path = "flows/restarts.rs"]
mod restarts;
#[path = "flows/rights.rs"]
mod rights;
#[path = "flows/saving.rs"]
mod saving;
#[path = "flows/secrets.rs"]
mod secrets;
#[path = "flows/source_steps.rs"]
mod source_steps;
#[path = "flows/source_watch.rs"]
mod source_watch;
#[path = "flows/sources.rs"]
mod sources;
#[path = "flows/stop.rs"]
mod stop;
#[path = "flows/topology.rs"]
mod topology;
#[path = "flows/topology_weather.rs"]
mod topology_weather;
#[path = "flows/uncertain.rs"]
mod uncertain;
#[path = "flows/volumes.rs"]
mod volumes;
#[path = "flows/watches.rs"]
mod watches;
#[path = "flows/weather.rs"]
mod weather;
