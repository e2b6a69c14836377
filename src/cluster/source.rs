//! Pure. What the content of a claim's volume is to come from.

use std::fmt;

use thiserror::Error;

use super::objects::{Claim, SourceRef};
use crate::base::{
    api_error::ApiError,
    names::{NameError, check_label, check_subdomain},
};

/// API group of VolumeSnapshots.
pub const SNAPSHOT_GROUP: &str = "snapshot.storage.k8s.io";

/// An object that the content of a volume comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    /// What it is.
    pub kind: SourceKind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Kinds of objects that a driver can take content from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourceKind {
    /// A VolumeSnapshot.
    Snapshot,
    /// A PersistentVolumeClaim.
    Claim,
}

/// Keeps a VolumeSnapshot that a volume is being made from.
pub const SNAPSHOT_FINALIZER: &str = "provisioner.storage.kubernetes.io/volumesnapshot-as-source-protection";
/// Keeps a claim whose volume is being cloned.
pub const CLONE_FINALIZER: &str = "provisioner.storage.kubernetes.io/cloning-protection";
/// On a VolumeSnapshotContent: volumes of another mode may be made from it.
pub const ALLOW_MODE_CHANGE: &str = "snapshot.storage.kubernetes.io/allow-volume-mode-change";

/// A VolumeSnapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// `metadata.uid`
    pub uid: String,
    /// `metadata.namespace`
    pub namespace: String,
    /// `metadata.name`
    pub name: String,
    /// `metadata.deletionTimestamp` is set.
    pub deleting: bool,
    /// [`SNAPSHOT_FINALIZER`] is on it.
    pub is_protected: bool,
    /// `status.readyToUse`
    pub ready: bool,
    /// `status.restoreSize` in bytes: what a volume must have at least.
    pub restore_size: Option<i64>,
    /// `status.boundVolumeSnapshotContentName`
    pub content: Option<String>,
}

/// A VolumeSnapshotContent: the snapshot at the driver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotContent {
    /// `metadata.name`
    pub name: String,
    /// `spec.driver`
    pub driver: String,
    /// `spec.volumeSnapshotRef`
    pub snapshot: SnapshotRef,
    /// `status.snapshotHandle`
    pub handle: Option<String>,
    /// `spec.sourceVolumeMode`
    pub volume_mode: Option<String>,
    /// [`ALLOW_MODE_CHANGE`], as written.
    pub allow_mode_change: Option<String>,
}

/// The VolumeSnapshot that a content is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotRef {
    /// `uid`
    pub uid: String,
    /// `namespace`
    pub namespace: String,
    /// `name`
    pub name: String,
}

/// A claim whose volume is to be cloned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceClaim {
    /// What every claim says.
    pub claim: Claim,
    /// `status.phase`
    pub phase: String,
    /// `spec.volumeName`, "" if there is none.
    pub volume: String,
    /// `spec.resources.requests.storage` in bytes, 0 if it is absent.
    pub bytes: i64,
}

/// Why a source cannot be kept for a creation that is about to begin.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NotHeld {
    /// It was there a moment ago.
    #[error("it does not exist any more")]
    Gone,
    /// It was deleted, and another one was made under its name.
    #[error("another one has its name by now")]
    MadeAnew,
    /// The API server takes no new finalizer then.
    #[error("it is being deleted")]
    BeingDeleted,
    /// It could not be read or written.
    #[error(transparent)]
    Failed(#[from] ApiError),
}

/// Why a claim's source is none that a driver can take content from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoSource {
    /// A kind that another controller fills volumes from.
    Populator,
    /// It has no name.
    NoName(SourceKind),
    /// No object has such a name or namespace.
    BadName(SourceKind, NameError),
    /// A VolumeSnapshot of another API group.
    OtherGroup(String),
    /// It is in another namespace, and the gate CrossNamespaceVolumeDataSource is off.
    OtherNamespace(String),
}

impl Source {
    /// The source of a claim, if it has one. `dataSource` wins over `dataSourceRef`, and is always of the claim's own
    /// namespace, as upstream reads them. `cross_namespace`: the gate CrossNamespaceVolumeDataSource.
    ///
    /// # Errors
    /// [`NoSource`]
    pub fn of(claim: &Claim, cross_namespace: bool) -> Result<Option<Self>, NoSource> {
        let (from, namespace) = match (&claim.data_source, &claim.data_source_ref) {
            (Some(from), _) => (from, None),
            (None, Some(from)) => (from, from.namespace.as_deref().filter(|it| !it.is_empty())),
            (None, None) => return Ok(None),
        };
        if let Some(namespace) = namespace
            && !cross_namespace
        {
            return Err(NoSource::OtherNamespace(namespace.to_owned()));
        }
        let SourceRef {
            api_group,
            kind,
            name,
            ..
        } = from;
        let kind = match kind.as_str() {
            "VolumeSnapshot" => SourceKind::Snapshot,
            // Claims are of the core group: what has their name in another one is somebody else's.
            "PersistentVolumeClaim" if api_group.as_deref().unwrap_or_default().is_empty() => {
                SourceKind::Claim
            }
            _ => return Err(NoSource::Populator),
        };
        if name.is_empty() {
            return Err(NoSource::NoName(kind));
        }
        // The API server takes any text, and it becomes a part of a path.
        let named = check_subdomain(name).and_then(|()| namespace.map_or(Ok(()), check_label));
        named.map_err(|error| NoSource::BadName(kind, error))?;
        match (kind, api_group.as_deref()) {
            (SourceKind::Snapshot, Some(group)) if group != SNAPSHOT_GROUP => {
                Err(NoSource::OtherGroup(group.to_owned()))
            }
            _ => Ok(Some(Self {
                kind,
                namespace: namespace.unwrap_or(&claim.namespace).to_owned(),
                name: name.clone(),
            })),
        }
    }
}

impl SourceKind {
    /// The finalizer that keeps a source while volumes are made from it.
    pub fn finalizer(self) -> &'static str {
        match self {
            Self::Snapshot => SNAPSHOT_FINALIZER,
            Self::Claim => CLONE_FINALIZER,
        }
    }
}

impl fmt::Display for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Snapshot => "VolumeSnapshot",
            Self::Claim => "PersistentVolumeClaim",
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

impl fmt::Display for NoSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Populator => f.write_str("Assuming an external populator will provision the volume"),
            Self::NoName(kind) => write!(f, "the claim's data source is a {kind} without a name: name one"),
            Self::BadName(kind, error) => write!(
                f,
                "the claim's data source is a {kind} that cannot exist: {error}"
            ),
            Self::OtherGroup(group) => write!(
                f,
                "the claim's data source is a VolumeSnapshot of the API group {group:?}: set apiGroup to {SNAPSHOT_GROUP}"
            ),
            Self::OtherNamespace(namespace) => write!(
                f,
                "the claim's dataSourceRef is in namespace {namespace:?}: take a source of the claim's own namespace, or \
                 switch the feature gate CrossNamespaceVolumeDataSource on, in the cluster and in the provisioner"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(api_group: Option<&str>, kind: &str, name: &str, namespace: Option<&str>) -> Option<SourceRef> {
        Some(SourceRef {
            api_group: api_group.map(str::to_owned),
            kind: kind.to_owned(),
            name: name.to_owned(),
            namespace: namespace.map(str::to_owned),
        })
    }

    #[test]
    fn kind_group_and_namespace_say_what_the_source_is() {
        const GROUP: Option<&str> = Some(SNAPSHOT_GROUP);
        use SourceKind::{Claim as Volume, Snapshot};
        let ok = |kind, namespace: &str| {
            let (namespace, name) = (namespace.to_owned(), "origin".to_owned());
            Ok(Some(Source {
                kind,
                namespace,
                name,
            }))
        };
        let rows = [
            (
                "a snapshot",
                GROUP,
                "VolumeSnapshot",
                "origin",
                None,
                ok(Snapshot, "shop"),
            ),
            (
                "without a group",
                None,
                "VolumeSnapshot",
                "origin",
                None,
                ok(Snapshot, "shop"),
            ),
            (
                "a claim",
                None,
                "PersistentVolumeClaim",
                "origin",
                None,
                ok(Volume, "shop"),
            ),
            (
                "D-37: an empty namespace",
                None,
                "PersistentVolumeClaim",
                "origin",
                Some(""),
                ok(Volume, "shop"),
            ),
            (
                "elsewhere",
                GROUP,
                "VolumeSnapshot",
                "origin",
                Some("lab"),
                ok(Snapshot, "lab"),
            ),
            (
                "without a name",
                GROUP,
                "VolumeSnapshot",
                "",
                None,
                Err(NoSource::NoName(Snapshot)),
            ),
            (
                "another group",
                Some("x"),
                "VolumeSnapshot",
                "origin",
                None,
                Err(NoSource::OtherGroup("x".into())),
            ),
            ("another kind", GROUP, "Dump", "", None, Err(NoSource::Populator)),
            (
                "a claim of another group",
                Some("x"),
                "PersistentVolumeClaim",
                "origin",
                None,
                Err(NoSource::Populator),
            ),
            (
                "a claim of the core group",
                Some(""),
                "PersistentVolumeClaim",
                "origin",
                None,
                ok(Volume, "shop"),
            ),
            (
                "a path for a name",
                GROUP,
                "VolumeSnapshot",
                "../../lab/volumesnapshots/origin",
                None,
                Err(NoSource::BadName(
                    Snapshot,
                    check_subdomain("../../lab/volumesnapshots/origin").unwrap_err(),
                )),
            ),
            (
                "a path for a namespace",
                GROUP,
                "VolumeSnapshot",
                "origin",
                Some("lab/x"),
                Err(NoSource::BadName(Snapshot, check_label("lab/x").unwrap_err())),
            ),
            (
                "told apart by case",
                None,
                "persistentvolumeclaim",
                "a",
                None,
                Err(NoSource::Populator),
            ),
        ];
        for (what, group, kind, name, namespace, expected) in rows {
            let claim = Claim {
                namespace: "shop".to_owned(),
                data_source_ref: from(group, kind, name, namespace),
                ..Claim::default()
            };
            assert_eq!(Source::of(&claim, true), expected, "{what}");
            let elsewhere = namespace.filter(|it| !it.is_empty());
            let expected = elsewhere.map_or(expected, |it| Err(NoSource::OtherNamespace(it.to_owned())));
            assert_eq!(Source::of(&claim, false), expected, "{what}, gate off");
        }
        assert_eq!(Source::of(&Claim::default(), true), Ok(None));
    }

    #[test]
    fn a_snapshot_is_one_in_either_field_and_only_of_its_group() {
        type Named = Option<SourceRef>;
        let snapshot = |group, namespace| from(group, "VolumeSnapshot", "origin", namespace);
        let clone = from(None, "PersistentVolumeClaim", "origin", None);
        let (group, other) = (Some(SNAPSHOT_GROUP), Some("x"));
        let rows: [(&str, Named, Named, Option<&str>); 7] = [
            (
                "sweep.IsSnapshotSourcePVC.01",
                snapshot(group, None),
                None,
                Some("shop"),
            ),
            (
                "sweep.IsSnapshotSourcePVC.02",
                None,
                snapshot(group, None),
                Some("shop"),
            ),
            ("sweep.IsSnapshotSourcePVC.03", clone, None, None),
            ("sweep.IsSnapshotSourcePVC.04", None, None, None),
            ("sweep.IsSnapshotSourcePVC.05", snapshot(other, None), None, None),
            ("sweep.IsSnapshotSourcePVC.06", None, snapshot(other, None), None),
            (
                "sweep.single-case-functions.09",
                None,
                snapshot(group, Some("lab")),
                Some("lab"),
            ),
        ];
        for (id, data_source, data_source_ref, namespace) in rows {
            let claim = Claim {
                namespace: "shop".to_owned(),
                data_source,
                data_source_ref,
                ..Claim::default()
            };
            let source = Source::of(&claim, true).ok().flatten();
            let source = source.filter(|source| source.kind == SourceKind::Snapshot);
            assert_eq!(
                source.map(|source| source.namespace).as_deref(),
                namespace,
                "{id}"
            );
        }
    }

    #[test]
    fn the_data_source_wins_and_has_no_namespace_of_its_own() {
        let claim = Claim {
            namespace: "shop".to_owned(),
            data_source: from(None, "PersistentVolumeClaim", "first", Some("lab")),
            data_source_ref: from(None, "Dump", "second", Some("lab")),
            ..Claim::default()
        };
        let source = Source::of(&claim, false).unwrap().unwrap();
        assert_eq!(source.to_string(), "PersistentVolumeClaim shop/first");
    }
}
