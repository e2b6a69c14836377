//! The `workqueue_*` families: how many keys wait, how long they wait, how long the work on them takes.
//!
//! The queue keeps the times and reports them, so nothing is kept twice.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use prometheus::{
    GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    core::{Collector, Desc},
    proto::MetricFamily,
};

/// Tells for how long each piece of unfinished work has been running.
type Unfinished = Box<dyn Fn() -> Vec<Duration> + Send + Sync>;

/// The families of all queues, told apart by the label `name`.
#[derive(Clone)]
pub(super) struct QueueFamilies {
    depth: IntGaugeVec,
    adds: IntCounterVec,
    retries: IntCounterVec,
    waited: HistogramVec,
    worked: HistogramVec,
    unfinished: GaugeVec,
    longest: GaugeVec,
    sources: Arc<Mutex<BTreeMap<String, Unfinished>>>,
}

/// Ten bounds from 10 ns, each ten times the one before, multiplied out as Go does it: the
/// rounding shows in the text (`9.999999999999999e-06`) and is part of the series' name.
fn bounds() -> Vec<f64> {
    std::iter::successors(Some(1e-8), |bound| Some(bound * 10.0))
        .take(10)
        .collect()
}

/// Go writes numbers below 0.0001 with an exponent. A bound is a label value, so `1e-08` and
/// `0.00000001` would be two series for one bucket.
pub(super) fn bounds_as_go_writes_them(mut page: String) -> String {
    for bound in bounds().into_iter().filter(|bound| *bound < 1e-4) {
        let text = format!("{bound:e}");
        let (digits, exponent) = text.split_once("e-").unwrap_or((&text, "0"));
        page = page.replace(
            &format!(",le=\"{bound}\"}}"),
            &format!(",le=\"{digits}e-{exponent:0>2}\"}}"),
        );
    }
    page
}

impl QueueFamilies {
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        let name = ["name"];
        let histogram = |family: &str, help: &str| {
            HistogramVec::new(HistogramOpts::new(family, help).buckets(bounds()), &name)
        };
        let gauge = |family: &str, help: &str| GaugeVec::new(Opts::new(family, help), &name);
        let counter = |family: &str, help: &str| IntCounterVec::new(Opts::new(family, help), &name);
        Ok(Self {
            depth: IntGaugeVec::new(
                Opts::new("workqueue_depth", "Keys that wait for a worker."),
                &name,
            )?,
            adds: counter("workqueue_adds_total", "Keys that were added.")?,
            retries: counter("workqueue_retries_total", "Keys that were added again.")?,
            waited: histogram(
                "workqueue_queue_duration_seconds",
                "Time that keys waited for a worker.",
            )?,
            worked: histogram(
                "workqueue_work_duration_seconds",
                "Time that the work on keys took.",
            )?,
            unfinished: gauge(
                "workqueue_unfinished_work_seconds",
                "Time spent on the work that still runs, summed up.",
            )?,
            longest: gauge(
                "workqueue_longest_running_processor_seconds",
                "Age of the oldest work that still runs.",
            )?,
            sources: Arc::default(),
        })
    }

    /// The metrics of the queue of that name.
    pub(super) fn queue(&self, name: &str) -> QueueMetrics {
        let label = [name];
        // Without a source the page shows zero for these two.
        self.unfinished.with_label_values(&label);
        self.longest.with_label_values(&label);
        QueueMetrics {
            name: name.to_owned(),
            depth: self.depth.with_label_values(&label),
            adds: self.adds.with_label_values(&label),
            retries: self.retries.with_label_values(&label),
            waited: self.waited.with_label_values(&label),
            worked: self.worked.with_label_values(&label),
            sources: Arc::clone(&self.sources),
        }
    }

    fn collectors(&self) -> [&dyn Collector; 7] {
        let Self {
            depth,
            adds,
            retries,
            waited,
            worked,
            unfinished,
            longest,
            sources: _,
        } = self;
        [depth, adds, retries, waited, worked, unfinished, longest]
    }
}

/// Upstream refreshes the two gauges that grow by themselves twice a second; here each reading of the page does.
impl Collector for QueueFamilies {
    fn desc(&self) -> Vec<&Desc> {
        self.collectors()
            .into_iter()
            .flat_map(|family| family.desc())
            .collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        for (name, source) in &*self.sources.lock() {
            let ages = source().into_iter().map(|age| age.as_secs_f64());
            let (sum, longest) = ages.fold((0.0, 0.0_f64), |(sum, max), age| (sum + age, max.max(age)));
            self.unfinished.with_label_values(&[name]).set(sum);
            self.longest.with_label_values(&[name]).set(longest);
        }
        self.collectors()
            .into_iter()
            .flat_map(|family| family.collect())
            .collect()
    }
}

/// The metrics of one queue. The caller pairs [`QueueMetrics::add`] with `get` or `forget`, and `get` with `done`.
#[derive(Clone)]
pub struct QueueMetrics {
    name: String,
    depth: IntGauge,
    adds: IntCounter,
    retries: IntCounter,
    waited: Histogram,
    worked: Histogram,
    sources: Arc<Mutex<BTreeMap<String, Unfinished>>>,
}

impl QueueMetrics {
    /// A key waits for a worker that did not wait before.
    pub fn add(&self) {
        self.depth.inc();
        self.adds.inc();
    }

    /// Work begins on a key that waited for that long.
    pub fn get(&self, waited: Duration) {
        self.depth.dec();
        self.waited.observe(waited.as_secs_f64());
    }

    /// Work on a key ended, well or not, after that long.
    pub fn done(&self, worked: Duration) {
        self.worked.observe(worked.as_secs_f64());
    }

    /// A key that waited is not worked on any more: its object is gone.
    pub fn forget(&self) {
        self.depth.dec();
    }

    /// A key will be added again after a failure.
    pub fn retry(&self) {
        self.retries.inc();
    }

    /// Whenever the page is read, `source` tells for how long each piece of unfinished work has been running. A later
    /// source for a queue of the same name replaces the earlier one. `source` should not own the queue: it is kept as
    /// long as the registry.
    pub fn unfinished_from(&self, source: impl Fn() -> Vec<Duration> + Send + Sync + 'static) {
        self.sources.lock().insert(self.name.clone(), Box::new(source));
    }
}

#[cfg(test)]
mod tests {

    use super::{super::metrics::Registry, *};

    fn value(registry: &Registry, series: &str) -> f64 {
        let page = registry.page(&[]).unwrap();
        let line = page
            .lines()
            .find(|line| line.starts_with(&format!("{series}{{name=\"claims\"}} ")))
            .unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    #[test]
    fn depth_and_times_are_those_that_the_queue_reports() {
        let seconds = Duration::from_secs;
        let registry = Registry::of_controller().unwrap();
        let value = |series| value(&registry, series);
        let queue = registry.queue("claims");
        for _ in ["a", "b", "c"] {
            queue.add();
        }
        assert_eq!(
            (value("workqueue_depth"), value("workqueue_adds_total")),
            (3.0, 3.0)
        );
        registry.queue("claims").get(seconds(2));
        queue.forget();
        assert_eq!(value("workqueue_depth"), 1.0);
        assert_eq!(value("workqueue_adds_total"), 3.0);
        assert_eq!(value("workqueue_queue_duration_seconds_sum"), 2.0);
        assert_eq!(value("workqueue_queue_duration_seconds_count"), 1.0);
        queue.get(seconds(5));
        assert_eq!(value("workqueue_depth"), 0.0);
        assert_eq!(value("workqueue_queue_duration_seconds_sum"), 7.0);
        queue.done(seconds(4));
        assert_eq!(value("workqueue_work_duration_seconds_sum"), 4.0);
        assert_eq!(value("workqueue_work_duration_seconds_count"), 1.0);
        queue.retry();
        assert_eq!(value("workqueue_retries_total"), 1.0);
        assert_eq!(value("workqueue_depth"), 0.0);
    }

    #[test]
    fn unfinished_work_is_asked_for_when_the_page_is_read() {
        let registry = Registry::of_controller().unwrap();
        let value = |series| value(&registry, series);
        let queue = registry.queue("claims");
        let gauges = || {
            (
                value("workqueue_unfinished_work_seconds"),
                value("workqueue_longest_running_processor_seconds"),
            )
        };
        assert_eq!(gauges(), (0.0, 0.0));
        let running = Arc::new(Mutex::new(vec![Duration::from_secs(4), Duration::from_secs(1)]));
        let source = Arc::clone(&running);
        queue.unfinished_from(move || source.lock().clone());
        registry
            .queue("volumes")
            .unfinished_from(|| vec![Duration::from_secs(9)]);
        assert_eq!(gauges(), (5.0, 4.0));
        running.lock().remove(0);
        assert_eq!(gauges(), (1.0, 1.0));
        running.lock().clear();
        assert_eq!(gauges(), (0.0, 0.0));
    }
}
