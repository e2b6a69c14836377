//! What the controller counts about the deletion of volumes: upstream's families.

use std::time::Duration;

use crate::telemetry::metrics::{Counter, DEFAULT_BUCKETS, Histogram, MetricsError, Registry};

/// The families of deletion. Clones count into the same ones.
#[derive(Clone)]
pub struct ReclaimMetrics {
    succeeded: Counter<1>,
    failed: Counter<1>,
    duration: Histogram<1>,
}

impl ReclaimMetrics {
    /// Registers the families.
    ///
    /// # Errors
    /// They are registered already.
    pub fn new(registry: &Registry) -> Result<Self, MetricsError> {
        let labels = ["class"];
        Ok(Self {
            succeeded: registry.counter(
                "controller_persistentvolume_delete_total",
                "Volumes that were deleted.",
                labels,
            )?,
            failed: registry.counter(
                "controller_persistentvolume_delete_failed_total",
                "Failed attempts to delete a volume.",
                labels,
            )?,
            duration: registry.histogram(
                "controller_persistentvolume_delete_duration_seconds",
                "Time that successful attempts to delete a volume took.",
                labels,
                DEFAULT_BUCKETS,
            )?,
        })
    }

    /// A volume was deleted.
    pub fn delete_succeeded(&self, class: &str, took: Duration) {
        self.succeeded.inc([class]);
        self.duration.observe([class], took);
    }

    /// An attempt to delete a volume failed.
    pub fn delete_failed(&self, class: &str) {
        self.failed.inc([class]);
    }
}
