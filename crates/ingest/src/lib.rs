//! Publishes Wikimedia's edits to Kafka, each once.
//!
//! Any number of replicas run; the one that holds the partition of `wikipedia-ingest` acts, the others wait and
//! open no connection to the stream. What makes it exact is not that lock but the fixed transactional id: a new
//! acting replica fences the old one, then reads where the log ends.
//!
//! | room | what |
//! | --- | --- |
//! | [`config`], [`metrics`], [`error`] | as in every service |
//! | [`context`] | what the parts share |
//! | [`ownership`] | who may work |
//! | [`recovery`], [`rebuild`] (pure) | where reading continues: what the log says |
//! | [`position`] (pure) | a position for each source topic, and the state that travels in commits |
//! | [`window`] (pure) | the ids that are known |
//! | [`resume`], [`overlap`] (pure) | how a connection asks, and what proves it |
//! | [`framer`], [`arrival`], [`step`] (pure) | whole events, what one is, and what becomes of it |
//! | [`gaps`] (pure) | the gap ledger |
//! | [`backfill`] (pure, but for `known`) | a stretch that is read again |
//! | [`output`] | what is written and committed together |
//! | [`worker`] | the loop: the only place where rooms meet |
//! | [`source`], [`backoff`] (pure) | the connection: bounded transport, frames; when to connect again |
//! | [`report`] | the stream's status, for the page |

pub mod arrival;
pub mod backfill;
pub mod backoff;
pub mod config;
pub mod context;
pub mod error;
pub mod framer;
pub mod gaps;
pub mod metrics;
pub mod output;
pub mod overlap;
pub mod ownership;
pub mod position;
pub mod rebuild;
pub mod recovery;
pub mod report;
pub mod resume;
pub mod source;
pub mod step;
#[cfg(test)]
mod testing;
pub mod window;
pub mod worker;

use std::sync::Arc;

use kafka::topics::{Keep, Wanted};
use kafka::{Error, Kafka};
use service::{Failure, Service};

pub use config::Config;
use context::{GROUP, TURN_LIMIT};
use metrics::IngestMetrics;

/// Runs the service until its shutdown.
///
/// # Errors
/// A [`Failure`] in one sentence.
pub async fn run(config: Config, service: Service) -> Result<(), Failure> {
    config.check()?;
    let kafka = Kafka::new(config.kafka.clone(), &service.metrics).in_group(GROUP);
    let reachable = service.health.check("kafka");
    let acting = service.health.check("stream");
    kafka::wait_until_reachable(&kafka, config.require_healthy, &service.shutdown).await?;
    if service.shutdown.is_cancelled() {
        return Ok(());
    }
    make_topics(&config, &kafka).await?;
    let (topics, raw_topics) = (config.kafka.topics(), config.raw_topics());
    let ours = raw_topics.iter().chain([&topics.events, &topics.ingest, &topics.gaps]).map(String::as_str);
    kafka.warn_of_weak_copies(&ours.chain(kafka::copies::INTERNAL).collect::<Vec<_>>()).await;
    let most_bytes = kafka.most_value_bytes(&raw_topics.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    reachable.ok("topics are there");
    let metrics = Arc::new(IngestMetrics::new(&service.metrics));
    let context = context::Context {
        config,
        kafka,
        most_bytes: Arc::new(most_bytes),
        metrics,
        service: service.clone(),
        runtime: tokio::runtime::Handle::current(),
        readiness: acting,
    };
    service.tasks.spawn_thread("lead", TURN_LIMIT, move |heartbeat| ownership::lead(&context, &heartbeat))?;
    service.finish().await
}

async fn make_topics(config: &Config, kafka: &Kafka) -> Result<(), Failure> {
    let topics = config.kafka.topics();
    let (partitions, replication) = (config.raw.partitions, config.raw.replication_factor);
    let raw_topics = config.raw_topics();
    let dead_letters = [topics.dead_letters_of(&topics.raw), topics.dead_letters_of(&topics.events)];
    let plain = |name, partitions| Wanted { name, partitions, replication, keep: Keep::Week };
    let mut wanted: Vec<Wanted<'_>> = raw_topics.iter().map(|name| plain(name.as_str(), partitions)).collect();
    wanted.push(plain(&topics.events, partitions));
    wanted.push(plain(&topics.ingest, 1));
    wanted.extend(dead_letters.iter().map(|name| plain(name.as_str(), 1)));
    wanted.push(Wanted { name: &topics.gaps, partitions: 1, replication, keep: Keep::Latest });
    wanted.push(Wanted { name: &topics.control, partitions: 1, replication, keep: Keep::Hour });
    kafka.ensure_topics(&wanted).await.map_err(|error: Error| Failure::Runtime(error.sentence()))?;
    let (kafka, ingest) = (kafka.clone(), topics.ingest);
    let found = tokio::task::spawn_blocking(move || Ok((kafka.tail()?.partitions(&ingest)?, ingest))).await;
    let found = found.map_err(|error| Failure::Runtime(error.to_string()))?;
    let (partitions, ingest) = found.map_err(|error: Error| Failure::Runtime(error.sentence()))?;
    match partitions {
        Some(count @ 2..) => Err(Failure::Config(format!(
            "topic {ingest} has {count} partitions: holding its one partition makes a replica the acting one; delete it and \
             create it with one"
        ))),
        _ => Ok(()),
    }
}
