//! Registers families of metrics and writes the metrics page.
//!
//! A family is declared where it is counted; only `telemetry/` knows the metrics library. The page has the classic text
//! format 0.0.4, as upstream's. A family with labels appears on it with the first value.

use std::{sync::Arc, time::Duration};

pub use prometheus::DEFAULT_BUCKETS;
#[cfg(target_os = "linux")]
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, TextEncoder,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use super::queue::{QueueFamilies, QueueMetrics, bounds_as_go_writes_them};

/// What the page is served as.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

#[cfg(target_os = "linux")]
const START_TIME: &str = "process_start_time_seconds";

/// A family cannot be registered or written; a defect in this program.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up the metrics, a defect in this program: {0}")]
pub struct MetricsError(#[from] prometheus::Error);

/// The families of one metrics page. Clones are the same registry.
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

struct Inner {
    families: prometheus::Registry,
    queues: QueueFamilies,
    page_requests: IntCounterVec,
    page_requests_in_flight: IntGauge,
}

fn register<F: Collector + Clone + 'static>(
    registry: &prometheus::Registry,
    family: F,
) -> Result<F, prometheus::Error> {
    registry.register(Box::new(family.clone()))?;
    Ok(family)
}

impl Registry {
    /// A registry of a controller: with the families of the process, of the page itself, and of work queues.
    ///
    /// # Errors
    /// Two families have the same name.
    pub fn of_controller() -> Result<Self, MetricsError> {
        let registry = Self::new()?;
        let Inner {
            families,
            queues,
            page_requests,
            page_requests_in_flight,
        } = &*registry.0;
        #[cfg(target_os = "linux")]
        families.register(Box::new(ProcessCollector::for_self()))?;
        register(families, queues.clone())?;
        register(families, page_requests.clone())?;
        register(families, page_requests_in_flight.clone())?;
        Ok(registry)
    }

    /// The registry of a sidecar without queues, whose upstream shows of the process only when it started.
    ///
    /// # Errors
    /// Two families have the same name.
    pub fn of_probe() -> Result<Self, MetricsError> {
        let registry = Self::new()?;
        #[cfg(target_os = "linux")]
        registry
            .0
            .families
            .register(Box::new(StartTime(ProcessCollector::for_self())))?;
        Ok(registry)
    }

    fn new() -> Result<Self, MetricsError> {
        let page_requests = IntCounterVec::new(
            Opts::new(
                "promhttp_metric_handler_requests_total",
                "Answers of the metrics page, by HTTP code.",
            ),
            &["code"],
        )?;
        for code in ["200", "500", "503"] {
            page_requests.with_label_values(&[code]);
        }
        let page_requests_in_flight = IntGauge::new(
            "promhttp_metric_handler_requests_in_flight",
            "Requests for the metrics page that are being answered.",
        )?;
        Ok(Self(Arc::new(Inner {
            families: prometheus::Registry::new(),
            queues: QueueFamilies::new()?,
            page_requests,
            page_requests_in_flight,
        })))
    }

    /// Registers a counter.
    ///
    /// # Errors
    /// The name is taken, or it or a label is malformed.
    pub fn counter<const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [&str; N],
    ) -> Result<Counter<N>, MetricsError> {
        let family = IntCounterVec::new(Opts::new(name, help), &labels)?;
        if N == 0 {
            // Without labels there is a value from the start: zero.
            family.with_label_values(&labels);
        }
        Ok(Counter(register(&self.0.families, family)?))
    }

    /// Registers a gauge.
    ///
    /// # Errors
    /// The name is taken, or it or a label is malformed.
    pub fn gauge<const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [&str; N],
    ) -> Result<Gauge<N>, MetricsError> {
        let family = IntGaugeVec::new(Opts::new(name, help), &labels)?;
        Ok(Gauge(register(&self.0.families, family)?))
    }

    /// Registers a histogram of durations, with the upper bounds of its buckets in seconds.
    ///
    /// # Errors
    /// The name is taken, it or a label is malformed, or the bounds do not rise.
    pub fn histogram<const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [&str; N],
        buckets: &[f64],
    ) -> Result<Histogram<N>, MetricsError> {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let family = HistogramVec::new(options, &labels)?;
        Ok(Histogram(register(&self.0.families, family)?))
    }

    /// The same with one label that only some values have: where it is empty it is left out.
    ///
    /// # Errors
    /// As above.
    pub fn histogram_with_optional<const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [&str; N],
        optional: &str,
        buckets: &[f64],
    ) -> Result<Histogram<N>, MetricsError> {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let family = HistogramVec::new(options, &labels)?;
        self.0.families.register(Box::new(OptionalLabel {
            family: family.clone(),
            label: optional.to_owned(),
        }))?;
        Ok(Histogram(family))
    }

    /// Registers gauges, by name and help, that `values` computes whenever the page is read. What `values` owns is kept
    /// as long as the registry.
    ///
    /// # Errors
    /// A name is taken or malformed.
    pub fn gauges_from<const N: usize>(
        &self,
        families: [(&str, &str); N],
        values: impl Fn() -> [i64; N] + Send + Sync + 'static,
    ) -> Result<(), MetricsError> {
        let gauges = families.map(|(name, help)| IntGauge::new(name, help));
        let gauges = gauges.into_iter().collect::<Result<Vec<_>, _>>()?;
        self.0.families.register(Box::new(ComputedGauges {
            gauges,
            values: Box::new(move || values().to_vec()),
        }))?;
        Ok(())
    }

    /// The `workqueue_*` metrics of the queue of that name.
    pub fn queue(&self, name: &str) -> QueueMetrics {
        self.0.queues.queue(name)
    }

    /// The page in [`CONTENT_TYPE`]; unless `only` is empty, with the families named there and no others.
    ///
    /// # Errors
    /// A family cannot be written.
    pub fn page(&self, only: &[String]) -> Result<String, MetricsError> {
        let Inner {
            families,
            queues: _,
            page_requests,
            page_requests_in_flight,
        } = &*self.0;
        page_requests_in_flight.inc();
        let mut gathered = families.gather();
        gathered.retain(|family| only.is_empty() || only.iter().any(|name| name == family.name()));
        let page = TextEncoder::new().encode_to_string(&gathered);
        page_requests_in_flight.dec();
        page_requests
            .with_label_values(&[if page.is_ok() { "200" } else { "500" }])
            .inc();
        Ok(bounds_as_go_writes_them(page?))
    }
}

/// A family of which some values lack a label. All of one family have the same labels in the library.
struct OptionalLabel {
    family: HistogramVec,
    label: String,
}

impl Collector for OptionalLabel {
    fn desc(&self) -> Vec<&Desc> {
        self.family.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = self.family.collect();
        for metric in families.iter_mut().flat_map(MetricFamily::mut_metric) {
            let mut labels = metric.take_label();
            labels.retain(|label| label.name() != self.label || !label.value().is_empty());
            metric.set_label(labels);
        }
        families
    }
}

/// Of what the library knows of the process, `process_start_time_seconds`.
#[cfg(target_os = "linux")]
struct StartTime(ProcessCollector);

#[cfg(target_os = "linux")]
impl Collector for StartTime {
    fn desc(&self) -> Vec<&Desc> {
        let all = self.0.desc().into_iter();
        all.filter(|desc| desc.fq_name == START_TIME).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let all = self.0.collect().into_iter();
        all.filter(|family| family.name() == START_TIME).collect()
    }
}

struct ComputedGauges {
    gauges: Vec<IntGauge>,
    values: Box<dyn Fn() -> Vec<i64> + Send + Sync>,
}

impl Collector for ComputedGauges {
    fn desc(&self) -> Vec<&Desc> {
        self.gauges.iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        for (gauge, value) in self.gauges.iter().zip((self.values)()) {
            gauge.set(value);
        }
        self.gauges.iter().flat_map(Collector::collect).collect()
    }
}

/// Counts events, apart for each value of its `N` labels.
#[derive(Clone)]
pub struct Counter<const N: usize>(IntCounterVec);

impl<const N: usize> Counter<N> {
    /// One more.
    pub fn inc(&self, labels: [&str; N]) {
        self.0.with_label_values(&labels).inc();
    }

    /// So many more.
    pub fn add(&self, labels: [&str; N], more: usize) {
        let more = u64::try_from(more).unwrap_or(u64::MAX);
        self.0.with_label_values(&labels).inc_by(more);
    }
}

/// A number that rises and falls, apart for each value of its `N` labels.
#[derive(Clone)]
pub struct Gauge<const N: usize>(IntGaugeVec);

impl<const N: usize> Gauge<N> {
    /// The number is this now.
    pub fn set(&self, labels: [&str; N], value: i64) {
        self.0.with_label_values(&labels).set(value);
    }
}

/// Counts durations by length, apart for each value of its `N` labels.
#[derive(Clone)]
pub struct Histogram<const N: usize>(HistogramVec);

impl<const N: usize> Histogram<N> {
    /// One more duration.
    pub fn observe(&self, labels: [&str; N], duration: Duration) {
        self.0.with_label_values(&labels).observe(duration.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    #[test]
    fn a_family_appears_with_its_first_value() {
        let registry = Registry::of_controller().unwrap();
        let seconds = registry.histogram("seconds", "S.", ["class"], DEFAULT_BUCKETS);
        let (seconds, held) = (seconds.unwrap(), registry.gauge("held", "H.", ["state"]).unwrap());
        let panics = registry.counter("panics_total", "P.", []).unwrap();
        let before = registry.page(&[]).unwrap();
        assert!(before.contains("\npanics_total 0\n"), "{before}");
        assert!(
            !before.contains("seconds_bucket") && !before.contains("held"),
            "{before}"
        );
        seconds.observe(["gold"], Duration::from_millis(300));
        held.set(["open"], 2);
        panics.inc([]);
        let page = registry.page(&[]).unwrap();
        for line in [
            "# HELP seconds S.",
            "# TYPE seconds histogram",
            "seconds_bucket{class=\"gold\",le=\"0.25\"} 0",
            "seconds_bucket{class=\"gold\",le=\"0.5\"} 1",
            "seconds_sum{class=\"gold\"} 0.3",
            "held{state=\"open\"} 2",
            "panics_total 1",
        ] {
            assert!(page.lines().any(|it| it == line), "{line}\nis not in\n{page}");
        }
    }

    #[test]
    fn a_name_is_registered_once() {
        let registry = Registry::of_controller().unwrap();
        registry.counter("panics_total", "P.", []).unwrap();
        let error = registry.clone().counter("panics_total", "P.", []).err().unwrap();
        assert!(error.to_string().contains("a defect in this program"), "{error}");
    }

    #[test]
    fn the_page_can_be_narrowed_to_named_families() {
        let registry = Registry::of_controller().unwrap();
        registry.queue("claims").add();
        let only = ["workqueue_depth".to_owned(), "no_such_family".to_owned()];
        let page = registry.page(&only).unwrap();
        let names: Vec<_> = page.lines().filter(|line| line.starts_with("# TYPE")).collect();
        assert_eq!(names, ["# TYPE workqueue_depth gauge"]);
        assert!(registry.page(&only[1..]).unwrap().is_empty());
    }

    #[test]
    fn label_values_cannot_break_the_page() {
        let registry = Registry::of_controller().unwrap();
        let failed = registry
            .counter("failed_total", "F.", ["class", "source"])
            .unwrap();
        failed.inc(["a\"b\nc\\", "le=\"0.00000001\""]);
        let page = registry.page(&[]).unwrap();
        assert!(
            page.contains("class=\"a\\\"b\\nc\\\\\",source=\"le=\\\"0.00000001\\\"\"} 1"),
            "{page}"
        );
    }
}
