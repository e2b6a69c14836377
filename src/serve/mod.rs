//! What operators see: log lines, metrics, and the HTTP pages that show health.

mod line;
pub mod log;
mod verbosity;
