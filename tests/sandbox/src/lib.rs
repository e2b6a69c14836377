//! A world for tests: a Kubernetes API, the parts of the controller manager and of the scheduler that meet
//! volumes, and a CSI driver, all in one process and in virtual time; and a kubelet for plugins to register with, in
//! real time. The contract suite runs the same cases against the real server, so that this one
//! cannot lie.

mod api;
pub mod binder;
pub mod contract;
pub mod driver;
pub mod kubelet;
mod line;
mod nodes;
mod scheduler;
mod upstream;
mod world;

pub use api::{
    ADMIN, Api, ApiBody, BoxError, Fault, Harm, KINDS, Kind, PatchKind, Request, Right, Service, Verb,
    kubeconfig,
};
pub use driver::Driver;
pub use kubelet::Kubelet;
pub use line::{Effect, Gust, Line, Step};
pub use scheduler::Scheduler;
pub use upstream::Upstream;
pub use world::World;
