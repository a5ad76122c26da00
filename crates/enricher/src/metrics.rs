//! What the enricher service shows.

use std::sync::{Mutex, MutexGuard, PoisonError};

use kafka::Rebalancing;
use kafka::group_metrics::GroupMetrics;
use prometheus::{Histogram, IntCounter, IntCounterVec};
use schema::namespace;
use service::Metrics;

const PROCESSING: [f64; 9] = [1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 1e-3, 1e-2, 5e-2, 1e-1];
const LATENCY: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0];

/// The metrics of spec section 4.3.
#[derive(Debug)]
pub struct EnricherMetrics {
    /// One outcome per input record.
    pub records: IntCounterVec,
    /// Where namespace names came from.
    pub namespaces: IntCounterVec,
    /// Mapping one record, sampled.
    pub processing: Histogram,
    /// Read by ingest to committed here.
    pub latency: Histogram,
    /// Transactions by outcome.
    pub transactions: IntCounterVec,
    /// Records with a lower sequence number than expected.
    pub repeats: IntCounter,
    /// Records with a higher one: the partition stops.
    pub holes: IntCounter,
    group: Mutex<GroupMetrics>,
}

impl EnricherMetrics {
    /// Registers them.
    #[must_use]
    pub fn new(metrics: &Metrics, rebalancing: Rebalancing) -> Self {
        let sources = namespace::Source::ALL.map(namespace::Source::as_str);
        Self {
            records: metrics.counters(
                "wiki_enricher_records_total",
                "Input records by what became of them.",
                "outcome",
                &["enriched", "dead_lettered", "skipped"],
            ),
            namespaces: metrics.counters(
                "wiki_enricher_namespaces_total",
                "Enriched edits by where the namespace's name came from.",
                "source",
                &sources,
            ),
            processing: metrics.histogram(
                "wiki_enricher_processing_duration_seconds",
                "Mapping one record, in seconds; one in 64 is measured.",
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
            repeats: metrics.counter("wiki_enricher_sequence_repeats_total", "Input records seen before; expected 0."),
            holes: metrics.counter("wiki_enricher_sequence_holes_total", "Holes in the input; each stops a partition."),
            group: Mutex::new(GroupMetrics::new(metrics, "enricher", rebalancing)),
        }
    }

    /// The group's part.
    pub fn group(&self) -> MutexGuard<'_, GroupMetrics> {
        self.group.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
