//! Pure. The parts of a CreateVolume request.

use std::collections::BTreeMap;

use crate::{
    base::secrets::{PREFIX, is_secret_key},
    cluster::objects::{Claim, Class},
    csi::{
        DriverInfo,
        proto::{
            VolumeCapability,
            volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume, access_mode::Mode},
        },
    },
};

/// Why the parameters of a class cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParameterError {
    /// The file system type is given more than once.
    #[error("parameters {0} and {1} both give the file system type: remove one")]
    FsTypeTwice(String, String),
    /// A key under the reserved prefix that nobody knows.
    #[error("parameter {0} is unknown: keys under {PREFIX} are reserved, remove it or correct its name")]
    Unknown(String),
}

const FS_TYPE: &str = "fstype";

/// The file system type: `csi.storage.k8s.io/fstype`, or the deprecated `fstype` in any case of letters.
///
/// # Errors
/// [`ParameterError::FsTypeTwice`]
pub fn fs_type(parameters: &BTreeMap<String, String>, default: &str) -> Result<String, ParameterError> {
    let names_it = |key: &str| key.eq_ignore_ascii_case(FS_TYPE) || key.strip_prefix(PREFIX) == Some(FS_TYPE);
    let mut found = parameters.iter().filter(|(key, _)| names_it(key));
    let Some((first, value)) = found.next() else {
        return Ok(default.to_owned());
    };
    if let Some((second, _)) = found.next() {
        return Err(ParameterError::FsTypeTwice(first.clone(), second.clone()));
    }
    Ok(if value.is_empty() { default } else { value }.to_owned())
}

/// The parameters that the driver gets: the class's, without those that are meant for the sidecars.
///
/// # Errors
/// [`ParameterError::Unknown`]
pub fn parameters(class: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, ParameterError> {
    let mut passed = BTreeMap::new();
    for (key, value) in class {
        match key.strip_prefix(PREFIX) {
            None => {
                passed.insert(key.clone(), value.clone());
            }
            Some(reserved) if reserved == FS_TYPE || is_secret_key(reserved) => {}
            Some(_) => return Err(ParameterError::Unknown(key.clone())),
        }
    }
    Ok(passed)
}

/// `--extra-create-metadata`: which claim and volume this is, for drivers that label what they make.
pub fn extra_metadata(claim: &Claim, volume: &str) -> [(String, String); 3] {
    let of = |key: &str, value: &str| (format!("{PREFIX}{key}"), value.to_owned());
    [
        of("pvc/name", &claim.name),
        of("pvc/namespace", &claim.namespace),
        of("pv/name", volume),
    ]
}

/// One capability per access mode of the claim, in its order, duplicates kept, as upstream sends them.
///
/// # Errors
/// The access mode that CSI does not know.
pub fn capabilities(
    claim: &Claim,
    class: &Class,
    driver: &DriverInfo,
    fs_type: &str,
) -> Result<Vec<VolumeCapability>, String> {
    let access_type = if claim.volume_mode.as_deref() == Some("Block") {
        AccessType::Block(BlockVolume::default())
    } else {
        AccessType::Mount(MountVolume {
            fs_type: fs_type.to_owned(),
            mount_flags: class.mount_options.clone(),
            ..MountVolume::default()
        })
    };
    let capability = |mode: &String| {
        let mode = access_mode(mode, driver.single_node_multi_writer).ok_or_else(|| mode.clone())?;
        Ok(VolumeCapability {
            access_mode: Some(AccessMode { mode: mode.into() }),
            access_type: Some(access_type.clone()),
        })
    };
    claim.access_modes.iter().map(capability).collect()
}

/// CSI knew SINGLE_NODE_WRITER alone at first; a driver says whether it tells the two finer modes apart.
fn access_mode(mode: &str, fine: bool) -> Option<Mode> {
    Some(match (mode, fine) {
        ("ReadWriteMany", _) => Mode::MultiNodeMultiWriter,
        ("ReadOnlyMany", _) => Mode::MultiNodeReaderOnly,
        ("ReadWriteOnce", true) => Mode::SingleNodeMultiWriter,
        ("ReadWriteOncePod", true) => Mode::SingleNodeSingleWriter,
        ("ReadWriteOnce" | "ReadWriteOncePod", false) => Mode::SingleNodeWriter,
        _ => return None,
    })
}
