//! What the enricher service shows.

use std::sync::{Mutex, MutexGuard, PoisonError};

use kafka::Rebalancing;
use kafka::group_metrics::GroupMetrics;
use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};
use schema::namespace;
use service::Metrics;

const PROCESSING: [f64; 9] = [1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 1e-3, 1e-2, 5e-2, 1e-1];
const COMMIT: [f64; 10] = [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 5.0];
const LATENCY: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0];

/// What is counted; `docs/metrics.md` lists it.
#[derive(Debug)]
pub struct EnricherMetrics {
    /// One outcome per input record.
    pub records: IntCounterVec,
    /// Mapping and handing over one record, sampled.
    pub processing: Histogram,
    /// Read by ingest to committed here.
    pub latency: Histogram,
    /// Transactions by outcome.
    pub transactions: IntCounterVec,
    /// From the order to commit to the broker's answer, flushing included.
    pub commit_seconds: Histogram,
    /// Records with a lower sequence number than expected.
    pub repeats: IntCounter,
    /// Records with a higher one: the partition stops.
    pub holes: IntCounter,
    /// Partitions that are halted until a person acts.
    pub halted: IntGauge,
    /// Raw records that were deleted before they were mapped.
    pub lost: IntCounter,
    named: [IntCounter; namespace::Source::ALL.len()],
    group: Mutex<GroupMetrics>,
}

impl EnricherMetrics {
    /// Registers them.
    #[must_use]
    pub fn new(metrics: &Metrics, rebalancing: Rebalancing) -> Self {
        let sources = namespace::Source::ALL.map(namespace::Source::as_str);
        let named = metrics.counters(
            "wiki_enricher_namespaces_total",
            "Enriched edits by where the namespace's name came from.",
            "source",
            &sources,
        );
        let from = |source: namespace::Source| named.with_label_values(&[source.as_str()]);
        Self {
            records: metrics.counters(
                "wiki_enricher_records_total",
                "Input records by what became of them.",
                "outcome",
                &["enriched", "dead_lettered", "skipped"],
            ),
            processing: metrics.histogram(
                "wiki_enricher_processing_duration_seconds",
                "Mapping one record, in seconds; the mean of a batch, one batch in 16.",
                &PROCESSING,
            ),
            latency: metrics.histogram(
                "wiki_enricher_end_to_end_latency_seconds",
                "From ingest's reading to the commit here, in seconds.",
                &LATENCY,
            ),
            transactions: metrics.counters(
                "wiki_enricher_transactions_total",
                "Transactions committed, and writers dropped in doubt.",
                "outcome",
                &["committed", "doubt"],
            ),
            commit_seconds: metrics.histogram(
                "wiki_enricher_commit_duration_seconds",
                "Committing a transaction, the flush of its records included, in seconds.",
                &COMMIT,
            ),
            repeats: metrics.counter("wiki_enricher_sequence_repeats_total", "Input records seen before; expected 0."),
            holes: metrics.counter("wiki_enricher_sequence_holes_total", "Holes in the input; each stops a partition."),
            halted: metrics
                .int_gauge("wiki_enricher_halted_partitions", "Partitions that are halted until a person acts."),
            lost: metrics.counter(
                "wiki_enricher_inputs_lost_total",
                "Raw records that were deleted before they were mapped; expected 0.",
            ),
            named: namespace::Source::ALL.map(from),
            group: Mutex::new(GroupMetrics::new(metrics, "enricher", rebalancing)),
        }
    }

    /// Counts where the names of namespaces came from, in the order of [`namespace::Source::ALL`].
    pub fn named(&self, counts: &[u64; namespace::Source::ALL.len()]) {
        for (counter, count) in self.named.iter().zip(counts) {
            counter.inc_by(*count);
        }
    }

    /// The group's part.
    pub fn group(&self) -> MutexGuard<'_, GroupMetrics> {
        self.group.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
