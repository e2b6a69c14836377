//! CONTROLLER: how much room there is, published as CSIStorageCapacity objects.
//!
//! [`segments`] says for what, and [`diff`] what is to be written; [`reconcile`] asks the driver and writes it.

pub mod diff;
pub mod metrics;
mod publish;
pub mod reconcile;
pub mod segments;

#[cfg(test)]
mod tests;
