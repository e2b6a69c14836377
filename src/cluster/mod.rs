//! FOUNDATION: Kubernetes. The only place that knows kube.
//!
//! The reflectors fill [`cache::Cache`] with what concerns the driver; [`queue::WorkQueue`] says which object is next,
//! and [`workers::WorkerPool`] reconciles it; [`api::ApiClient`] reads single objects and writes;
//! [`events::EventRecorder`] tells people.

pub mod active;
pub mod api;
mod api_error;
pub mod cache;
pub mod client;
mod connector;
mod correlator;
mod decode;
pub mod events;
pub mod finalizers;
pub mod grant;
mod header_timeout;
pub mod lease_object;
pub mod leases;
pub mod migration;
pub mod node_selector;
pub mod objects;
pub mod proxy;
pub mod queue;
pub mod rate_limiter;
mod reflector;
pub mod source;
mod store;
#[cfg(test)]
mod tests;
mod throttle;
mod token_file;
pub mod topology;
mod watch_requests;
pub mod workers;
