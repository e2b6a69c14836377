//! Small pure values.
pub mod backoff;
