//! What operators see: log lines, metrics, and the HTTP pages that show health.

mod clients;
pub mod http;
mod klog;
mod listen;
pub mod log;
pub mod metrics;
mod queue;
mod ready;
mod shared_check;
mod verbosity;

pub use queue::QueueMetrics;
pub use ready::{Pending, Readiness};
pub use shared_check::SharedCheck;
