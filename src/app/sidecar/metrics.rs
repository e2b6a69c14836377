//! What sidecars count: calls to the driver all of them, leadership and panics the controllers.

use std::time::Duration;

use crate::telemetry::metrics::{Counter, Gauge, Histogram, MetricsError, Registry};

/// Upstream's buckets for calls to the driver, in seconds.
const CALL_BUCKETS: [f64; 13] = [
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 25.0, 50.0, 120.0, 300.0, 600.0,
];

/// The label that calls to some drivers have only.
const MIGRATED: &str = "migrated";

/// Calls to the driver, which every sidecar with metrics counts. Clones count into the same family.
#[derive(Clone)]
pub struct CallMetrics(Histogram<4>);

impl CallMetrics {
    /// Registers the family.
    ///
    /// # Errors
    /// It is registered already.
    pub fn new(registry: &Registry) -> Result<Self, MetricsError> {
        Ok(Self(registry.histogram_with_optional(
            "csi_sidecar_operations_seconds",
            "Time that calls to the CSI driver took, with the gRPC code of the answer.",
            ["driver_name", "method_name", "grpc_status_code", MIGRATED],
            MIGRATED,
            &CALL_BUCKETS,
        )?))
    }

    /// A call to the driver was answered. `method` is the full gRPC path, `code` the code's Go name (`OK`, …). `migrated`:
    /// for drivers that took over from an in-tree plugin, whether what the plugin left behind was the reason.
    pub fn call(&self, driver: &str, method: &str, code: &str, migrated: Option<bool>, took: Duration) {
        let migrated = migrated.map_or("", |migrated| if migrated { "true" } else { "false" });
        self.0.observe([driver, method, code, migrated], took);
    }
}

/// What every controller has besides: leadership and panics. Clones count into the same families.
#[derive(Clone)]
pub struct ControllerMetrics {
    leading: Gauge<1>,
    slow_path: Counter<1>,
    panics: Counter<0>,
}

impl ControllerMetrics {
    /// Registers the families.
    ///
    /// # Errors
    /// They are registered already.
    pub fn new(registry: &Registry) -> Result<Self, MetricsError> {
        Ok(Self {
            leading: registry.gauge(
                "leader_election_master_status",
                "1 while this replica holds the lease of that name, else 0.",
                ["name"],
            )?,
            slow_path: registry.counter(
                "leader_election_slowpath_total",
                "Renewals that had to read the lease again before they wrote it.",
                ["name"],
            )?,
            panics: registry.counter(
                "volwright_panics_total",
                "Panics that were caught; each cost one attempt on one object, and each is a defect.",
                [],
            )?,
        })
    }

    /// Whether this replica holds that lease.
    pub fn leading(&self, lease: &str, leads: bool) {
        self.leading.set([lease], leads.into());
    }

    /// A renewal of that lease had to read it again first.
    pub fn renewed_slowly(&self, lease: &str) {
        self.slow_path.inc([lease]);
    }

    /// A panic was caught.
    pub fn panicked(&self) {
        self.panics.inc([]);
    }
}
