//! The ledger of this sidecar: where it is, and who hears of it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Identity, config::Config};
use crate::{
    cluster::events::{Event, EventRecorder, ObjectReference},
    lease::lease_name,
    ledger::{LedgerEvent, LedgerSettings, LedgerStatus, OnLedgerEvent},
    provision::metrics::{ProvisionMetrics, Settled},
    telemetry::{
        Readiness,
        metrics::{Counter, Gauge, MetricsError, Registry},
    },
};

/// What is counted about the ledger. Clones count into the same families.
#[derive(Clone)]
pub struct LedgerMetrics {
    durable: Gauge<0>,
    records: Gauge<0>,
    held: Gauge<0>,
    full: Gauge<0>,
    oldest: Gauge<0>,
    writes: Counter<0>,
    bytes: Counter<0>,
}

impl LedgerMetrics {
    /// Registers the families.
    ///
    /// # Errors
    /// They are registered already.
    pub fn new(registry: &Registry) -> Result<Self, MetricsError> {
        let gauge = |name, help| registry.gauge(name, help, []);
        let counter = |name, help| registry.counter(name, help, []);
        Ok(Self {
            durable: gauge(
                "volwright_ledger_durable",
                "1 while records of creations under way are stored in the API server, 0 while they are in memory only.",
            )?,
            records: gauge(
                "volwright_ledger_records",
                "Open records: volumes that may exist at the driver although no PersistentVolume says so.",
            )?,
            held: gauge(
                "volwright_ledger_held",
                "Records that are not acted upon until a person decides.",
            )?,
            full: gauge(
                "volwright_ledger_full",
                "1 while the last record that was to be opened found no room, so that its claim waits.",
            )?,
            oldest: gauge(
                "volwright_ledger_oldest_timestamp_seconds",
                "When the oldest open record was opened, in Unix time; 0 without one.",
            )?,
            writes: counter(
                "volwright_ledger_writes_total",
                "Writes of the Leases that hold the records.",
            )?,
            bytes: counter(
                "volwright_ledger_written_bytes_total",
                "Bytes of records in those writes.",
            )?,
        })
    }

    pub(super) fn status(&self, status: &LedgerStatus) {
        let LedgerStatus {
            in_memory,
            records,
            held,
            oldest,
            full,
            left_alone: _,
        } = status;
        let number = |count: &usize| i64::try_from(*count).unwrap_or(i64::MAX);
        self.durable.set([], in_memory.is_none().into());
        self.records.set([], number(records));
        self.held.set([], number(held));
        self.full.set([], (*full).into());
        self.oldest.set([], oldest.map_or(0, |at| at.as_second()));
    }

    pub(super) fn written(&self, bytes: usize) {
        self.writes.inc([]);
        self.bytes.add([], bytes);
    }
}

/// Where the ledger is, and how it is kept.
pub(super) fn settings(config: &Config, identity: &Identity, driver: &str) -> LedgerSettings {
    let lock = lease_name(driver);
    let labels = config.election.as_ref().map(|election| election.labels.clone());
    LedgerSettings {
        name: match &config.node {
            Some(node) => format!("{lock}-{}", node.name),
            None => lock,
        },
        namespace: identity.lease_namespace(config.lease_namespace.as_deref()),
        identity: identity.holder(),
        labels: labels.unwrap_or_default(),
        mode: config.crash_safe,
        elected: config.election.is_some(),
        driver: driver.to_owned(),
    }
}

/// Who hears of the ledger: operators, the election by `keeps_ledger`, and who reconciles the records by `settle`.
pub(super) fn listener(
    namespace: String,
    metrics: LedgerMetrics,
    ready: Readiness,
    events: EventRecorder,
    settled: ProvisionMetrics,
    keeps_ledger: Arc<AtomicBool>,
    settle: Arc<Notify>,
) -> OnLedgerEvent {
    let known = Mutex::new(None);
    Box::new(move |event| match event {
        LedgerEvent::Status(status) => {
            metrics.status(status);
            // What stands in a Lease that could not be read is not known to this leader.
            let keeps = status.in_memory.is_none() && status.left_alone.is_empty();
            keeps_ledger.store(keeps, Ordering::SeqCst);
            ready.note("ledger", note(status));
            let mut known = known.lock();
            if *known != status.in_memory {
                match &status.in_memory {
                    Some(why) => tracing::warn!(
                        "records of creations under way are in memory only, and a volume may be lost if this process \
                         ends: {why}"
                    ),
                    None => tracing::info!("records of creations under way are stored again"),
                }
                known.clone_from(&status.in_memory);
            }
        }
        LedgerEvent::Written(bytes) => metrics.written(bytes),
        LedgerEvent::Settle { uid } => {
            tracing::info!(
                claim_uid = uid,
                "a record that was held is settled, as it was asked for"
            );
            settle.notify_one();
        }
        LedgerEvent::Unreadable { uid, lease, why } => {
            let text = format!(
                "the record of the claim with UID {uid} in Lease {namespace}/{} cannot be read: {why}. It is left as it \
                 is, and the driver may have its volume. If a newer version has written it, upgrade; else look for the \
                 volume, and take the annotation ledger.volwright.dev/{uid} off this Lease",
                lease.name
            );
            tracing::warn!("{text}");
            let lease = ObjectReference::lease(&namespace, &lease.name, &lease.uid);
            events.publish(lease, Event::warning("VolumeCreationUnreadable", text));
        }
        LedgerEvent::Held { head, lease, why } => {
            settled.settled(Settled::Held);
            let text = format!(
                "the creation of volume {} for claim {} is held: {why}. If the driver has that volume and nobody needs \
                 it, delete it there and take the annotation held.volwright.dev/ off this Lease; to have the creation \
                 finished, add settle.volwright.dev/ with the same UID",
                head.volume, head.claim
            );
            tracing::warn!(lease = lease.name, "{text}");
            let lease = ObjectReference::lease(&namespace, &lease.name, &lease.uid);
            events.publish(lease, Event::warning("VolumeCreationHeld", text));
        }
    })
}

/// What an operator should know of the ledger.
fn note(status: &LedgerStatus) -> Option<String> {
    let held = (status.held > 0).then(|| {
        format!(
            "{} records are held, see the annotations of its Leases and docs/reliability.md",
            status.held
        )
    });
    let in_memory = status
        .in_memory
        .as_ref()
        .map(|why| format!("records are in memory only and do not survive this process: {why}"));
    let left_alone = status.left_alone.first().map(|why| {
        let count = status.left_alone.len();
        format!("{count} of its Leases cannot be used, and their records wait: {why}")
    });
    let full = status.full.then(|| {
        "all its Leases are full, so claims wait: see in their annotations which creations do not end, and why".to_owned()
    });
    let notes = [held, in_memory, left_alone, full];
    let notes: Vec<_> = notes.into_iter().flatten().collect();
    (!notes.is_empty()).then(|| notes.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_note_says_what_is_held_and_why_nothing_is_stored() {
        let well = LedgerStatus::default();
        assert_eq!(note(&well), None);
        let held = LedgerStatus { held: 2, ..well };
        let text = note(&held).unwrap();
        assert!(text.starts_with("2 records are held"), "{text}");
        let both = LedgerStatus {
            in_memory: Some("no right".into()),
            ..held
        };
        let text = note(&both).unwrap();
        assert!(text.contains("2 records") && text.ends_with("no right"), "{text}");
        let full = LedgerStatus {
            full: true,
            ..LedgerStatus::default()
        };
        assert!(note(&full).unwrap().contains("full"));
        let bad = LedgerStatus {
            left_alone: vec!["get leases default/lab-ledger-1: broken".into()],
            ..LedgerStatus::default()
        };
        let text = note(&bad).unwrap();
        assert!(
            text.starts_with("1 of") && text.contains("lab-ledger-1"),
            "{text}"
        );
    }
}
