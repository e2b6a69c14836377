//! What the foundation promises, shown in virtual time on the sandbox.

mod api;
mod cache;
mod claims;
mod events;
mod handles;
mod owners;
mod proxy;
mod queue;
mod schemas;
mod sources;
mod throttle;
mod token_file;
mod workers;
