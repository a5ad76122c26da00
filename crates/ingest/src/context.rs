//! What the parts of the service share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kafka::Kafka;
use service::Service;
use service::health::Readiness;
use tokio::runtime::Handle;

use crate::config::Config;
use crate::metrics::IngestMetrics;

/// The group whose one partition says who acts.
pub const GROUP: &str = "wiki-ingest";
/// A loop of this service comes round at least this often; starting a writer may take half of it.
pub const TURN_LIMIT: Duration = Duration::from_secs(90);

/// Handed to each part.
#[derive(Clone, Debug)]
pub struct Context {
    /// Settings.
    pub config: Config,
    /// Makes Kafka clients.
    pub kafka: Kafka,
    /// Bytes of the longest event that each raw topic takes.
    pub most_bytes: Arc<BTreeMap<String, usize>>,
    /// What is counted.
    pub metrics: Arc<IngestMetrics>,
    /// Tasks, health and shutdown of the process.
    pub service: Service,
    /// Where connections run.
    pub runtime: Handle,
    /// Whether the stream flows, or this replica stands by.
    pub readiness: Readiness,
}
