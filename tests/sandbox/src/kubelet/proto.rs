//! The generated messages, client and server of plugin registration.

#![allow(
    clippy::all,
    missing_docs,
    unreachable_pub,
    reason = "generated code; the definition is its documentation"
)]

tonic::include_proto!("pluginregistration");
