//! CONTROLLER: a released volume goes away.
//!
//! [`decide`] says whether; [`reconcile`] asks the driver once and then removes the object, unless there is an
//! [`objection`].

pub mod decide;
mod deletions;
pub mod metrics;
mod objection;
pub mod reconcile;

#[cfg(test)]
mod tests;
