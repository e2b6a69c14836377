//! ROOM: a claim becomes a volume.
//!
//! [`decide`] says whether and which; [`act`] records, calls the driver and writes the object; [`answer`] says what a
//! call came to.

pub mod decide;
pub mod memory;
pub mod metrics;
pub mod outcome;
pub mod policy;
pub mod reconcile;
pub mod request;
mod save;
pub mod volume;

#[cfg(test)]
mod tests;
