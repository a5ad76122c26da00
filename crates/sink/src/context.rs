//! What the parts of the service share.

use std::sync::Arc;

use kafka::{GroupMember, Kafka, TopicPartition};
use schema::Mapping;
use service::Service;
use service::health::Readiness;
use uuid::Uuid;

use crate::Config;
use crate::metrics::SinkMetrics;
use crate::slow::Slowness;

/// The topic that is stored.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its name.
    pub topic: String,
    /// Its id.
    pub topic_id: Uuid,
    /// Who stores it.
    pub owner: String,
}

/// Handed to each part.
#[derive(Debug)]
pub struct Context {
    /// Settings.
    pub config: Config,
    /// Makes Kafka clients.
    pub kafka: Kafka,
    /// This replica in the consumer group.
    pub member: Arc<GroupMember>,
    /// The topic that is stored.
    pub source: Source,
    /// The topic that a hole is repaired from.
    pub raw_topic: String,
    /// Which changes are edits, and how they become them.
    pub mapping: Mapping,
    /// What is counted.
    pub metrics: Arc<SinkMetrics>,
    /// Tasks, health and shutdown of the process.
    pub service: Service,
    /// Whether every assigned partition is stored.
    pub readiness: Readiness,
    /// Whether this sink is slow on purpose.
    pub slowness: Slowness,
}

impl Context {
    /// A partition of the topic that is stored.
    #[must_use]
    pub fn at(&self, partition: i32) -> TopicPartition {
        TopicPartition { topic: self.source.topic.clone(), partition }
    }
}
