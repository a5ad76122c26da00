//! What the parts of the service share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kafka::{GroupMember, Kafka};
use schema::{Mapping, Topics};
use service::Service;
use service::health::Readiness;

use crate::Config;
use crate::metrics::EnricherMetrics;

/// Handed to each part; cheap to clone.
#[derive(Clone, Debug)]
pub struct Context {
    /// Settings.
    pub config: Config,
    /// Makes Kafka clients.
    pub kafka: Kafka,
    /// Names of the topics.
    pub topics: Arc<Topics>,
    /// Which changes become edits, and how.
    pub mapping: Arc<Mapping>,
    /// Bytes of the longest edit that the events topic takes.
    pub most_bytes: usize,
    /// This replica in the consumer group.
    pub member: Arc<GroupMember>,
    /// What is counted.
    pub metrics: Arc<EnricherMetrics>,
    /// Tasks, health and shutdown of the process.
    pub service: Service,
    /// Whether every assigned partition is worked on.
    pub readiness: Readiness,
    /// Partitions that a hole in the input halted.
    pub halted: Arc<AtomicUsize>,
}

impl Context {
    /// Ready unless a hole halted a partition: that is for a person to see.
    pub fn show_readiness(&self) {
        let halted = self.halted.load(Ordering::SeqCst);
        self.metrics.halted.set(i64::try_from(halted).unwrap_or(i64::MAX));
        match halted {
            0 => self.readiness.ok("partitions are worked on"),
            halted => self.readiness.failing(&format!("a hole in the input halted {halted} partitions")),
        }
    }
}
