//! Everything that the provisioner counts, on one page.

use std::{num::NonZeroUsize, sync::Arc};

use tokio_util::task::TaskTracker;

use super::ledger::LedgerMetrics;
use crate::{
    app::sidecar::metrics::{CallMetrics, ControllerMetrics},
    base::backoff::Backoff,
    cluster::{queue::QueueEvent, workers::WorkerPool},
    provision::metrics::ProvisionMetrics,
    reclaim::metrics::ReclaimMetrics,
    telemetry::metrics::{MetricsError, Registry},
};

/// The families, each under whoever counts it. Clones count into the same ones.
#[derive(Clone)]
pub struct Metrics {
    /// Where they are registered.
    pub registry: Registry,
    /// Calls to the driver.
    pub calls: CallMetrics,
    /// Those of every controller.
    pub controller: ControllerMetrics,
    /// Those of provisioning.
    pub provision: ProvisionMetrics,
    /// Those of deletion.
    pub reclaim: ReclaimMetrics,
    /// Those of the ledger.
    pub ledger: LedgerMetrics,
}

impl Metrics {
    /// A worker pool whose queue is counted under this name.
    pub(super) fn worker_pool(
        &self,
        name: &str,
        workers: NonZeroUsize,
        backoff: Backoff,
        tasks: TaskTracker,
    ) -> Arc<WorkerPool> {
        let (queue, panics) = (self.registry.queue(name), self.controller.clone());
        let counted = queue.clone();
        let on_event = move |event| match event {
            QueueEvent::Add => counted.add(),
            QueueEvent::Get(waited) => counted.get(waited),
            QueueEvent::Done(worked) => counted.done(worked),
            QueueEvent::Forget => counted.forget(),
            QueueEvent::Retry => counted.retry(),
        };
        let pool = WorkerPool::new(workers, backoff, tasks, Box::new(on_event), move || {
            panics.panicked()
        });
        let source = Arc::downgrade(&pool);
        queue.unfinished_from(move || source.upgrade().map_or_else(Vec::new, |pool| pool.unfinished()));
        pool
    }

    /// All families, in a registry of their own.
    ///
    /// # Errors
    /// Two families have the same name.
    pub fn new() -> Result<Self, MetricsError> {
        let registry = Registry::of_controller()?;
        Ok(Self {
            calls: CallMetrics::new(&registry)?,
            controller: ControllerMetrics::new(&registry)?,
            provision: ProvisionMetrics::new(&registry)?,
            reclaim: ReclaimMetrics::new(&registry)?,
            ledger: LedgerMetrics::new(&registry)?,
            registry,
        })
    }
}

#[cfg(test)]
mod tests {

    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;
    use crate::ledger::LedgerStatus;

    fn full() -> Registry {
        let Metrics {
            registry,
            calls,
            controller,
            provision,
            reclaim,
            ledger,
        } = Metrics::new().unwrap();
        calls.call(
            "lab.csi.example.com",
            "/csi.v1.Controller/CreateVolume",
            "OK",
            None,
            Duration::from_millis(300),
        );
        calls.call(
            "ebs.csi.aws.com",
            "/csi.v1.Controller/DeleteVolume",
            "OK",
            Some(true),
            Duration::from_millis(300),
        );
        provision.provision_succeeded("gold", "", Duration::from_secs(1));
        provision.provision_failed("gold", "VolumeSnapshot");
        reclaim.delete_succeeded("gold", Duration::from_secs(1));
        reclaim.delete_failed("gold");
        controller.leading("lab-csi-example-com", true);
        controller.renewed_slowly("lab-csi-example-com");
        controller.panicked();
        ledger.status(&LedgerStatus {
            records: 2,
            oldest: Some(Timestamp::UNIX_EPOCH + Duration::from_secs(7)),
            ..LedgerStatus::default()
        });
        ledger.written(300);
        let queue = registry.queue("claims");
        queue.add();
        queue.get(Duration::ZERO);
        queue.done(Duration::ZERO);
        queue.retry();
        registry
    }

    #[test]
    fn every_family_has_upstreams_name_labels_and_buckets() {
        let page = full().page(&[]).unwrap();
        let series = [
            "csi_sidecar_operations_seconds_bucket{driver_name=\"lab.csi.example.com\",grpc_status_code=\"OK\",method_name=\"/csi.v1.Controller/CreateVolume\",le=\"0.25\"} 0",
            "csi_sidecar_operations_seconds_bucket{driver_name=\"lab.csi.example.com\",grpc_status_code=\"OK\",method_name=\"/csi.v1.Controller/CreateVolume\",le=\"600\"} 1",
            "csi_sidecar_operations_seconds_count{driver_name=\"ebs.csi.aws.com\",grpc_status_code=\"OK\",method_name=\"/csi.v1.Controller/DeleteVolume\",migrated=\"true\"} 1",
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
            "volwright_ledger_durable 1",
            "volwright_ledger_records 2",
            "volwright_ledger_held 0",
            "volwright_ledger_full 0",
            "volwright_ledger_oldest_timestamp_seconds 7",
            "volwright_ledger_writes_total 1",
            "volwright_ledger_written_bytes_total 300",
            "# TYPE process_resident_memory_bytes gauge",
            "# TYPE process_cpu_seconds_total counter",
            "# TYPE controller_persistentvolumeclaim_provision_total counter",
        ];
        for start in series {
            assert!(
                page.lines().any(|line| line.starts_with(start)),
                "{start}\nis not in\n{page}"
            );
        }
    }

    #[test]
    fn durations_are_those_of_successes_and_end_at_ten_seconds() {
        let page = full().page(&[]).unwrap();
        for name in [
            "controller_persistentvolumeclaim_provision_duration_seconds",
            "controller_persistentvolume_delete_duration_seconds",
        ] {
            let of = |part: &'static str| {
                let lines = page.lines().filter_map(|line| line.strip_prefix(name));
                lines.filter(move |line| line.starts_with(part))
            };
            let bounds: Vec<_> = of("_bucket")
                .filter_map(|line| line.split("le=").nth(1))
                .collect();
            let last = &bounds[bounds.len() - 2..];
            assert_eq!(last, ["\"10\"} 1", "\"+Inf\"} 1"], "D-41: {name}");
            assert_eq!(of("_count").count(), 1, "D-41: no failure is in {name}");
        }
    }
}
