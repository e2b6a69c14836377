//! Tables over the pure parts, a property over any interleaving, and the writer against an API server with faults.

mod annotation;
mod trust;

use super::record::{Opening, RecordHead};

const UID: &str = "01234567-89ab-cdef-0123-456789abcdef";
const DRIVER: &str = "lab.csi.example.com";

fn opening() -> Opening {
    Opening {
        at: "2026-11-21T04:36:01Z".parse().unwrap(),
        driver: DRIVER.to_owned(),
        lease_uid: "lease-1".to_owned(),
        transitions: 7,
    }
}

fn head() -> RecordHead {
    RecordHead {
        claim: "shop/data".to_owned(),
        volume: format!("pvc-{UID}"),
    }
}
