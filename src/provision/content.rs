//! Pure. Whether a claim's source can be copied, and what the driver calls it.
//!
//! The order of the checks is upstream's. What is to be read next is known only after the first of them, so each kind of
//! source has two functions: one for the object that the claim names, one for what that names in turn.

use std::fmt;

use crate::{
    cluster::{
        objects::{Claim, Volume},
        source::{ALLOW_MODE_CHANGE, Snapshot, SnapshotContent, SourceClaim},
    },
    csi::proto::{
        VolumeContentSource,
        volume_content_source::{SnapshotSource, Type, VolumeSource},
    },
};

/// What the source has to fit.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// The claim that is to get a volume.
    pub claim: &'a Claim,
    /// Name of the driver that makes it.
    pub driver: &'a str,
    /// Its size.
    pub bytes: i64,
    /// `--prevent-volume-mode-conversion`
    pub prevent_mode_conversion: bool,
}

/// Why a source cannot be copied, as things stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoContent {
    /// The snapshot or the claim does not exist.
    NotFound,
    /// It is being deleted.
    BeingDeleted,
    /// The snapshot has no content yet.
    NoContentYet,
    /// The content that the snapshot names does not exist.
    ContentNotFound(String),
    /// The content is for another snapshot.
    ContentOfOther {
        /// Its name.
        content: String,
        /// What it names instead.
        snapshot: String,
    },
    /// The driver has not finished the snapshot.
    NotReady,
    /// The content does not say what the driver calls the snapshot.
    NoHandle(String),
    /// A volume as small as this could not hold what is copied.
    TooSmall {
        /// Bytes that the claim asks for.
        asked: i64,
        /// Bytes of the source.
        needed: i64,
    },
    /// The mode may not change on the way.
    ModeChange {
        /// Mode of the snapshot's origin.
        from: String,
        /// Mode that the claim asks for.
        to: String,
        /// The content that does not allow it.
        content: String,
        /// What that says about it, if anything.
        allowed: Option<String>,
    },
    /// The claim names itself.
    Itself,
    /// The source claim has no volume yet.
    ClaimPending,
    /// The source claim has lost its volume, or says something that we do not know.
    ClaimNotBound(String),
    /// The source claim, or the one that is to get a volume, names no class.
    NoClass {
        /// It is the source.
        of_source: bool,
    },
    /// The source claim is Bound and names no volume.
    NoVolume,
    /// The volume of the source claim does not exist.
    VolumeNotFound(String),
    /// The volume of the source claim has no CSI source.
    NotCsi(String),
    /// The content or the volume is another driver's.
    OtherDriver {
        /// Kind and name of the object.
        object: String,
        /// Whose it is.
        driver: String,
    },
    /// The volume of the source claim is for another claim.
    VolumeOfOther(String),
    /// The volume of the source claim is not Bound.
    VolumeNotBound {
        /// Its name.
        volume: String,
        /// Its phase.
        phase: String,
    },
    /// A clone has the mode of its source.
    OtherMode {
        /// The source is a block device.
        source_is_block: bool,
    },
}

impl NoContent {
    /// Time alone is the remedy.
    pub const fn is_wait(&self) -> bool {
        matches!(self, Self::NoContentYet | Self::NotReady | Self::ClaimPending)
    }
}

/// A snapshot that a volume may be made from, and the name of its content.
///
/// # Errors
/// [`NoContent`]
pub fn bound_content(snapshot: Option<&Snapshot>) -> Result<(&Snapshot, &str), NoContent> {
    let snapshot = snapshot.ok_or(NoContent::NotFound)?;
    // What is protected was there when the creation began.
    if snapshot.deleting && !snapshot.is_protected {
        return Err(NoContent::BeingDeleted);
    }
    let content = snapshot.content.as_deref().ok_or(NoContent::NoContentYet)?;
    Ok((snapshot, content))
}

/// What the driver calls a snapshot. `name` is the content's.
///
/// # Errors
/// [`NoContent`]
pub fn of_snapshot(
    wanted: &Wanted<'_>,
    snapshot: &Snapshot,
    name: &str,
    content: Option<&SnapshotContent>,
) -> Result<VolumeContentSource, NoContent> {
    let content = content.ok_or_else(|| NoContent::ContentNotFound(name.to_owned()))?;
    let of = &content.snapshot;
    if (&of.uid, &of.namespace, &of.name) != (&snapshot.uid, &snapshot.namespace, &snapshot.name) {
        return Err(NoContent::ContentOfOther {
            content: name.to_owned(),
            snapshot: format!("{}/{} with UID {:?}", of.namespace, of.name, of.uid),
        });
    }
    if content.driver != wanted.driver {
        return Err(NoContent::OtherDriver {
            object: format!("VolumeSnapshotContent {name}"),
            driver: content.driver.clone(),
        });
    }
    if !snapshot.ready {
        return Err(NoContent::NotReady);
    }
    let handle = content
        .handle
        .as_ref()
        .ok_or_else(|| NoContent::NoHandle(name.to_owned()))?;
    if let Some(needed) = snapshot.restore_size
        && (wanted.claim.storage_request.is_none() || wanted.bytes < needed)
    {
        return Err(NoContent::TooSmall {
            asked: wanted.bytes,
            needed,
        });
    }
    if let (Some(from), Some(to)) = (&content.volume_mode, &wanted.claim.volume_mode)
        && wanted.prevent_mode_conversion
        && from != to
        && !content.allow_mode_change.as_deref().is_some_and(is_true)
    {
        return Err(NoContent::ModeChange {
            from: from.clone(),
            to: to.clone(),
            content: name.to_owned(),
            allowed: content.allow_mode_change.clone(),
        });
    }
    Ok(source(Type::Snapshot(SnapshotSource {
        snapshot_id: handle.clone(),
    })))
}

/// What Go reads as true.
fn is_true(text: &str) -> bool {
    ["1", "t", "T", "true", "TRUE", "True"].contains(&text)
}

/// A claim that may be cloned, and the name of its volume.
///
/// # Errors
/// [`NoContent`]
pub fn bound_volume<'a>(
    wanted: &Wanted<'_>,
    source: Option<&'a SourceClaim>,
) -> Result<(&'a SourceClaim, &'a str), NoContent> {
    let source = source.ok_or(NoContent::NotFound)?;
    // It would wait for itself.
    if source.claim.uid == wanted.claim.uid {
        return Err(NoContent::Itself);
    }
    match source.phase.as_str() {
        "Bound" => {}
        "" | "Pending" => return Err(NoContent::ClaimPending),
        other => return Err(NoContent::ClaimNotBound(other.to_owned())),
    }
    if source.claim.deleting {
        return Err(NoContent::BeingDeleted);
    }
    for (claim, of_source) in [(&source.claim, true), (wanted.claim, false)] {
        if claim.class_name.is_none() {
            return Err(NoContent::NoClass { of_source });
        }
    }
    let needed = source.bytes;
    if wanted.bytes < needed {
        return Err(NoContent::TooSmall {
            asked: wanted.bytes,
            needed,
        });
    }
    match source.volume.as_str() {
        "" => Err(NoContent::NoVolume),
        volume => Ok((source, volume)),
    }
}

/// What the driver calls the volume of a claim. `name` is the object's.
///
/// # Errors
/// [`NoContent`]
pub fn of_claim(
    wanted: &Wanted<'_>,
    SourceClaim { claim, .. }: &SourceClaim,
    name: &str,
    volume: Option<&Volume>,
) -> Result<VolumeContentSource, NoContent> {
    let volume = volume.ok_or_else(|| NoContent::VolumeNotFound(name.to_owned()))?;
    let csi = volume
        .csi
        .as_ref()
        .ok_or_else(|| NoContent::NotCsi(name.to_owned()))?;
    if csi.driver != wanted.driver {
        return Err(NoContent::OtherDriver {
            object: format!("PersistentVolume {name}"),
            driver: csi.driver.clone(),
        });
    }
    let is_of_claim = volume
        .claim
        .as_ref()
        .is_some_and(|of| (&of.uid, &of.namespace, &of.name) == (&claim.uid, &claim.namespace, &claim.name));
    if !is_of_claim {
        return Err(NoContent::VolumeOfOther(name.to_owned()));
    }
    if volume.phase != "Bound" {
        return Err(NoContent::VolumeNotBound {
            volume: name.to_owned(),
            phase: volume.phase.clone(),
        });
    }
    if volume.is_block != wanted.claim.is_block() {
        return Err(NoContent::OtherMode {
            source_is_block: volume.is_block,
        });
    }
    Ok(source(Type::Volume(VolumeSource {
        volume_id: csi.handle.clone(),
    })))
}

const fn source(of: Type) -> VolumeContentSource {
    VolumeContentSource { r#type: Some(of) }
}

impl fmt::Display for NoContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => {
                f.write_str("it does not exist: create it, or make the claim with another source")
            }
            Self::BeingDeleted => f.write_str("it is being deleted: make the claim with a source that stays"),
            Self::NoContentYet => f.write_str("it has no VolumeSnapshotContent yet"),
            Self::ContentNotFound(content) => write!(
                f,
                "its VolumeSnapshotContent {content} does not exist: take another snapshot"
            ),
            Self::ContentOfOther { content, snapshot } => write!(
                f,
                "its VolumeSnapshotContent {content} is for the snapshot {snapshot}: correct its \
                 spec.volumeSnapshotRef, or take another snapshot"
            ),
            Self::NotReady => f.write_str("the snapshot is not ready to use yet"),
            Self::NoHandle(content) => write!(
                f,
                "its VolumeSnapshotContent {content} has no status.snapshotHandle: see what the snapshot controller \
                 and the snapshotter say"
            ),
            Self::TooSmall { asked, needed } => write!(
                f,
                "the claim asks for {asked} bytes and {needed} are needed: make it with a larger \
                 spec.resources.requests.storage"
            ),
            Self::ModeChange {
                from,
                to,
                content,
                allowed,
            } => {
                write!(
                    f,
                    "its origin has volumeMode {from} and the claim asks for {to}, which VolumeSnapshotContent \
                     {content} does not allow"
                )?;
                if let Some(allowed) = allowed {
                    write!(f, " with {allowed:?}")?;
                }
                write!(
                    f,
                    ": ask for {from}, or have an administrator annotate the content with {ALLOW_MODE_CHANGE}: \"true\""
                )
            }
            Self::Itself => f.write_str("that is the claim itself: make it with another source"),
            Self::ClaimPending => f.write_str("that claim is not Bound yet"),
            Self::ClaimNotBound(phase) => write!(
                f,
                "that claim has phase {phase}, and only a Bound one can be cloned"
            ),
            Self::NoClass { of_source: true } => f.write_str(
                "that claim has no spec.storageClassName, and only one with a class can be cloned",
            ),
            Self::NoClass { of_source: false } => {
                f.write_str("the claim has no spec.storageClassName: a clone needs one")
            }
            Self::NoVolume => f.write_str("that claim is Bound and names no PersistentVolume"),
            Self::VolumeNotFound(volume) => write!(
                f,
                "its PersistentVolume {volume} does not exist: make the claim with another source"
            ),
            Self::NotCsi(volume) => write!(
                f,
                "its PersistentVolume {volume} is not of a CSI driver: only a volume of the same driver can be cloned"
            ),
            Self::OtherDriver { object, driver } => write!(
                f,
                "its {object} is of driver {driver}: make the claim with a class of that driver"
            ),
            Self::VolumeOfOther(volume) => write!(
                f,
                "its PersistentVolume {volume} is not bound to it: make the claim with another source"
            ),
            Self::VolumeNotBound { volume, phase } => write!(
                f,
                "its PersistentVolume {volume} has phase {phase}, and only a Bound one can be cloned"
            ),
            Self::OtherMode { source_is_block } => {
                let (from, to) = match source_is_block {
                    true => ("Block", "Filesystem"),
                    false => ("Filesystem", "Block"),
                };
                write!(
                    f,
                    "it has volumeMode {from} and the claim asks for {to}: a clone has the mode of its source"
                )
            }
        }
    }
}
