//! What the controller counts about provisioning: upstream's families, and what became of records.

use std::time::Duration;

use crate::telemetry::metrics::{Counter, DEFAULT_BUCKETS, Histogram, MetricsError, Registry};

/// The families of provisioning. Clones count into the same ones.
#[derive(Clone)]
pub struct ProvisionMetrics {
    succeeded: Counter<2>,
    failed: Counter<2>,
    duration: Histogram<2>,
    settled: Counter<1>,
}

/// What became of a record that was found at the beginning of a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Its PersistentVolume was written.
    Saved,
    /// Its volume had a PersistentVolume.
    Found,
    /// The driver has no volume for it.
    Erased,
    /// It is held, whoever has left it. The ledger tells.
    Held,
}

impl ProvisionMetrics {
    /// Registers the families.
    ///
    /// # Errors
    /// They are registered already.
    pub fn new(registry: &Registry) -> Result<Self, MetricsError> {
        let labels = ["class", "source"];
        Ok(Self {
            succeeded: registry.counter(
                "controller_persistentvolumeclaim_provision_total",
                "Claims for which a volume was made.",
                labels,
            )?,
            failed: registry.counter(
                "controller_persistentvolumeclaim_provision_failed_total",
                "Failed attempts to make a volume for a claim.",
                labels,
            )?,
            duration: registry.histogram(
                "controller_persistentvolumeclaim_provision_duration_seconds",
                "Time that successful attempts to make a volume took.",
                labels,
                DEFAULT_BUCKETS,
            )?,
            settled: registry.counter(
                "volwright_ledger_settled_total",
                "Records of volumes that another process has left, by what became of them; with outcome held, all that are \
                 held.",
                ["outcome"],
            )?,
        })
    }

    /// A claim got its volume. `source` is the kind of its data source or empty.
    pub fn provision_succeeded(&self, class: &str, source: &str, took: Duration) {
        self.succeeded.inc([class, source]);
        self.duration.observe([class, source], took);
    }

    /// An attempt to make a volume failed.
    pub fn provision_failed(&self, class: &str, source: &str) {
        self.failed.inc([class, source]);
    }

    /// A record was settled that was found at the beginning of a term.
    pub fn settled(&self, outcome: Settled) {
        self.settled.inc([match outcome {
            Settled::Saved => "saved",
            Settled::Found => "found",
            Settled::Erased => "erased",
            Settled::Held => "held",
        }]);
    }
}
