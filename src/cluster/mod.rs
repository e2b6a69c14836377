//! FOUNDATION: Kubernetes. The only place that knows kube's watchers, loops and writes.
//!
//! [`cache::Cache`] follows the cluster and keeps what concerns the driver; [`work::Crew`] works through what is hot;
//! [`api::ApiClient`] reads single objects and writes; [`events::EventRecorder`] tells people.

pub mod api;
mod api_error;
pub mod cache;
pub mod client;
mod correlator;
mod decode;
pub mod events;
pub mod hot;
pub mod leases;
pub mod objects;
pub mod rate_limiter;
mod reflector;
mod store;
#[cfg(test)]
mod tests;
mod throttle;
pub mod work;
