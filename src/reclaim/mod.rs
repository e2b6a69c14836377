//! ROOM: a released volume goes away.
//!
//! [`decide`] says whether; [`act`] asks the driver once and then removes the object.

pub mod act;
pub mod decide;

#[cfg(test)]
mod tests;
