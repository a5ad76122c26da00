//! Stores enriched edits, each once.
//!
//! Replicas share the partitions of `wikipedia-events` as a consumer group. Rows and position are written in one
//! database transaction, under an epoch that each new owner raises: whoever lost a partition can no longer write it.
//!
//! | module | what |
//! | --- | --- |
//! | [`config`], [`metrics`], [`error`] | as in every service |
//! | [`store`] | the loop: poll, collect, write, commit |
//! | [`ownership`] | partitions claimed and given back |
//! | [`aside`] | rows that were set aside, stored after all |
//! | [`batch`] | rows of one write (pure) |
//! | [`heal`] | a hole in the topic, filled from the raw one |
//! | [`outbox`] | rejected rows on their way to the dead letters |
//! | [`report`] | what this sink says of itself |
//! | [`slow`] | slowness on purpose, to be watched |
//! | [`writer`] | what a destination must do |
//! | [`writers`] | the destinations |

pub mod aside;
pub mod batch;
pub mod config;
pub mod error;
pub mod heal;
pub mod metrics;
pub mod outbox;
pub mod ownership;
pub mod report;
pub mod slow;
pub mod store;
pub mod writer;
pub mod writers;

use std::time::Duration;

use kafka::Kafka;
use service::health::Readiness;
use service::{Failure, Heartbeat, Service};

pub use config::Config;
use error::WriteError;
use metrics::SinkMetrics;
use slow::Slowness;
use writer::Writer;

/// The loop turns at least this often; a write that takes longer is stuck.
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
    let mut writer = writers::open(&config)?;
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
        if !prepare(writer.as_mut(), &config, &frame, &storing, &heartbeat)? {
            return Ok(());
        }
        store::Store::join(config, kafka, metrics, frame, storing, (writer, slowness))?.run(&heartbeat)
    })?;
    service.finish().await
}

/// Waits until the destination answers; false where shutdown came first. Blocks.
fn prepare(
    writer: &mut dyn Writer,
    config: &Config,
    service: &Service,
    storing: &Readiness,
    heartbeat: &Heartbeat,
) -> Result<bool, Failure> {
    let mut waiting = None;
    while !service.shutdown.is_cancelled() {
        heartbeat.beat();
        match writer.prepare() {
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
            }
        }
    }
    Ok(false)
}
