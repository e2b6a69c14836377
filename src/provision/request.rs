//! Pure. The parts of a CreateVolume request.

pub use crate::base::parameters::{ParameterError, fs_type, parameters};
use crate::{
    base::secrets::PREFIX,
    cluster::objects::{Claim, Class},
    csi::{
        DriverInfo,
        proto::{
            VolumeCapability,
            volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume, access_mode::Mode},
        },
    },
};

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
    let access_type = if claim.is_block() {
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
