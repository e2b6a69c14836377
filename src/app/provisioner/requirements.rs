//! Pure. What a driver must be capable of to be served by a provisioner.

use crate::csi::DriverInfo;

/// The capability that a driver lacks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MissingCapability {
    /// GetPluginCapabilities lacks CONTROLLER_SERVICE.
    #[error(
        "the CSI driver {driver} does not offer the Controller service (CONTROLLER_SERVICE), so it cannot make \
         volumes: check that the socket is the one of its controller part"
    )]
    ControllerService {
        /// The driver's name.
        driver: String,
    },
    /// ControllerGetCapabilities lacks CREATE_DELETE_VOLUME.
    #[error(
        "the CSI driver {driver} cannot create and delete volumes (CREATE_DELETE_VOLUME is missing from its \
         controller's capabilities): it needs no provisioner"
    )]
    CreateDeleteVolume {
        /// The driver's name.
        driver: String,
    },
}

/// Refuses a driver that cannot create and delete volumes.
pub(super) fn check(driver: &DriverInfo) -> Result<(), MissingCapability> {
    let name = || driver.name.clone();
    if !driver.controller_service {
        Err(MissingCapability::ControllerService { driver: name() })
    } else if !driver.create_delete_volume {
        Err(MissingCapability::CreateDeleteVolume { driver: name() })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_is_refused_for_the_first_capability_that_it_lacks() {
        let name = || "d.io".to_owned();
        let controller_service = Err(MissingCapability::ControllerService { driver: name() });
        let create_delete = Err(MissingCapability::CreateDeleteVolume { driver: name() });
        for (has_controller_service, has_create_delete, expected) in [
            (true, true, Ok(())),
            (false, true, controller_service.clone()),
            (true, false, create_delete),
            (false, false, controller_service),
        ] {
            let driver = DriverInfo {
                name: name(),
                controller_service: has_controller_service,
                create_delete_volume: has_create_delete,
                ..DriverInfo::default()
            };
            assert_eq!(check(&driver), expected, "{driver:?}");
        }
    }
}
