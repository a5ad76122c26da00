//! Maps raw edits to enriched edits, partition by partition, each once.
//!
//! A partition is the unit: one fenced transactional writer, one position. The position travels in the output
//! records, so whoever takes a partition over reads its last output and knows where to go on.
//!
//! | module | what |
//! | --- | --- |
//! | [`config`], [`metrics`] | as in every service |
//! | [`assignment`] | the consumer group: partitions come and go |
//! | [`mapper`] | a thread that maps the records of several partitions |
//! | [`lane`] | one partition in its hands: records in, edits out, when to commit |
//! | [`committer`] | the blocking half of one partition: fence and recover, commit |
//! | [`progress`] | where a partition stands (pure) |

pub mod assignment;
pub mod committer;
pub mod config;
pub mod lane;
pub mod mapper;
pub mod metrics;
pub mod progress;

use std::sync::Arc;
use std::time::Duration;

use kafka::Kafka;
use schema::Mapping;
use service::{Failure, Service};

pub use config::Config;
use metrics::EnricherMetrics;

/// The loop of the group turns at least this often; starting all writers may take most of it.
const TURN_LIMIT: Duration = Duration::from_secs(120);

/// Runs the service until its shutdown.
///
/// # Errors
/// A [`Failure`] in one sentence.
pub async fn run(config: Config, service: Service) -> Result<(), Failure> {
    let kafka = Kafka::new(config.kafka.clone(), &service.metrics).named(&service.replica).in_group(&config.group);
    let reachable = service.health.check("kafka");
    let consuming = service.health.check("partitions");
    kafka::wait_until_reachable(&kafka, config.require_healthy, &service.shutdown).await?;
    let topics = config.kafka.topics();
    let needed = [topics.raw.as_str(), topics.events.as_str(), &topics.dead_letters_of(&topics.raw)];
    if !kafka::topics::wait_for(&kafka, &needed, &service.shutdown).await? {
        return Ok(());
    }
    reachable.ok("topics are there");
    let metrics = Arc::new(EnricherMetrics::new(&service.metrics, config.rebalance));
    let group = config.kafka.prefixed(&config.group);
    let member = kafka
        .member(&group, &[topics.raw.as_str()], config.rebalance)
        .map_err(|error| Failure::Config(error.sentence()))?;
    let context = assignment::Context {
        mapping: Arc::new(Mapping::new(&config.event_types)),
        topics: Arc::new(topics),
        member: Arc::new(member),
        config,
        kafka,
        metrics,
        service: service.clone(),
        readiness: consuming,
        stopped: Arc::default(),
    };
    service.tasks.spawn_thread("consume", TURN_LIMIT, move |heartbeat| assignment::follow(&context, &heartbeat))?;
    service.finish().await
}
