//! What the foundation promises, shown in virtual time on the sandbox.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod events;
mod gate;
mod view;
mod work;
mod write;
