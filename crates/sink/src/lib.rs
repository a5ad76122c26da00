//! Stores enriched edits, each once.
//!
//! Replicas share the partitions of `wikipedia-events` as a consumer group. Rows and position are written in one
//! database transaction, under an epoch that each new owner raises: whoever lost a partition can no longer write it.
//!
//! | module | what |
//! | --- | --- |
//! | [`config`], [`metrics`], [`error`] | as in every service |
//! | [`context`] | what the parts share |
//! | [`ownership`] | who may work: partitions assigned, claimed, or waiting for that |
//! | [`recovery`] | where a partition continues: the claim |
//! | [`position`] | where a partition stands (pure) |
//! | [`step`] | what becomes of one record (pure) |
//! | [`output`] | the batch on its way into the destination |
//! | [`worker`] | the loop: read, judge, write, commit |
//! | [`batch`] | rows of one write (pure) |
//! | [`destination`] | the writer's thread |
//! | [`writer`], [`writers`] | what a destination must do, and the destinations |
//! | [`repair`] | a hole in the topic, repaired from the raw one |
//! | [`dead_letters`] | rejected rows on their way to the dead letters |
//! | [`aside`] | rows that were set aside, stored after all |
//! | [`prune`] | old rows taken out of the destination |
//! | [`report`] | what this sink says of itself |
//! | [`slow`] | slowness on purpose, to be watched |

pub mod aside;
pub mod batch;
pub mod config;
pub mod context;
pub mod dead_letters;
pub mod destination;
pub mod error;
pub mod metrics;
pub mod output;
pub mod ownership;
pub mod position;
pub mod prune;
pub mod recovery;
pub mod repair;
pub mod report;
pub mod slow;
pub mod step;
pub mod worker;
pub mod writer;
pub mod writers;

use std::time::Duration;

use kafka::Kafka;
use service::health::Readiness;
use service::{Failure, Heartbeat, Service};

pub use config::Config;
use destination::Destination;
use error::WriteError;
use metrics::SinkMetrics;
use slow::Slowness;
use worker::{Parts, Worker};

/// The loop comes round at least this often; what blocks longer is the destination's thread.
const TURN_LIMIT: Duration = Duration::from_secs(60);
/// Between two attempts to reach the destination at the start.
const PREPARE_AGAIN: Duration = Duration::from_millis(500);

/// Runs the service until its shutdown.
///
/// # Errors
/// A [`Failure`] in one sentence.
pub async fn run(config: Config, service: Service) -> Result<(), Failure> {
    // First: the signal ends a process that does not listen for it yet.
    let slowness = Slowness::on_signal();
    let writer = writers::open(&config)?;
    let kafka = Kafka::new(config.kafka.clone(), &service.metrics).named(&config.sink_name).in_group(&config.group);
    let reachable = service.health.check("kafka");
    let storing = service.health.check("store");
    kafka::wait_until_reachable(&kafka, config.require_healthy, &service.shutdown).await?;
    let topics = config.kafka.topics();
    let needed = [topics.raw.as_str(), topics.events.as_str(), &topics.dead_letters_of(&topics.events)];
    if !kafka::topics::wait_for(&kafka, &needed, &service.shutdown).await? {
        return Ok(());
    }
    reachable.ok("topics are there");
    let metrics = SinkMetrics::new(&service.metrics, &config);
    let frame = service.clone();
    service.tasks.spawn_thread("store", TURN_LIMIT, move |heartbeat| {
        let destination = Destination::start(&frame, writer)?;
        if !prepare(&destination, &config, &frame, &storing, &heartbeat)? {
            return Ok(());
        }
        let parts = Parts { config, kafka, metrics, service: frame, readiness: storing, slowness };
        Worker::join(parts, destination)?.run(&heartbeat)
    })?;
    service.finish().await
}

/// Waits until the destination answers; false where shutdown came first. Blocks.
fn prepare(
    destination: &Destination,
    config: &Config,
    service: &Service,
    storing: &Readiness,
    heartbeat: &Heartbeat,
) -> Result<bool, Failure> {
    let mut waiting = None;
    let mut prepared = destination.ask(|writer| writer.prepare());
    while !service.shutdown.is_cancelled() {
        heartbeat.beat();
        let Some(answer) = prepared.wait(PREPARE_AGAIN) else { continue };
        match answer {
            Ok(()) => return Ok(true),
            Err(WriteError::Stop(sentence)) => return Err(Failure::Config(sentence)),
            Err(error) if config.require_healthy => return Err(Failure::Unavailable(error.to_string())),
            Err(error) => {
                let sentence = error.to_string();
                // Said once for each reason, not each time.
                if waiting.as_ref() != Some(&sentence) {
                    tracing::warn!(error = sentence, "waiting for the destination");
                    storing.failing(&format!("waiting for the destination: {sentence}"));
                    waiting = Some(sentence);
                }
                std::thread::park_timeout(PREPARE_AGAIN);
                prepared = destination.ask(|writer| writer.prepare());
            }
        }
    }
    Ok(false)
}
