//! FOUNDATION: Kubernetes. The only place that knows kube's watchers, loops and writes.
//!
//! [`view::View`] follows the cluster and keeps what concerns the driver; [`work::Crew`] works through what is hot;
//! [`write::Door`] reads single objects and writes; [`events::Events`] tells people.

pub mod client;
mod correlate;
pub mod denied;
pub mod events;
mod gate;
pub mod hot;
pub mod pace;
pub mod rows;
mod shelf;
#[cfg(test)]
mod tests;
pub mod view;
mod watch;
mod wire;
pub mod work;
pub mod write;
