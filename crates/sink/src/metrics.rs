//! What the sink service shows.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use kafka::dead_letter;
use kafka::group_metrics::{GroupMetrics, observe_since};
use prometheus::{Gauge, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge};
use service::Metrics;

use crate::Config;

const WRITE_SECONDS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 10.0];
const BATCH_ROWS: [f64; 9] = [1.0, 5.0, 20.0, 50.0, 100.0, 500.0, 1000.0, 5000.0, 10_000.0];
/// The objective stands at 5 s: a bucket's edge is exactly there.
const LATENCY: [f64; 10] = [0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0];
const OUTCOMES: [&str; 3] = ["inserted", "duplicate", "dead_lettered"];

/// What is counted; `docs/metrics.md` lists it.
#[derive(Debug)]
pub struct SinkMetrics {
    backend: &'static str,
    writes: WriteMetrics,
    /// Ownership, flow and lag.
    group: Mutex<GroupMetrics>,
    /// Rows waiting for their write.
    pub buffered: IntGauge,
    /// When the write under way began; 0 while there is none.
    write_started: Gauge,
    /// Partitions paused for a write that waits.
    pub paused: IntGauge,
    /// Rejected rows by reason.
    pub dead_letters: IntCounterVec,
    /// Holes in the topic.
    pub holes: IntCounter,
    /// Records seen before.
    pub repeats: IntCounter,
    /// Records that were lost before a log that was emptied.
    pub lost: IntCounter,
    /// Whether the table refuses rows that it was made for.
    pub refusing: IntGauge,
    /// Partitions that are halted until a person acts.
    pub halted: IntGauge,
    /// Writes refused under an old epoch.
    pub fenced: IntCounterVec,
    /// Offset commits.
    pub commits: IntCounterVec,
    /// How long they took.
    pub commit_seconds: Histogram,
}

/// Writes by destination.
#[derive(Debug)]
struct WriteMetrics {
    written: IntCounterVec,
    batches: IntCounterVec,
    write_seconds: HistogramVec,
    batch_rows: HistogramVec,
    retries: IntCounterVec,
    latency: HistogramVec,
}

impl SinkMetrics {
    /// Registers them.
    #[must_use]
    pub fn new(metrics: &Metrics, config: &Config) -> Self {
        let backend = config.writer.as_str();
        let info = metrics.int_gauges(
            "wiki_sink_info",
            "Who this is; always 1.",
            &["replica", "group", "protocol", "backend"],
        );
        info.with_label_values(&[config.sink_name.as_str(), &config.group, config.rebalance.as_str(), backend]).set(1);
        let ordinal = metrics.int_gauge("wiki_sink_replica_ordinal", "Number in this replica's name, for colours.");
        let digits: String = config.sink_name.chars().rev().take_while(char::is_ascii_digit).collect();
        ordinal.set(digits.chars().rev().collect::<String>().parse().unwrap_or(1));
        let capacity =
            metrics.int_gauges("wiki_sink_buffer_capacity_records", "Rows of one write at most.", &["backend"]);
        capacity.with_label_values(&[backend]).set(i64::from(config.batch_rows));
        Self {
            backend,
            writes: WriteMetrics::new(metrics),
            group: Mutex::new(GroupMetrics::new(metrics, "sink", config.rebalance)),
            buffered: metrics.int_gauge("wiki_sink_buffer_records", "Rows waiting for their write."),
            write_started: metrics.gauge(
                "wiki_sink_write_started_timestamp_seconds",
                "When the write under way began, Unix time in seconds; 0 while there is none.",
            ),
            paused: metrics.int_gauge("wiki_sink_paused_partitions", "Partitions paused because a write waits."),
            dead_letters: metrics.counters(
                "wiki_sink_dead_letters_total",
                "Rows set aside.",
                "reason",
                &dead_letter::reasons(),
            ),
            holes: metrics.counter("wiki_sink_sequence_holes_total", "Holes in the topic; expected 0."),
            repeats: metrics.counter("wiki_sink_sequence_repeats_total", "Records seen before; expected 0."),
            lost: metrics.counter(
                "wiki_sink_records_lost_total",
                "Records that the topic no longer held before they were stored; expected 0.",
            ),
            halted: metrics.int_gauge("wiki_sink_halted_partitions", "Partitions that are halted until a person acts."),
            refusing: metrics.int_gauge(
                "wiki_sink_table_refuses",
                "Whether the table refuses rows that it was made for: 1 while it does.",
            ),
            fenced: metrics.counters(
                "wiki_sink_fenced_total",
                "Writes refused because another owner is there.",
                "by",
                &["epoch", "broker"],
            ),
            commits: metrics.counters("wiki_sink_commits_total", "Offset commits.", "outcome", &["ok", "failed"]),
            commit_seconds: metrics.histogram(
                "wiki_sink_commit_duration_seconds",
                "Handing an offset commit over, in seconds.",
                &WRITE_SECONDS,
            ),
        }
        .at_zero()
    }

    /// The group's part.
    pub fn group(&self) -> MutexGuard<'_, GroupMetrics> {
        self.group.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn at_zero(self) -> Self {
        for outcome in OUTCOMES {
            self.writes.written.with_label_values(&[self.backend, outcome]);
        }
        for outcome in ["ok", "failed"] {
            self.writes.batches.with_label_values(&[self.backend, outcome]);
        }
        self
    }

    /// Shows that a write is under way while `write` runs.
    pub fn during_a_write<T>(&self, write: impl FnOnce() -> T) -> T {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.write_started.set(now.as_secs_f64());
        let outcome = write();
        self.write_started.set(0.0);
        outcome
    }

    /// A write succeeded.
    pub fn wrote(&self, written: &crate::writer::Written, rows: usize, seconds: f64) {
        let count =
            |outcome: &str, count: u64| self.writes.written.with_label_values(&[self.backend, outcome]).inc_by(count);
        count("inserted", written.inserted);
        count("duplicate", written.repeats);
        count("dead_lettered", written.rejected.len() as u64);
        for reason in &written.rejected {
            self.dead_letters.with_label_values(&[reason.as_str()]).inc();
        }
        self.writes.batches.with_label_values(&[self.backend, "ok"]).inc();
        self.writes.write_seconds.with_label_values(&[self.backend]).observe(seconds);
        #[expect(clippy::cast_precision_loss, reason = "a number of rows fits a float well")]
        self.writes.batch_rows.with_label_values(&[self.backend]).observe(rows as f64);
    }

    /// Rows are durable that ingest read at these times, Unix milliseconds.
    pub fn durable(&self, received_at_ms: impl Iterator<Item = i64>) {
        observe_since(&self.writes.latency.with_label_values(&[self.backend]), received_at_ms);
    }

    /// A write has to be tried again.
    pub fn retried(&self, reason: &str) {
        self.writes.batches.with_label_values(&[self.backend, "failed"]).inc();
        self.writes.retries.with_label_values(&[self.backend, reason]).inc();
    }
}

impl WriteMetrics {
    fn new(metrics: &Metrics) -> Self {
        Self {
            written: metrics.open_counters(
                "wiki_sink_records_written_total",
                "Records by what became of them.",
                &["backend", "outcome"],
            ),
            batches: metrics.open_counters(
                "wiki_sink_write_batches_total",
                "Writes by outcome.",
                &["backend", "outcome"],
            ),
            write_seconds: metrics.histograms(
                "wiki_sink_write_duration_seconds",
                "One write, in seconds.",
                &["backend"],
                &WRITE_SECONDS,
            ),
            batch_rows: metrics.histograms(
                "wiki_sink_write_batch_records",
                "Rows of a write.",
                &["backend"],
                &BATCH_ROWS,
            ),
            retries: metrics.open_counters(
                "wiki_sink_write_retries_total",
                "Writes tried again.",
                &["backend", "reason"],
            ),
            latency: metrics.histograms(
                "wiki_sink_end_to_end_latency_seconds",
                "From ingest's reading to the table, in seconds.",
                &["backend"],
                &LATENCY,
            ),
        }
    }
}
