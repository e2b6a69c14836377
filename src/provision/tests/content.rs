//! Which sources can be copied, in the order of the checks; upstream's own cases among them.

use super::{
    super::content::{
        NoContent::{self, *},
        Wanted, bound_content, bound_volume, of_claim, of_snapshot,
    },
    DRIVER,
    clones::clone_checks,
    restores::{mode_change, of_other, snapshot_checks},
};
use crate::{
    cluster::{
        objects::{Claim, ClaimRef, CsiSource, Volume},
        source::{Snapshot, SnapshotContent, SnapshotRef, SourceClaim},
    },
    csi::proto::{VolumeContentSource, volume_content_source::Type},
};

/// A source of 1000 bytes that is as it should be, and a claim for it.
pub(super) struct Lab {
    pub(super) claim: Claim,
    pub(super) bytes: i64,
    pub(super) prevent_mode_conversion: bool,
    pub(super) snapshot: Option<Snapshot>,
    pub(super) content: Option<SnapshotContent>,
    pub(super) source: Option<SourceClaim>,
    pub(super) volume: Option<Volume>,
}

pub(super) type Break = fn(&mut Lab);
/// Cases of upstream, what is different, and what follows.
pub(super) type Row = (
    &'static [&'static str],
    &'static str,
    Break,
    Result<(), NoContent>,
);

fn lab() -> Lab {
    let claim = |name: &str| Claim {
        uid: format!("{name}-uid"),
        namespace: "shop".into(),
        name: name.into(),
        class_name: Some("fast".into()),
        storage_request: Some("1000".into()),
        ..Claim::default()
    };
    Lab {
        claim: claim("data"),
        bytes: 1000,
        prevent_mode_conversion: true,
        snapshot: Some(Snapshot {
            uid: "snapshot-uid".into(),
            namespace: "shop".into(),
            name: "origin".into(),
            ready: true,
            restore_size: Some(1000),
            content: Some("content".into()),
            ..Snapshot::default()
        }),
        content: Some(SnapshotContent {
            name: "content".into(),
            driver: DRIVER.into(),
            snapshot: SnapshotRef {
                uid: "snapshot-uid".into(),
                namespace: "shop".into(),
                name: "origin".into(),
            },
            handle: Some("snap-1".into()),
            ..SnapshotContent::default()
        }),
        source: Some(SourceClaim {
            claim: claim("origin"),
            phase: "Bound".into(),
            volume: "pv".into(),
            bytes: 1000,
        }),
        volume: Some(Volume {
            name: "pv".into(),
            phase: "Bound".into(),
            claim: Some(ClaimRef {
                uid: "origin-uid".into(),
                namespace: "shop".into(),
                name: "origin".into(),
            }),
            csi: Some(CsiSource {
                driver: DRIVER.into(),
                handle: "vol-1".into(),
            }),
            ..Volume::default()
        }),
    }
}

impl Lab {
    pub(super) fn snapshot(&mut self) -> &mut Snapshot {
        self.snapshot.as_mut().unwrap()
    }

    pub(super) fn content(&mut self) -> &mut SnapshotContent {
        self.content.as_mut().unwrap()
    }

    pub(super) fn source(&mut self) -> &mut SourceClaim {
        self.source.as_mut().unwrap()
    }

    pub(super) fn volume(&mut self) -> &mut Volume {
        self.volume.as_mut().unwrap()
    }

    pub(super) fn claim_ref(&mut self) -> &mut ClaimRef {
        self.volume().claim.as_mut().unwrap()
    }

    /// The mode of the claim, and that of the source.
    pub(super) fn modes(&mut self, claim: Option<&str>, source: Option<&str>) {
        self.claim.volume_mode = claim.map(str::to_owned);
        self.content().volume_mode = source.map(str::to_owned);
        self.volume().is_block = source == Some("Block");
    }

    fn wanted(&self) -> Wanted<'_> {
        Wanted {
            claim: &self.claim,
            driver: DRIVER,
            bytes: self.bytes,
            prevent_mode_conversion: self.prevent_mode_conversion,
        }
    }

    pub(super) fn restore(&self) -> Result<VolumeContentSource, NoContent> {
        let (snapshot, content) = bound_content(self.snapshot.as_ref())?;
        of_snapshot(&self.wanted(), snapshot, content, self.content.as_ref())
    }

    pub(super) fn clone(&self) -> Result<VolumeContentSource, NoContent> {
        let (source, volume) = bound_volume(&self.wanted(), self.source.as_ref())?;
        of_claim(&self.wanted(), source, volume, self.volume.as_ref())
    }
}

pub(super) fn too_small(asked: i64) -> NoContent {
    TooSmall { asked, needed: 1000 }
}

pub(super) fn other_driver(object: &str) -> NoContent {
    OtherDriver {
        object: object.into(),
        driver: "other".into(),
    }
}

pub(super) fn check(rows: Vec<Row>, content: fn(&Lab) -> Result<VolumeContentSource, NoContent>, of: Type) {
    let copied = VolumeContentSource { r#type: Some(of) };
    assert_eq!(content(&lab()), Ok(copied.clone()));
    for (ids, what, change, expected) in rows {
        let mut lab = lab();
        change(&mut lab);
        assert_eq!(content(&lab), expected.map(|()| copied.clone()), "{what} {ids:?}");
    }
}

/// What is broken hides whatever is broken of later rows.
fn check_order(rows: &[Row], content: fn(&Lab) -> Result<VolumeContentSource, NoContent>) {
    for (at, (_, what, change, expected)) in rows.iter().enumerate() {
        for (_, later, other, _) in &rows[at + 1..] {
            let mut lab = lab();
            other(&mut lab);
            change(&mut lab);
            let expected = expected.clone().map(|()| VolumeContentSource::default());
            assert_eq!(content(&lab), expected, "{what}, and {later}");
        }
    }
}

#[test]
fn what_is_wrong_first_is_told() {
    check_order(&snapshot_checks(), Lab::restore);
    check_order(&clone_checks(), Lab::clone);
}

#[test]
fn what_time_alone_mends_is_waited_for() {
    let waits: Vec<_> = snapshot_checks()
        .into_iter()
        .chain(clone_checks())
        .filter_map(|(.., expected)| expected.err())
        .filter(NoContent::is_wait)
        .collect();
    assert_eq!(waits, [NoContentYet, NotReady, ClaimPending]);
}

#[test]
fn every_reason_says_what_is_wrong_and_what_to_do() {
    const ANOTHER: &str = "make the claim with another source";
    let rows = [
        (NotFound, format!("it does not exist: create it, or {ANOTHER}")),
        (
            BeingDeleted,
            "it is being deleted: make the claim with a source that stays".into(),
        ),
        (
            of_other("x"),
            "its VolumeSnapshotContent content is for the snapshot x: correct its spec.volumeSnapshotRef, or take \
             another snapshot"
                .into(),
        ),
        (
            too_small(10),
            "the claim asks for 10 bytes and 1000 are needed: make it with a larger spec.resources.requests.storage"
                .into(),
        ),
        (
            mode_change(Some("yes")),
            "its origin has volumeMode Filesystem and the claim asks for Block, which VolumeSnapshotContent content \
             does not allow with \"yes\": ask for Filesystem, or have an administrator annotate the content with \
             snapshot.storage.kubernetes.io/allow-volume-mode-change: \"true\""
                .into(),
        ),
        (
            Itself,
            "that is the claim itself: make it with another source".into(),
        ),
        (ClaimPending, "that claim is not Bound yet".into()),
        (
            other_driver("PersistentVolume pv"),
            "its PersistentVolume pv is of driver other: make the claim with a class of that driver".into(),
        ),
        (
            VolumeOfOther("pv".into()),
            format!("its PersistentVolume pv is not bound to it: {ANOTHER}"),
        ),
        (
            OtherMode {
                source_is_block: true,
            },
            "it has volumeMode Block and the claim asks for Filesystem: a clone has the mode of its source".into(),
        ),
    ];
    for (why, text) in rows {
        assert_eq!(why.to_string(), text);
    }
}
