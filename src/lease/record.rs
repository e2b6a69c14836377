//! Pure. What a Lease object says, read from and written into the raw object.
//!
//! The object is never rebuilt from a typed copy: a PUT of one would drop fields that are newer than our types, and the
//! lease is shared with upstream's replicas during a migration.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use crate::cluster::lease_object::{edit, label, new_lease};

/// The election's part of a Lease.
///
/// The times are kept as text: they are compared and passed on, never trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct LeaderElectionRecord {
    /// Who leads; empty when nobody does.
    pub(super) holder: String,
    /// For how many seconds without a change the lease stays the holder's.
    pub(super) seconds: i64,
    /// When the holder began to lead, by its own clock.
    pub(super) acquired: String,
    /// When the holder last renewed, by its own clock.
    pub(super) renewed: String,
    /// How often the holder changed.
    pub(super) transitions: i64,
}

impl LeaderElectionRecord {
    /// What the object says. Nonsense reads as absent, which is never a reason to take over early.
    pub(super) fn read(lease: &Value) -> Self {
        let spec = &lease["spec"];
        let text = |field: &str| spec[field].as_str().unwrap_or_default().to_owned();
        Self {
            holder: text("holderIdentity"),
            seconds: spec["leaseDurationSeconds"].as_i64().unwrap_or_default(),
            acquired: text("acquireTime"),
            renewed: text("renewTime"),
            transitions: transitions(lease),
        }
    }

    /// How long the lease stays the holder's without a change, or `otherwise` where the record does not say.
    pub(super) fn duration(&self, otherwise: Duration) -> Duration {
        match u64::try_from(self.seconds) {
            Ok(seconds @ 1..) => Duration::from_secs(seconds),
            _ => otherwise,
        }
    }

    /// Puts the record and the labels into the object, and leaves everything else in it alone.
    pub(super) fn write(&self, lease: &mut Value, labels: &BTreeMap<String, String>) {
        let Self {
            holder,
            seconds,
            acquired,
            renewed,
            transitions,
        } = self;
        edit(lease, "spec", |spec| {
            spec.insert("holderIdentity".into(), json!(holder));
            spec.insert("leaseDurationSeconds".into(), json!(seconds));
            spec.insert("acquireTime".into(), json!(acquired));
            spec.insert("renewTime".into(), json!(renewed));
            spec.insert("leaseTransitions".into(), json!(transitions));
        });
        label(lease, labels);
    }

    /// A new Lease object.
    pub(super) fn lease(&self, namespace: &str, name: &str, labels: &BTreeMap<String, String>) -> Value {
        let mut lease = new_lease(namespace, name);
        self.write(&mut lease, labels);
        lease
    }
}

/// How often the Lease has changed hands, as it says.
pub(super) fn transitions(lease: &Value) -> i64 {
    lease["spec"]["leaseTransitions"].as_i64().unwrap_or_default()
}

#[cfg(test)]
mod tests {

    use super::*;

    fn record() -> LeaderElectionRecord {
        LeaderElectionRecord {
            holder: "a".into(),
            seconds: 15,
            acquired: "2025-11-21T04:36:01.000000Z".into(),
            renewed: "2025-11-21T04:36:06.123456Z".into(),
            transitions: 3,
        }
    }

    #[test]
    fn a_write_keeps_what_it_does_not_know() {
        let mut lease = json!({
            "metadata": {
                "name": "x", "resourceVersion": "7", "labels": {"theirs": "1", "ours": "old"},
                "annotations": {"a": "b"}, "fieldFromTheFuture": [1],
            },
            "spec": {"holderIdentity": "b", "preferredHolder": "c", "strategy": "OldestEmulationVersion"},
            "status": {"new": true},
        });
        let mut wanted = lease.clone();
        record().write(&mut lease, &BTreeMap::from([("ours".into(), "new".into())]));
        assert_eq!(LeaderElectionRecord::read(&lease), record());
        wanted["metadata"]["labels"]["ours"] = json!("new");
        for (key, value) in lease["spec"].as_object().unwrap() {
            if !["preferredHolder", "strategy"].contains(&key.as_str()) {
                wanted["spec"][key] = value.clone();
            }
        }
        assert_eq!(lease, wanted);
    }

    #[test]
    fn labels_are_set_on_a_new_lease_and_absent_without_any() {
        let labels = BTreeMap::from([("team".to_owned(), "storage".to_owned())]);
        let lease = record().lease("ns", "name", &labels);
        assert_eq!(
            lease["metadata"],
            json!({"namespace": "ns", "name": "name", "labels": {"team": "storage"}})
        );
        assert_eq!(
            record().lease("ns", "name", &BTreeMap::new())["metadata"].get("labels"),
            None
        );
    }

    #[test]
    fn nonsense_reads_as_absent() {
        for odd in [
            json!(null),
            json!([]),
            json!({"spec": 3}),
            json!({"spec": {"holderIdentity": 7, "leaseTransitions": "x"}}),
        ] {
            let read = LeaderElectionRecord::read(&odd);
            assert_eq!(read, LeaderElectionRecord::default(), "{odd}");
            assert_eq!(read.duration(Duration::from_secs(15)), Duration::from_secs(15));
            let mut lease = odd;
            record().write(&mut lease, &BTreeMap::new());
            assert_eq!(LeaderElectionRecord::read(&lease), record());
        }
        let negative = LeaderElectionRecord {
            seconds: -1,
            ..record()
        };
        assert_eq!(
            negative.duration(Duration::from_secs(15)),
            Duration::from_secs(15)
        );
    }
}
