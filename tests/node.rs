//! The node's sidecars as processes, beside a driver on a real socket and in real time.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    missing_docs,
    reason = "a test stops at the first surprise"
)]

#[path = "node/driver.rs"]
mod driver;
#[path = "node/http.rs"]
mod http;
#[path = "node/liveness.rs"]
mod liveness;
#[path = "node/liveness_load.rs"]
mod liveness_load;
#[path = "node/liveness_pages.rs"]
mod liveness_pages;
#[path = "node/liveness_start.rs"]
mod liveness_start;
#[path = "node/process.rs"]
mod process;
#[path = "node/registrar.rs"]
mod registrar;
#[path = "node/registrar_end.rs"]
mod registrar_end;
#[path = "node/registrar_health.rs"]
mod registrar_health;
#[path = "node/registrar_path.rs"]
mod registrar_path;
#[path = "node/registrar_takeover.rs"]
mod registrar_takeover;
