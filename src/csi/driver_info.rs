//! Pure. Who the driver is and what it can do, read from its answers.

use super::proto::{
    self, ControllerGetCapabilitiesResponse, GetPluginCapabilitiesResponse, GetPluginInfoResponse,
    controller_service_capability, plugin_capability,
};
use crate::base::segment::Segment;

/// The longest name that Kubernetes accepts in a PersistentVolume, and CSI for a driver; bytes.
const NAME_LIMIT: usize = 63;

/// What the driver says of itself, as far as the sidecar needs to know. Capabilities that this specification does not
/// know are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DriverInfo {
    /// What classes and claims call the driver.
    pub name: String,
    /// The driver's own version, for people.
    pub vendor_version: String,
    /// Serves the Controller service at all.
    pub controller_service: bool,
    /// Volumes are not reachable from everywhere (`VOLUME_ACCESSIBILITY_CONSTRAINTS`).
    pub topology: bool,
    /// CreateVolume and DeleteVolume.
    pub create_delete_volume: bool,
    /// Volumes are attached and detached, so deletion has to wait for that.
    pub publish_unpublish: bool,
    /// ListVolumes.
    pub list_volumes: bool,
    /// GetCapacity.
    pub get_capacity: bool,
    /// CreateSnapshot and DeleteSnapshot.
    pub create_delete_snapshot: bool,
    /// A volume can start as a copy of another.
    pub clone: bool,
    /// Tells the access modes SINGLE_NODE_SINGLE_WRITER and SINGLE_NODE_MULTI_WRITER apart.
    pub single_node_multi_writer: bool,
    /// ControllerModifyVolume and mutable parameters.
    pub modify_volume: bool,
    /// Where the node is that the driver runs on: asked for only where the sidecar serves one node.
    pub node: Option<NodeInfo>,
}

/// What NodeGetInfo says, as far as volumes are concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeInfo {
    /// The segment that the node is in; empty if the driver does not say.
    pub segment: Segment,
}

/// Why a sidecar cannot serve a driver.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnsupportedDriver {
    /// GetPluginInfo answered without a name.
    #[error("the CSI driver has no name: its GetPluginInfo must answer with one")]
    NoName,
    /// The sidecar serves one node, and the driver does not know where that is.
    #[error(
        "the CSI driver does not implement NodeGetInfo, which --node-deployment needs: check that the socket is the one \
         of its node plugin"
    )]
    NoNodeService,
    /// No PersistentVolume could carry this name, so every volume would be lost.
    #[error(
        "the CSI driver's name {name:?} cannot be used: Kubernetes wants at most {NAME_LIMIT} characters, \
         letters, digits, '-' and '.', and a letter or digit at both ends of each part between dots"
    )]
    OddName {
        /// As the driver gave it.
        name: String,
    },
}

impl DriverInfo {
    /// A driver of which nothing but its name and version is known.
    pub(super) fn new(info: GetPluginInfoResponse) -> Self {
        Self {
            name: info.name,
            vendor_version: info.vendor_version,
            ..Self::default()
        }
    }

    /// Whether a PersistentVolume could name the driver.
    pub(super) fn check_name(&self) -> Result<(), UnsupportedDriver> {
        match nameable(&self.name) {
            true => Ok(()),
            false => Err(UnsupportedDriver::OddName {
                name: self.name.clone(),
            }),
        }
    }

    /// Adds what the two answers name.
    pub fn read_capabilities(
        &mut self,
        plugin: &GetPluginCapabilitiesResponse,
        controller: &ControllerGetCapabilitiesResponse,
    ) {
        for capability in &plugin.capabilities {
            // Upstream skips entries without content too.
            let Some(plugin_capability::Type::Service(service)) = &capability.r#type else {
                continue;
            };
            use plugin_capability::service::Type as Is;
            match service.r#type() {
                Is::ControllerService => self.controller_service = true,
                Is::VolumeAccessibilityConstraints => self.topology = true,
                _ => {}
            }
        }
        for capability in &controller.capabilities {
            let Some(controller_service_capability::Type::Rpc(rpc)) = &capability.r#type else {
                continue;
            };
            use proto::controller_service_capability::rpc::Type as Is;
            match rpc.r#type() {
                Is::CreateDeleteVolume => self.create_delete_volume = true,
                Is::PublishUnpublishVolume => self.publish_unpublish = true,
                Is::ListVolumes => self.list_volumes = true,
                Is::GetCapacity => self.get_capacity = true,
                Is::CreateDeleteSnapshot => self.create_delete_snapshot = true,
                Is::CloneVolume => self.clone = true,
                Is::SingleNodeMultiWriter => self.single_node_multi_writer = true,
                Is::ModifyVolume => self.modify_volume = true,
                _ => {}
            }
        }
    }
}

/// The API server's rule for `spec.csi.driver`: a DNS subdomain, capitals allowed. CSI's own rule is a little
/// wider (it lets dots and dashes touch), but such a volume could never be written down.
fn nameable(name: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    name.len() <= NAME_LIMIT
        && name.split('.').map(str::as_bytes).all(|part| {
            edge(part.first())
                && edge(part.last())
                && part
                    .iter()
                    .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_a_persistent_volume_can_carry() {
        let longest = "a".repeat(63);
        let too_long = "a".repeat(64);
        let rows = [
            ("hostpath.csi.k8s.io", true),
            ("EBS.csi.aws.com", true),
            ("a", true),
            ("a--b", true),
            (&longest, true),
            (&too_long, false),
            (".a", false),
            ("a-", false),
            ("a..b", false),
            ("a.-b", false),
            ("a b", false),
            ("a/b", false),
            ("a_b", false),
            ("\u{fc}ber.io", false),
            ("a\nb", false),
        ];
        for (name, good) in rows {
            assert_eq!(nameable(name), good, "{name:?}");
            let refused = UnsupportedDriver::OddName { name: name.into() };
            let driver_info = DriverInfo {
                name: name.into(),
                ..DriverInfo::default()
            };
            assert_eq!(driver_info.check_name(), if good { Ok(()) } else { Err(refused) });
        }
    }

    #[test]
    fn entries_without_content_and_capabilities_of_tomorrow_are_left_out() {
        use controller_service_capability::{Rpc, Type, rpc};
        let controller = ControllerGetCapabilitiesResponse {
            capabilities: [
                None,
                Some(99),
                Some(rpc::Type::CloneVolume as i32),
                Some(0),
                Some(-1),
            ]
            .map(|number| proto::ControllerServiceCapability {
                r#type: number.map(|number| Type::Rpc(Rpc { r#type: number })),
            })
            .into(),
        };
        let mut driver_info = DriverInfo::default();
        driver_info.read_capabilities(&Default::default(), &controller);
        assert_eq!(
            driver_info,
            DriverInfo {
                clone: true,
                ..DriverInfo::default()
            }
        );
    }
}
