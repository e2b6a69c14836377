//! What operators see: log lines, metrics, and the HTTP pages that show health.

pub mod http;
mod klog;
pub mod log;
pub mod metrics;
mod queue;
mod ready;
mod verbosity;

pub use queue::QueueMetrics;
pub use ready::{Pending, Readiness};
