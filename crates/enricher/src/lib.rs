//! Maps raw edits to enriched edits, partition by partition, each once.
//!
//! A partition is the unit: one fenced transactional writer, one position. The position travels in the output
//! records, so whoever takes a partition over reads its last output and knows where to go on.
//!
//! | module | what |
//! | --- | --- |
//! | [`config`], [`metrics`] | as in every service |
//! | [`context`] | what the parts share |
//! | [`ownership`] | who may work: the consumer group assigns partitions |
//! | [`recovery`] | where a partition continues: fence, then read |
//! | [`position`] | where a partition stands (pure) |
//! | [`step`] | what becomes of one record (pure) |
//! | [`output`] | edits and dead letters, written and committed together |
//! | [`worker`] | one partition: read, judge, write, commit |
//! | [`mapper`] | a thread that has several workers |
//! | [`committer`] | the blocking half of one partition: recover, commit |
//! | [`message`] | what these threads send each other |

pub mod committer;
pub mod config;
pub mod context;
pub mod mapper;
pub mod message;
pub mod metrics;
pub mod output;
pub mod ownership;
pub mod position;
pub mod recovery;
pub mod step;
pub mod worker;

use std::sync::Arc;
use std::time::Duration;

use kafka::Kafka;
use schema::Mapping;
use service::{Failure, Service};

pub use config::Config;
use metrics::EnricherMetrics;

/// The loop of the group comes round at least this often; starting all writers may take most of it.
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
    let most_bytes = kafka.most_value_bytes(&[&topics.events]).await?;
    let most_bytes = most_bytes.get(&topics.events).copied().unwrap_or(usize::MAX);
    reachable.ok("topics are there");
    let metrics = Arc::new(EnricherMetrics::new(&service.metrics, config.rebalance));
    let group = config.kafka.prefixed(&config.group);
    let member = kafka
        .member(&group, &[topics.raw.as_str()], config.rebalance)
        .map_err(|error| Failure::Config(error.sentence()))?;
    let context = context::Context {
        mapping: Arc::new(Mapping::new(&config.event_types)),
        topics: Arc::new(topics),
        most_bytes,
        member: Arc::new(member),
        config,
        kafka,
        metrics,
        service: service.clone(),
        readiness: consuming,
        halted: Arc::default(),
    };
    service.tasks.spawn_thread("consume", TURN_LIMIT, move |heartbeat| ownership::follow(&context, &heartbeat))?;
    service.finish().await
}
