//! The registry, and what every service shows.
//!
//! Series with known labels exist from the start at 0, so that an increase sees the first event.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

pub use prometheus::IntCounterVec;
use prometheus::core::Collector;
use prometheus::{
    Counter, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use crate::limits::Refused;

/// Where one service's metrics are registered; cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    registered: Arc<Registered>,
    common: Arc<Common>,
}

#[derive(Debug, Default)]
struct Registered {
    registry: Registry,
    described: Mutex<Vec<Described>>,
}

/// A metric in words, as `docs/metrics.md` lists it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Described {
    /// Its name.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Names of its labels.
    pub labels: Vec<String>,
    /// What it says.
    pub help: String,
}

#[derive(Debug)]
struct Common {
    ready: IntGaugeVec,
    last_progress: Gauge,
    shutdown_seconds: Gauge,
    task_restarts: IntCounterVec,
    http_requests: IntCounterVec,
    http_seconds: HistogramVec,
    http_connections: IntGauge,
    http_refused: IntCounterVec,
    http_accept_errors: IntCounter,
    tokio_busy: Gauge,
    tokio_queue: IntGauge,
}

impl Metrics {
    /// A registry with what every service shows.
    #[must_use]
    pub fn new(service: &str) -> Self {
        let registered = Arc::new(Registered::default());
        let register = Register(&registered);
        let info = register.int_gauges(
            "wiki_build_info",
            "Who this is; always 1.",
            &["version", "revision", "rustc", "service"],
        );
        let revision = option_env!("WIKI_REVISION").unwrap_or("unknown");
        let rustc = env!("CARGO_PKG_RUST_VERSION");
        info.with_label_values(&[env!("CARGO_PKG_VERSION"), revision, rustc, service]).set(1);
        let common = Common {
            ready: register.int_gauges("wiki_ready", "Whether a readiness check passes.", &["check"]),
            last_progress: register
                .gauge("wiki_last_progress_timestamp_seconds", "When work last advanced, Unix time in seconds."),
            shutdown_seconds: register
                .gauge("wiki_shutdown_duration_seconds", "How long the shutdown took, in seconds."),
            task_restarts: register.counters("wiki_task_restarts_total", "Supervised tasks begun anew.", &["task"]),
            http_requests: register.counters(
                "wiki_http_requests_total",
                "Requests to the admin server.",
                &["route", "method", "code"],
            ),
            http_seconds: register.histograms(
                "wiki_http_request_duration_seconds",
                "Duration of requests to the admin server, in seconds.",
                &["route"],
                &[0.001, 0.01, 0.1, 1.0],
            ),
            http_connections: register.int_gauge("wiki_http_connections", "Connections to the HTTP server now."),
            http_refused: register.counters(
                "wiki_http_refused_total",
                "Connections and requests that the HTTP server refused or cut, by the bound that they went past.",
                &["reason"],
            ),
            http_accept_errors: register
                .counters(
                    "wiki_http_accept_errors_total",
                    "Connections that the system could not hand over, as where no descriptor is left.",
                    &[],
                )
                .with_label_values::<&str>(&[]),
            tokio_busy: register.gauge("wiki_tokio_busy_ratio", "Share of time that the runtime's workers were busy."),
            tokio_queue: register.int_gauge("wiki_tokio_queue_depth", "Tasks waiting in the runtime's queue."),
        };
        for reason in Refused::LABELS {
            common.http_refused.with_label_values(&[reason]);
        }
        #[cfg(target_os = "linux")]
        register.add(prometheus::process_collector::ProcessCollector::for_self(), "gauge");
        Self { registered, common: Arc::new(common) }
    }

    /// Notes that work advanced.
    pub fn progressed(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.common.last_progress.set(now.as_secs_f64());
    }

    /// Notes that a supervised task was begun anew.
    pub fn task_restarted(&self, task: &str) {
        self.common.task_restarts.with_label_values(&[task]).inc();
    }

    pub(crate) fn set_ready(&self, check: &str, ready: bool) {
        self.common.ready.with_label_values(&[check]).set(i64::from(ready));
    }

    pub(crate) fn set_shutdown_seconds(&self, seconds: f64) {
        self.common.shutdown_seconds.set(seconds);
    }

    pub(crate) fn count_request(&self, route: &str, method: &str, code: u16, seconds: f64) {
        self.common.http_requests.with_label_values(&[route, method, &code.to_string()]).inc();
        self.common.http_seconds.with_label_values(&[route]).observe(seconds);
    }

    /// Notes that a client went past a bound of the HTTP server.
    pub fn refused(&self, refused: Refused) {
        self.common.http_refused.with_label_values(&[refused.label()]).inc();
    }

    pub(crate) fn set_connections(&self, connections: usize) {
        self.common.http_connections.set(i64::try_from(connections).unwrap_or(i64::MAX));
    }

    pub(crate) fn count_accept_error(&self) {
        self.common.http_accept_errors.inc();
    }

    pub(crate) fn set_runtime(&self, busy_ratio: f64, queue_depth: usize) {
        self.common.tokio_busy.set(busy_ratio);
        self.common.tokio_queue.set(i64::try_from(queue_depth).unwrap_or(i64::MAX));
    }

    /// Everything that was registered, in words.
    #[must_use]
    pub fn described(&self) -> Vec<Described> {
        self.registered.described.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Everything in Prometheus's text format 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        // Encoding into a string fails only for families without a name, which registering refuses.
        TextEncoder::new().encode_to_string(&self.registered.registry.gather()).unwrap_or_default()
    }

    /// A counter.
    #[must_use]
    pub fn counter(&self, name: &str, help: &str) -> IntCounter {
        let counters = Register(&self.registered).counters(name, help, &[]);
        counters.with_label_values::<&str>(&[])
    }

    /// A counter of seconds.
    #[must_use]
    pub fn float_counter(&self, name: &str, help: &str) -> Counter {
        Register(&self.registered).checked(name, Counter::new(name, help), "counter")
    }

    /// Counters by one label, each present from the start.
    #[must_use]
    pub fn counters(&self, name: &str, help: &str, label: &str, values: &[&str]) -> IntCounterVec {
        let counters = Register(&self.registered).counters(name, help, &[label]);
        for value in values {
            counters.with_label_values(&[value]);
        }
        counters
    }

    /// Counters by labels whose values are not known at the start.
    #[must_use]
    pub fn open_counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        Register(&self.registered).counters(name, help, labels)
    }

    /// An integer gauge.
    #[must_use]
    pub fn int_gauge(&self, name: &str, help: &str) -> IntGauge {
        Register(&self.registered).int_gauge(name, help)
    }

    /// A gauge.
    #[must_use]
    pub fn gauge(&self, name: &str, help: &str) -> Gauge {
        Register(&self.registered).gauge(name, help)
    }

    /// Integer gauges by labels.
    #[must_use]
    pub fn int_gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        Register(&self.registered).int_gauges(name, help, labels)
    }

    /// Gauges by labels.
    #[must_use]
    pub fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        let gauges = GaugeVec::new(Opts::new(name, help), labels);
        Register(&self.registered).checked(name, gauges, "gauge")
    }

    /// A histogram.
    #[must_use]
    pub fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        let histograms = Register(&self.registered).histograms(name, help, &[], buckets);
        histograms.with_label_values::<&str>(&[])
    }

    /// Histograms by labels.
    #[must_use]
    pub fn histograms(&self, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
        Register(&self.registered).histograms(name, help, labels, buckets)
    }
}

/// Makes and registers collectors. A name that is taken or malformed is a mistake in this code, found by the
/// first test that starts the service.
struct Register<'a>(&'a Registered);

impl Register<'_> {
    fn add<T: Collector + 'static>(&self, collector: T, kind: &'static str) {
        let described = collector.desc().into_iter().map(|metric| Described {
            name: metric.fq_name.clone(),
            kind: if metric.fq_name.ends_with("_total") { "counter" } else { kind },
            labels: metric.variable_labels.clone(),
            help: metric.help.clone(),
        });
        self.0.described.lock().unwrap_or_else(PoisonError::into_inner).extend(described);
        if let Err(error) = self.0.registry.register(Box::new(collector)) {
            debug_assert!(false, "metric cannot be registered: {error}");
        }
    }

    #[expect(clippy::panic, reason = "a metric's name and labels are literals of this code")]
    fn checked<T: Collector + Clone + 'static>(
        &self,
        name: &str,
        collector: prometheus::Result<T>,
        kind: &'static str,
    ) -> T {
        match collector {
            Ok(collector) => {
                self.add(collector.clone(), kind);
                collector
            }
            Err(error) => panic!("metric {name}: {error}"),
        }
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.checked(name, IntCounterVec::new(Opts::new(name, help), labels), "counter")
    }

    fn int_gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.checked(name, IntGaugeVec::new(Opts::new(name, help), labels), "gauge")
    }

    fn int_gauge(&self, name: &str, help: &str) -> IntGauge {
        self.checked(name, IntGauge::new(name, help), "gauge")
    }

    fn gauge(&self, name: &str, help: &str) -> Gauge {
        self.checked(name, Gauge::new(name, help), "gauge")
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.checked(name, HistogramVec::new(options, labels), "histogram")
    }
}

/// The Content-Type that Prometheus insists on.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_labels_are_there_at_zero() {
        let metrics = Metrics::new("test");
        let _ = metrics.counters("wiki_test_things_total", "Things.", "kind", &["a", "b"]);
        let text = metrics.render();
        assert!(text.contains("wiki_test_things_total{kind=\"a\"} 0"), "{text}");
        assert!(text.contains("wiki_build_info{"), "{text}");
    }
}
