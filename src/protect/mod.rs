//! CONTROLLER: what volumes are being made from stays until they are made.
//!
//! A finalizer goes on a source before the first creation from it is recorded, and comes off when no claim that waits and
//! no open record names it. [`holders`] says who is at work on what, [`reconcile`] writes, and [`sweep`] seeks what
//! others have left.

mod holders;
pub mod reconcile;
mod sweep;

#[cfg(test)]
mod tests;
