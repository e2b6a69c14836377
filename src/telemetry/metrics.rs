//! The metrics page: upstream's families with their names, labels and buckets, and a few of ours.
//!
//! The classic text format 0.0.4, as upstream serves it. Callers hand in plain values; nobody else
//! sees the metrics library. A family with labels appears with its first observation.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use super::queue::{QueueFamilies, QueueMetrics};

/// What the page is served as.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upstream's buckets for calls to the driver, in seconds.
const CALL: [f64; 13] = [
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 25.0, 50.0, 120.0, 300.0, 600.0,
];
/// The Go client's default buckets, in seconds, which upstream uses for claims and volumes.
const DEFAULT: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The metrics cannot be set up; a defect in this program.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up the metrics, a defect in this program: {0}")]
pub struct MetricsError(#[from] prometheus::Error);

/// Everything that is counted. Clones count into the same families.
#[derive(Clone)]
pub struct Metrics(Arc<Families>);

struct Families {
    registry: Registry,
    calls: HistogramVec,
    provisioned: IntCounterVec,
    provision_failed: IntCounterVec,
    provision_took: HistogramVec,
    deleted: IntCounterVec,
    delete_failed: IntCounterVec,
    delete_took: HistogramVec,
    leading: IntGaugeVec,
    slow_path: IntCounterVec,
    queues: QueueFamilies,
    known_queues: Mutex<BTreeMap<String, QueueMetrics>>,
    endpoints: IntCounterVec,
    pages_in_flight: IntGauge,
    panics: IntCounter,
    records: IntGaugeVec,
}

/// Makes the families and keeps them in one registry.
struct Maker(Registry);

impl Maker {
    fn keep<C: Collector + Clone + 'static>(&self, family: C) -> Result<C, prometheus::Error> {
        self.0.register(Box::new(family.clone()))?;
        Ok(family)
    }

    fn counter(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
        self.keep(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    fn gauge(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
        self.keep(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn histogram(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> Result<HistogramVec, prometheus::Error> {
        self.keep(HistogramVec::new(
            HistogramOpts::new(name, help).buckets(buckets.to_vec()),
            labels,
        )?)
    }
}

impl Metrics {
    /// All families, in a registry of their own.
    pub fn new() -> Result<Self, MetricsError> {
        let make = Maker(Registry::new());
        let families = Families {
            calls: make.histogram(
                "csi_sidecar_operations_seconds",
                "Time that calls to the CSI driver took, with the gRPC code of the answer.",
                &["driver_name", "method_name", "grpc_status_code"],
                &CALL,
            )?,
            provisioned: make.counter(
                "controller_persistentvolumeclaim_provision_total",
                "Claims for which a volume was made.",
                &["class", "source"],
            )?,
            provision_failed: make.counter(
                "controller_persistentvolumeclaim_provision_failed_total",
                "Failed attempts to make a volume for a claim.",
                &["class", "source"],
            )?,
            provision_took: make.histogram(
                "controller_persistentvolumeclaim_provision_duration_seconds",
                "Time that successful attempts to make a volume took.",
                &["class", "source"],
                &DEFAULT,
            )?,
            deleted: make.counter(
                "controller_persistentvolume_delete_total",
                "Volumes that were deleted.",
                &["class"],
            )?,
            delete_failed: make.counter(
                "controller_persistentvolume_delete_failed_total",
                "Failed attempts to delete a volume.",
                &["class"],
            )?,
            delete_took: make.histogram(
                "controller_persistentvolume_delete_duration_seconds",
                "Time that successful attempts to delete a volume took.",
                &["class"],
                &DEFAULT,
            )?,
            leading: make.gauge(
                "leader_election_master_status",
                "1 while this replica holds the lease of that name, else 0.",
                &["name"],
            )?,
            slow_path: make.counter(
                "leader_election_slowpath_total",
                "Renewals that had to read the lease again before they wrote it.",
                &["name"],
            )?,
            queues: QueueFamilies::new(&make.0)?,
            known_queues: Mutex::default(),
            endpoints: make.counter(
                "promhttp_metric_handler_requests_total",
                "Answers of the metrics page, by HTTP code.",
                &["code"],
            )?,
            pages_in_flight: make.keep(IntGauge::new(
                "promhttp_metric_handler_requests_in_flight",
                "Requests for the metrics page that are being answered.",
            )?)?,
            panics: make.keep(IntCounter::new(
                "volwright_panics_total",
                "Panics that were caught; each cost one attempt on one object, and each is a defect.",
            )?)?,
            records: make.gauge(
                "volwright_records",
                "Records of volumes that may exist at the driver although no PersistentVolume says so, by state.",
                &["state"],
            )?,
            registry: make.0,
        };
        #[cfg(target_os = "linux")]
        families.registry.register(Box::new(
            prometheus::process_collector::ProcessCollector::for_self(),
        ))?;
        for code in ["200", "500", "503"] {
            families.endpoints.with_label_values(&[code]);
        }
        Ok(Self(Arc::new(families)))
    }

    /// A call to the driver was answered. `method` is the full gRPC path, `code` the code's Go name (`OK`, …).
    pub fn call(&self, driver: &str, method: &str, code: &str, took: Duration) {
        self.0
            .calls
            .with_label_values(&[driver, method, code])
            .observe(took.as_secs_f64());
    }

    /// A claim got its volume. `source` is the kind of its data source or empty.
    pub fn provision_succeeded(&self, class: &str, source: &str, took: Duration) {
        self.0.provisioned.with_label_values(&[class, source]).inc();
        self.0
            .provision_took
            .with_label_values(&[class, source])
            .observe(took.as_secs_f64());
    }

    /// An attempt to make a volume failed.
    pub fn provision_failed(&self, class: &str, source: &str) {
        self.0.provision_failed.with_label_values(&[class, source]).inc();
    }

    /// A volume was deleted.
    pub fn delete_succeeded(&self, class: &str, took: Duration) {
        self.0.deleted.with_label_values(&[class]).inc();
        self.0
            .delete_took
            .with_label_values(&[class])
            .observe(took.as_secs_f64());
    }

    /// An attempt to delete a volume failed.
    pub fn delete_failed(&self, class: &str) {
        self.0.delete_failed.with_label_values(&[class]).inc();
    }

    /// Whether this replica holds that lease. Call it once at start, so that the family shows on standbys.
    pub fn leading(&self, lease: &str, leads: bool) {
        self.0.leading.with_label_values(&[lease]).set(leads.into());
    }

    /// A renewal of that lease had to read it again first.
    pub fn renewed_slowly(&self, lease: &str) {
        self.0.slow_path.with_label_values(&[lease]).inc();
    }

    /// The queue of that name; the same one for the same name.
    pub fn queue(&self, name: &str) -> QueueMetrics {
        let mut known = self.0.known_queues.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .entry(name.to_owned())
            .or_insert_with(|| QueueMetrics::new(&self.0.queues, name))
            .clone()
    }

    /// A panic was caught.
    pub fn panicked(&self) {
        self.0.panics.inc();
    }

    /// So many ledger records are in that state now.
    pub fn records(&self, state: &str, count: usize) {
        self.0
            .records
            .with_label_values(&[state])
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// The page in [`CONTENT_TYPE`]; with `only` not empty just the families named there.
    pub fn page(&self, only: &[String]) -> Result<String, MetricsError> {
        let families = &*self.0;
        families.pages_in_flight.inc();
        let page = self.write(only);
        families.pages_in_flight.dec();
        families
            .endpoints
            .with_label_values(&[if page.is_ok() { "200" } else { "500" }])
            .inc();
        page
    }

    fn write(&self, only: &[String]) -> Result<String, MetricsError> {
        for queue in self
            .0
            .known_queues
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
        {
            queue.refresh();
        }
        let mut families = self.0.registry.gather();
        families.retain(|family| only.is_empty() || only.iter().any(|name| name == family.name()));
        Ok(super::queue::bounds_as_go_writes_them(
            TextEncoder::new().encode_to_string(&families)?,
        ))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn full() -> Metrics {
        let metrics = Metrics::new().unwrap();
        metrics.call(
            "lab.csi.example.com",
            "/csi.v1.Controller/CreateVolume",
            "OK",
            Duration::from_millis(300),
        );
        metrics.provision_succeeded("gold", "", Duration::from_secs(1));
        metrics.provision_failed("gold", "VolumeSnapshot");
        metrics.delete_succeeded("gold", Duration::from_secs(1));
        metrics.delete_failed("gold");
        metrics.leading("lab-csi-example-com", true);
        metrics.renewed_slowly("lab-csi-example-com");
        metrics.panicked();
        metrics.records("open", 2);
        let queue = metrics.queue("claims");
        queue.add("a");
        queue.get("a");
        queue.done("a");
        queue.retry();
        metrics
    }

    #[test]
    fn every_family_has_upstreams_name_labels_and_buckets() {
        let page = full().page(&[]).unwrap();
        let rows = [
            "csi_sidecar_operations_seconds_bucket{driver_name=\"lab.csi.example.com\",grpc_status_code=\"OK\",method_name=\"/csi.v1.Controller/CreateVolume\",le=\"0.25\"} 0",
            "csi_sidecar_operations_seconds_bucket{driver_name=\"lab.csi.example.com\",grpc_status_code=\"OK\",method_name=\"/csi.v1.Controller/CreateVolume\",le=\"600\"} 1",
            "controller_persistentvolumeclaim_provision_total{class=\"gold\",source=\"\"} 1",
            "controller_persistentvolumeclaim_provision_failed_total{class=\"gold\",source=\"VolumeSnapshot\"} 1",
            "controller_persistentvolumeclaim_provision_duration_seconds_bucket{class=\"gold\",source=\"\",le=\"0.005\"} 0",
            "controller_persistentvolume_delete_total{class=\"gold\"} 1",
            "controller_persistentvolume_delete_failed_total{class=\"gold\"} 1",
            "controller_persistentvolume_delete_duration_seconds_bucket{class=\"gold\",le=\"10\"} 1",
            "leader_election_master_status{name=\"lab-csi-example-com\"} 1",
            "leader_election_slowpath_total{name=\"lab-csi-example-com\"} 1",
            "workqueue_depth{name=\"claims\"} 0",
            "workqueue_adds_total{name=\"claims\"} 1",
            "workqueue_retries_total{name=\"claims\"} 1",
            "workqueue_unfinished_work_seconds{name=\"claims\"} 0",
            "workqueue_longest_running_processor_seconds{name=\"claims\"} 0",
            "workqueue_queue_duration_seconds_bucket{name=\"claims\",le=\"1e-08\"} ",
            "workqueue_queue_duration_seconds_bucket{name=\"claims\",le=\"9.999999999999999e-06\"} ",
            "workqueue_work_duration_seconds_count{name=\"claims\"} 1",
            "promhttp_metric_handler_requests_in_flight 1",
            "promhttp_metric_handler_requests_total{code=\"503\"} 0",
            "volwright_panics_total 1",
            "volwright_records{state=\"open\"} 2",
            "# TYPE process_resident_memory_bytes gauge",
            "# TYPE process_cpu_seconds_total counter",
            "# TYPE controller_persistentvolumeclaim_provision_total counter",
        ];
        for row in rows {
            assert!(
                page.lines().any(|line| line.starts_with(row)),
                "{row}\nis not in\n{page}"
            );
        }
    }

    #[test]
    fn the_page_can_be_narrowed_to_named_families() {
        let metrics = full();
        let only = ["workqueue_depth".to_owned(), "no_such_family".to_owned()];
        let page = metrics.page(&only).unwrap();
        let names: Vec<_> = page.lines().filter(|line| line.starts_with("# TYPE")).collect();
        assert_eq!(names, ["# TYPE workqueue_depth gauge"]);
        assert!(metrics.page(&only[1..]).unwrap().is_empty());
    }

    #[test]
    fn label_values_cannot_break_the_page() {
        let metrics = Metrics::new().unwrap();
        metrics.provision_failed("a\"b\nc\\", "le=\"0.00000001\"");
        let page = metrics.page(&[]).unwrap();
        assert!(
            page.contains("class=\"a\\\"b\\nc\\\\\",source=\"le=\\\"0.00000001\\\"\"} 1"),
            "{page}"
        );
    }
}
