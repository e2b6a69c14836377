//! The generated messages and servers of the CSI specification.

#![allow(
    clippy::all,
    missing_docs,
    unreachable_pub,
    reason = "generated code; the specification is its documentation"
)]

tonic::include_proto!("csi.v1");
