//! The sidecars' composition roots and their flag tables.

pub mod flags;
pub mod metrics;
pub mod provisioner;
mod signals;
