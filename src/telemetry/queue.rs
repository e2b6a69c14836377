//! The `workqueue_*` families: who waits, who is worked on, for how long.
//!
//! Keyed, so that calls that repeat or do not pair up cannot make the figures drift.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};
use tokio::time::Instant;

/// The families of all queues, told apart by the label `name`.
pub(super) struct QueueFamilies {
    depth: IntGaugeVec,
    adds: IntCounterVec,
    retries: IntCounterVec,
    waited: HistogramVec,
    worked: HistogramVec,
    unfinished: GaugeVec,
    longest: GaugeVec,
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
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let name = ["name"];
        let histogram = |family: &str, help: &str| {
            HistogramVec::new(HistogramOpts::new(family, help).buckets(bounds()), &name)
        };
        let families = Self {
            depth: IntGaugeVec::new(
                Opts::new("workqueue_depth", "Keys that wait for a worker."),
                &name,
            )?,
            adds: IntCounterVec::new(Opts::new("workqueue_adds_total", "Keys that were added."), &name)?,
            retries: IntCounterVec::new(
                Opts::new("workqueue_retries_total", "Keys that were added again."),
                &name,
            )?,
            waited: histogram(
                "workqueue_queue_duration_seconds",
                "Time that keys waited for a worker.",
            )?,
            worked: histogram(
                "workqueue_work_duration_seconds",
                "Time that the work on keys took.",
            )?,
            unfinished: GaugeVec::new(
                Opts::new(
                    "workqueue_unfinished_work_seconds",
                    "Time spent on the work that still runs, summed up.",
                ),
                &name,
            )?,
            longest: GaugeVec::new(
                Opts::new(
                    "workqueue_longest_running_processor_seconds",
                    "Age of the oldest work that still runs.",
                ),
                &name,
            )?,
        };
        let Self {
            depth,
            adds,
            retries,
            waited,
            worked,
            unfinished,
            longest,
        } = &families;
        registry.register(Box::new(depth.clone()))?;
        registry.register(Box::new(adds.clone()))?;
        registry.register(Box::new(retries.clone()))?;
        registry.register(Box::new(waited.clone()))?;
        registry.register(Box::new(worked.clone()))?;
        registry.register(Box::new(unfinished.clone()))?;
        registry.register(Box::new(longest.clone()))?;
        Ok(families)
    }
}

/// One queue's figures. Clones are the same queue.
#[derive(Clone)]
pub struct QueueMetrics(Arc<Inner>);

struct Inner {
    keys: Mutex<Keys>,
    depth: prometheus::IntGauge,
    adds: prometheus::IntCounter,
    retries: prometheus::IntCounter,
    waited: prometheus::Histogram,
    worked: prometheus::Histogram,
    unfinished: prometheus::Gauge,
    longest: prometheus::Gauge,
}

#[derive(Default)]
struct Keys {
    waiting: HashMap<Box<str>, Instant>,
    running: HashMap<Box<str>, Instant>,
}

impl QueueMetrics {
    pub(super) fn new(families: &QueueFamilies, name: &str) -> Self {
        let name = [name];
        Self(Arc::new(Inner {
            keys: Mutex::default(),
            depth: families.depth.with_label_values(&name),
            adds: families.adds.with_label_values(&name),
            retries: families.retries.with_label_values(&name),
            waited: families.waited.with_label_values(&name),
            worked: families.worked.with_label_values(&name),
            unfinished: families.unfinished.with_label_values(&name),
            longest: families.longest.with_label_values(&name),
        }))
    }

    fn change(&self, change: impl FnOnce(&mut Keys)) {
        let mut keys = self.0.keys.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut keys);
        self.0
            .depth
            .set(i64::try_from(keys.waiting.len()).unwrap_or(i64::MAX));
    }

    /// That key waits for a worker. No news when it did already.
    pub fn add(&self, key: &str) {
        self.change(|keys| {
            if !keys.waiting.contains_key(key) {
                keys.waiting.insert(key.into(), Instant::now());
                self.0.adds.inc();
            }
        });
    }

    /// Work on that key begins.
    pub fn get(&self, key: &str) {
        self.change(|keys| {
            if let Some(since) = keys.waiting.remove(key) {
                self.0.waited.observe(since.elapsed().as_secs_f64());
            }
            keys.running.insert(key.into(), Instant::now());
        });
    }

    /// Work on that key ended, well or not.
    pub fn done(&self, key: &str) {
        self.change(|keys| {
            if let Some(since) = keys.running.remove(key) {
                self.0.worked.observe(since.elapsed().as_secs_f64());
            }
        });
    }

    /// A key will be worked on again later because of a failure.
    pub fn retry(&self) {
        self.0.retries.inc();
    }

    /// That key need not be worked on any more: its object is gone.
    pub fn forget(&self, key: &str) {
        self.change(|keys| {
            keys.waiting.remove(key);
        });
    }

    /// The two gauges that grow by themselves. Upstream refreshes them twice a second, we when the page is read.
    pub(super) fn refresh(&self) {
        self.change(|keys| {
            let ages = keys.running.values().map(|since| since.elapsed().as_secs_f64());
            let (sum, longest) = ages.fold((0.0, 0.0_f64), |(sum, max), age| (sum + age, max.max(age)));
            self.0.unfinished.set(sum);
            self.0.longest.set(longest);
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::super::metrics::Metrics;

    fn value(metrics: &Metrics, series: &str) -> f64 {
        let page = metrics.page(&[]).unwrap();
        let line = page
            .lines()
            .find(|line| line.starts_with(&format!("{series}{{name=\"claims\"}} ")))
            .unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn depth_waiting_and_working_time_follow_the_keys() {
        let metrics = Metrics::new().unwrap();
        let queue = metrics.queue("claims");
        for key in ["a", "b", "c", "a"] {
            queue.add(key);
        }
        assert_eq!(
            (
                value(&metrics, "workqueue_depth"),
                value(&metrics, "workqueue_adds_total")
            ),
            (3.0, 3.0)
        );
        tokio::time::advance(Duration::from_secs(2)).await;
        metrics.queue("claims").get("a");
        queue.forget("c");
        assert_eq!(value(&metrics, "workqueue_depth"), 1.0);
        assert_eq!(value(&metrics, "workqueue_queue_duration_seconds_sum"), 2.0);
        tokio::time::advance(Duration::from_secs(3)).await;
        queue.get("b");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(value(&metrics, "workqueue_unfinished_work_seconds"), 5.0);
        assert_eq!(
            value(&metrics, "workqueue_longest_running_processor_seconds"),
            4.0
        );
        queue.done("a");
        queue.done("a");
        queue.done("never began");
        assert_eq!(value(&metrics, "workqueue_work_duration_seconds_sum"), 4.0);
        assert_eq!(value(&metrics, "workqueue_work_duration_seconds_count"), 1.0);
        assert_eq!(value(&metrics, "workqueue_unfinished_work_seconds"), 1.0);
    }
}
