//! CONTROLLER: a claim becomes a volume.
//!
//! [`decide`] says whether, [`plan`] which, and [`topology`] where; [`reconcile`] records, calls the driver and writes the object;
//! [`outcome`] says what a call came to, and [`settle`] what an open record needs next.

mod attributes;
pub mod content;
mod create;
mod credentials;
pub mod decide;
mod fall_back;
mod finish;
pub mod granted;
mod memory;
pub mod metrics;
mod misfit;
pub mod outcome;
pub mod ownership;
pub mod plan;
pub mod policy;
mod race;
mod races;
pub mod reconcile;
pub mod record;
pub mod refusal;
pub mod request;
mod reschedule;
mod save;
pub mod settle;
mod sources;
mod stored;
pub mod topology;
pub mod volume;

#[cfg(test)]
mod tests;
