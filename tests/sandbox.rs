//! The sandbox: that it tells the truth, and what the sidecar does in it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "sandbox/tests/contract.rs"]
mod contract;
