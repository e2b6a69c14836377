//! ROOM: a claim becomes a volume.
//!
//! [`decide`] says whether and which; [`act`] records, calls the driver and writes the object; [`answer`] says what a
//! call came to.

pub mod act;
pub mod answer;
pub mod decide;
pub mod memory;
pub mod policy;
pub mod request;
mod save;
pub mod volume;

#[cfg(test)]
mod tests;
