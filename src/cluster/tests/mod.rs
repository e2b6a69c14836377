//! What the foundation promises, shown in virtual time on the sandbox.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod api;
mod cache;
mod claims;
mod events;
mod owners;
mod proxy;
mod queue;
mod throttle;
mod token_file;
mod workers;
