//! No volume is ever lost: the sidecar in the sandbox is cut at every effect that it has outside, and started again.
//!
//! A scenario is a world and what happens in it, by condition and not by time. It runs once uncut, which counts the
//! effects, and then once for each effect, cut there. Whatever becomes of it, some things never happen
//! (`crash/always.rs`), and at rest the driver has what the objects and the held records say (`crash/rest.rs`).
//!
//! `CRASH_POINT=12` runs that point of the scenarios chosen by name only; `CRASH_ALL=1` goes on after failures.
//! `CRASH_FULL=1` cuts at all effects of those scenarios, too, that take so long that otherwise some have to do; in some it
//! cuts the process that takes over as well, at each effect of its own. Volumes of the driver have a new id each, or their
//! name as their id: by turns, or with `CRASH_FULL=1` both.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    missing_docs,
    reason = "a test stops at the first surprise"
)]

#[path = "flows/log.rs"]
mod log;
#[path = "flows/look.rs"]
#[allow(dead_code, reason = "the flows use the rest")]
mod look;
#[path = "flows/sidecar.rs"]
#[allow(dead_code, unused_imports, reason = "the flows use the rest")]
mod sidecar;

#[path = "crash/always.rs"]
mod always;
#[path = "crash/rest.rs"]
mod rest;
#[path = "crash/scenario.rs"]
mod scenario;
#[path = "crash/script.rs"]
mod script;
#[path = "crash/stage.rs"]
mod stage;

#[path = "crash/chaos.rs"]
mod chaos;
#[path = "crash/claims.rs"]
mod claims;
#[path = "crash/leaders.rs"]
mod leaders;
#[path = "crash/ledger.rs"]
mod ledger;
#[path = "crash/migration.rs"]
mod migration;
#[path = "crash/sources.rs"]
mod sources;
