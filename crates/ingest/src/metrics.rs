//! What the ingest service shows.

use prometheus::{Counter, Gauge, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge};
use service::Metrics;

use crate::source::EndReason;

const KINDS: [&str; 6] = ["edit", "new", "log", "categorize", "canary", "other"];
const DROPS: [&str; 6] = ["canary", "duplicate", "filtered", "dead_lettered", "unproven", "outside"];
const CONNECTS: [&str; 6] = ["ok", "http_4xx", "http_5xx", "tls", "dns", "timeout"];
const WITNESSES: [&str; 2] = ["seen", "missing"];
const SECONDS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];

/// The metrics of ingest.
#[derive(Debug)]
pub struct IngestMetrics {
    /// The connection to the stream.
    pub stream: StreamMetrics,
    /// What is written.
    pub write: WriteMetrics,
    /// The ids that are known.
    pub known: KnownMetrics,
    /// Parsed events by kind.
    pub received: IntCounterVec,
    /// Body bytes.
    pub bytes: IntCounter,
    /// What was not produced, and why.
    pub dropped: IntCounterVec,
    /// Age of an event when it is read.
    pub source_delay: Histogram,
    /// Open entries of the gap ledger.
    pub gaps_open: IntGauge,
    /// Whether this replica acts.
    pub acting: IntGauge,
    /// Upstream time of the last event.
    pub last_event: Gauge,
}

/// What is shown of transactions.
#[derive(Debug)]
pub struct WriteMetrics {
    /// Committed records by topic.
    pub produced: IntCounterVec,
    /// Transactions whose outcome is unknown.
    pub produce_errors: IntCounterVec,
    /// First record of a transaction to its commit.
    pub produce_seconds: HistogramVec,
    /// Waiting for room in the producer's queue.
    pub backpressure: Counter,
}

/// What is shown of the known ids.
#[derive(Debug)]
pub struct KnownMetrics {
    /// Seen again after a resume.
    pub duplicates: IntCounter,
    /// Known ids.
    pub window_ids: IntGauge,
    /// How far back they reach.
    pub window_seconds: Gauge,
}

/// What is shown of the connection to the stream.
#[derive(Debug)]
pub struct StreamMetrics {
    /// Whether the stream is connected.
    pub connected: IntGauge,
    /// Attempts by outcome.
    pub connects: IntCounterVec,
    /// Ends by reason.
    pub disconnects: IntCounterVec,
    /// Since the last parsed event.
    pub idle_seconds: Gauge,
    /// Resumes of source topics by whether they were proven.
    pub resumes: IntCounterVec,
    /// Connections that ended before they showed anything new.
    pub stuck: IntCounter,
    /// Events whose log time is not trusted.
    pub odd_times: IntCounter,
    /// Log time up to which each source was handled.
    pub position: prometheus::GaugeVec,
    /// Jumps of `meta.offset` within a connection.
    pub offset_jumps: IntCounter,
    /// Last canary of each data centre.
    pub canary_time: prometheus::GaugeVec,
}

impl IngestMetrics {
    /// Registers them.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            stream: StreamMetrics::new(metrics),
            write: WriteMetrics::new(metrics),
            known: KnownMetrics::new(metrics),
            received: metrics.counters("wiki_ingest_events_received_total", "Events parsed.", "kind", &KINDS),
            bytes: metrics.counter("wiki_ingest_bytes_received_total", "Bytes of the stream's body."),
            dropped: metrics.counters("wiki_ingest_events_dropped_total", "Events not produced.", "reason", &DROPS),
            source_delay: metrics.histogram(
                "wiki_ingest_source_delay_seconds",
                "Age of an event when it is read, in seconds; replays of old events are left out.",
                &SECONDS,
            ),
            gaps_open: metrics.int_gauge("wiki_ingest_gaps_open", "Open entries of the gap ledger."),
            acting: metrics.int_gauge("wiki_ingest_acting", "Whether this replica is the acting one."),
            last_event: metrics
                .gauge("wiki_ingest_last_event_timestamp_seconds", "Log time of the last event, Unix time in seconds."),
        }
    }

    /// The label of a type of change.
    #[must_use]
    pub fn kind(change_type: &str) -> &'static str {
        KINDS.into_iter().find(|kind| *kind == change_type).unwrap_or("other")
    }
}

impl WriteMetrics {
    fn new(metrics: &Metrics) -> Self {
        Self {
            produced: metrics.open_counters("wiki_ingest_events_produced_total", "Events committed.", &["topic"]),
            produce_errors: metrics.counters(
                "wiki_ingest_produce_errors_total",
                "Transactions whose outcome is unknown.",
                "reason",
                &["doubt"],
            ),
            produce_seconds: metrics.histograms(
                "wiki_ingest_produce_duration_seconds",
                "From a transaction's first record to its commit, in seconds.",
                &["topic"],
                &SECONDS,
            ),
            backpressure: metrics.float_counter(
                "wiki_ingest_backpressure_seconds_total",
                "Seconds spent waiting for room in the producer's queue.",
            ),
        }
    }
}

impl KnownMetrics {
    fn new(metrics: &Metrics) -> Self {
        Self {
            duplicates: metrics.counter("wiki_ingest_duplicates_total", "Events seen again after a resume."),
            window_ids: metrics.int_gauge("wiki_ingest_window_ids", "Known ids."),
            window_seconds: metrics
                .gauge("wiki_ingest_window_seconds", "How far back the known ids reach, in seconds."),
        }
    }
}

impl StreamMetrics {
    fn new(metrics: &Metrics) -> Self {
        let disconnects = EndReason::ALL.map(EndReason::as_str);
        Self {
            connected: metrics.int_gauge("wiki_ingest_sse_connected", "Whether the stream is connected."),
            connects: metrics.counters("wiki_ingest_sse_connects_total", "Attempts to connect.", "outcome", &CONNECTS),
            disconnects: metrics.counters(
                "wiki_ingest_sse_disconnects_total",
                "Ends of connections; the server's own are normal.",
                "reason",
                &disconnects,
            ),
            idle_seconds: metrics.gauge("wiki_ingest_sse_idle_seconds", "Seconds since the last parsed event."),
            resumes: metrics.counters(
                "wiki_ingest_resumes_total",
                "Resumes of source topics, by whether their last handled event was shown again.",
                "witness",
                &WITNESSES,
            ),
            stuck: metrics.counter(
                "wiki_ingest_stuck_connections_total",
                "Connections that ended before they showed anything new.",
            ),
            odd_times: metrics.counter(
                "wiki_ingest_odd_times_total",
                "Events whose log time is negative or ahead of the clock: they move no position.",
            ),
            position: metrics.gauges(
                "wiki_ingest_position_timestamp_seconds",
                "Log time up to which a source topic was handled, Unix time in seconds.",
                &["source_topic"],
            ),
            offset_jumps: metrics.counter(
                "wiki_ingest_offset_jumps_total",
                "Jumps of the source's offset within a connection: suspicions of loss upstream.",
            ),
            canary_time: metrics.gauges(
                "wiki_ingest_canary_timestamp_seconds",
                "Log time of the last canary of a source topic, Unix time in seconds.",
                &["source_topic"],
            ),
        }
    }
}
