//! CONTROLLER: a released volume goes away.
//!
//! [`decide`] says whether; [`reconcile`] asks the driver once and then removes the object.

pub mod decide;
mod deletions;
pub mod metrics;
pub mod reconcile;

#[cfg(test)]
mod tests;
