//! What the controller counts: upstream's gauges, and two that tell whether it works.

use crate::telemetry::metrics::{MetricsError, Registry};

/// How things are at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapacityCounts {
    /// Items that are wanted.
    pub desired: usize,
    /// Those of them that have an object.
    pub current: usize,
    /// Objects of no item that is wanted.
    pub obsolete: usize,
    /// Items whose last attempt failed.
    pub failing: usize,
    /// Lists, rights and owner are there.
    pub ready: bool,
}

/// Registers the families; `counts` is asked whenever the page is read. It should not own the controller.
///
/// # Errors
/// They are registered already.
pub fn register(
    registry: &Registry,
    counts: impl Fn() -> CapacityCounts + Send + Sync + 'static,
) -> Result<(), MetricsError> {
    let families = [
        (
            "csistoragecapacities_desired_goal",
            "CSIStorageCapacity objects that are wanted.",
        ),
        (
            "csistoragecapacities_desired_current",
            "CSIStorageCapacity objects that are wanted and there.",
        ),
        (
            "csistoragecapacities_obsolete",
            "CSIStorageCapacity objects that are there and not wanted.",
        ),
        (
            "volwright_capacity_failing",
            "Capacities that could not be published at the last attempt.",
        ),
        (
            "volwright_capacity_ready",
            "1 while this replica publishes capacity; 0 if it does not lead, or lacks a list or the owner.",
        ),
    ];
    registry.gauges_from(families, move || {
        let CapacityCounts {
            desired,
            current,
            obsolete,
            failing,
            ready,
        } = counts();
        [desired, current, obsolete, failing, ready.into()]
            .map(|count| i64::try_from(count).unwrap_or(i64::MAX))
    })
}
