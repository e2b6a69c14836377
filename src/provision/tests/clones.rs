//! Which claims can be cloned; upstream's own cases among them.

use super::{
    super::content::NoContent::{self, *},
    content::{Lab, Row, check, other_driver, too_small},
};
use crate::csi::proto::volume_content_source::{Type, VolumeSource};

fn not_bound(phase: &str) -> NoContent {
    VolumeNotBound {
        volume: "pv".into(),
        phase: phase.into(),
    }
}

fn vol() -> Type {
    Type::Volume(VolumeSource {
        volume_id: "vol-1".into(),
    })
}

/// In their order, which decides what people read.
pub(super) fn clone_checks() -> Vec<Row> {
    vec![
        (
            &["ctl.ProvisionFromPVC.06"],
            "it is gone",
            |lab| lab.source = None,
            Err(NotFound),
        ),
        (
            &[],
            "it is the claim itself",
            |lab| lab.source().claim.uid = lab.claim.uid.clone(),
            Err(Itself),
        ),
        (
            &["ctl.ProvisionFromPVC.10"],
            "it has no volume yet",
            |lab| lab.source().phase = "Pending".into(),
            Err(ClaimPending),
        ),
        (
            &[],
            "it goes away",
            |lab| lab.source().claim.deleting = true,
            Err(BeingDeleted),
        ),
        (
            &["ctl.ProvisionFromPVC.07"],
            "it has no class",
            |lab| lab.source().claim.class_name = None,
            Err(NoClass { of_source: true }),
        ),
        (
            &["ctl.ProvisionFromPVC.08"],
            "the claim has no class",
            |lab| lab.claim.class_name = None,
            Err(NoClass { of_source: false }),
        ),
        (
            &["ctl.ProvisionFromPVC.05"],
            "the claim is too small",
            |lab| lab.bytes = 999,
            Err(too_small(999)),
        ),
        (
            &[],
            "it names no volume",
            |lab| lab.source().volume.clear(),
            Err(NoVolume),
        ),
        (
            &["ctl.ProvisionFromPVC.09"],
            "its volume is gone",
            |lab| lab.volume = None,
            Err(VolumeNotFound("pv".into())),
        ),
        (
            &[],
            "its volume is not of CSI",
            |lab| lab.volume().csi = None,
            Err(NotCsi("pv".into())),
        ),
        (
            &["ctl.ProvisionFromPVC.20"],
            "its volume is another driver's",
            |lab| lab.volume().csi.as_mut().unwrap().driver = "other".into(),
            Err(other_driver("PersistentVolume pv")),
        ),
        (
            &["ctl.ProvisionFromPVC.16"],
            "its volume is for nobody",
            |lab| lab.volume().claim = None,
            Err(VolumeOfOther("pv".into())),
        ),
        (
            &["ctl.ProvisionFromPVC.12"],
            "its volume is released",
            |lab| lab.volume().phase = "Released".into(),
            Err(not_bound("Released")),
        ),
        (
            &["ctl.ProvisionFromPVC.22", "ctl.ProvisionFromPVC.23"],
            "the mode changes",
            |lab| lab.modes(Some("Block"), None),
            Err(OtherMode {
                source_is_block: false,
            }),
        ),
    ]
}

#[test]
fn a_claim_to_be_cloned_is_checked_in_upstreams_order() {
    check(clone_checks(), Lab::clone, vol());
}

#[test]
fn a_clone_is_bound_to_its_claim_and_has_its_mode() {
    let rows: Vec<Row> = vec![
        (
            &["ctl.ProvisionFromPVC.01", "ctl.ProvisionFromPVC.28"],
            "as it is",
            |_| {},
            Ok(()),
        ),
        (
            &["ctl.ProvisionFromPVC.03", "ctl.ProvisionFromPVC.29"],
            "another class",
            |lab| lab.source().claim.class_name = Some("slow".into()),
            Ok(()),
        ),
        (
            &["ctl.ProvisionFromPVC.11"],
            "it lost its volume",
            |lab| lab.source().phase = "Lost".into(),
            Err(ClaimNotBound("Lost".into())),
        ),
        (
            &[],
            "nobody has looked at it",
            |lab| lab.source().phase.clear(),
            Err(ClaimPending),
        ),
        (
            &["ctl.ProvisionFromPVC.13"],
            "its volume failed",
            |lab| lab.volume().phase = "Failed".into(),
            Err(not_bound("Failed")),
        ),
        (
            &["ctl.ProvisionFromPVC.14"],
            "its volume is pending",
            |lab| lab.volume().phase = "Pending".into(),
            Err(not_bound("Pending")),
        ),
        (
            &["ctl.ProvisionFromPVC.15"],
            "its volume is available",
            |lab| lab.volume().phase = "Available".into(),
            Err(not_bound("Available")),
        ),
        (
            &["ctl.ProvisionFromPVC.17"],
            "its volume is for another UID",
            |lab| lab.claim_ref().uid = "x".into(),
            Err(VolumeOfOther("pv".into())),
        ),
        (
            &["ctl.ProvisionFromPVC.18"],
            "its volume is for another namespace",
            |lab| lab.claim_ref().namespace = "x".into(),
            Err(VolumeOfOther("pv".into())),
        ),
        (
            &["ctl.ProvisionFromPVC.19"],
            "its volume is for another name",
            |lab| lab.claim_ref().name = "x".into(),
            Err(VolumeOfOther("pv".into())),
        ),
        (
            &["ctl.ProvisionFromPVC.21"],
            "both are block devices",
            |lab| lab.modes(Some("Block"), Some("Block")),
            Ok(()),
        ),
        (
            &["ctl.ProvisionFromPVC.24", "ctl.ProvisionFromPVC.31"],
            "neither names a mode",
            |lab| lab.modes(None, None),
            Ok(()),
        ),
        (
            &["ctl.ProvisionFromPVC.25", "ctl.ProvisionFromPVC.30"],
            "both are file systems",
            |lab| lab.modes(Some("Filesystem"), Some("Filesystem")),
            Ok(()),
        ),
        (
            &["ctl.ProvisionFromPVC.27"],
            "a file system, and no mode",
            |lab| lab.modes(Some("Filesystem"), None),
            Ok(()),
        ),
        (
            &["ctl.ProvisionFromPVC.26"],
            "the source is a block device",
            |lab| lab.modes(Some("Filesystem"), Some("Block")),
            Err(OtherMode {
                source_is_block: true,
            }),
        ),
    ];
    check(rows, Lab::clone, vol());
}
