//! CONTROLLER: how much room there is, published as CSIStorageCapacity objects.
//!
//! [`segments`] says for what, and [`diff`] what is to be written. [`reconcile`] asks the driver for one item and writes
//! it; [`run`] says which items are looked at and when.

pub mod diff;
pub mod metrics;
pub mod reconcile;
pub mod run;
pub mod segments;

#[cfg(test)]
mod tests;
