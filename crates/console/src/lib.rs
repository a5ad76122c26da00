//! Shows the consumer groups as the broker sees them: who is in, who owns what, how far each partition is.
//!
//! It joins no group and writes nothing: whatever becomes of it, the pipeline does not notice.
//!
//! | module | what |
//! | --- | --- |
//! | [`config`], [`metrics`], [`error`] | as in every service |
//! | [`watch`] | the loop: look at each group, show it |
//! | [`picture`] | one look, and what it means (pure) |

pub mod config;
pub mod error;
pub mod metrics;
pub mod picture;
pub mod watch;

use std::time::Duration;

use kafka::Kafka;
use service::{Failure, Service};

pub use config::Config;
use watch::{Watch, Watched};

/// A look may wait for every answer it asks for.
const TURN_LIMIT: Duration = Duration::from_secs(120);

/// Runs the service until its shutdown.
///
/// # Errors
/// A [`Failure`] in one sentence.
pub async fn run(config: Config, service: Service) -> Result<(), Failure> {
    let kafka = Kafka::new(config.kafka.clone(), &service.metrics).in_group(&config.group);
    let looking = service.health.check("groups");
    kafka::wait_until_reachable(&kafka, config.require_healthy, &service.shutdown).await?;
    let topics = config.kafka.topics();
    let groups = [(&config.group, topics.events), (&config.enricher_group, topics.raw)];
    let mut watched = Vec::new();
    for (group, topic) in groups {
        let view =
            kafka.group_view(&config.kafka.prefixed(group)).map_err(|error| Failure::Config(error.sentence()))?;
        watched.push(Watched::new(view, topic));
    }
    let watch = Watch::new(watched, Duration::from_millis(config.look_ms), &service, looking);
    service.tasks.spawn_thread("watch", TURN_LIMIT, move |heartbeat| watch.run(&heartbeat))?;
    service.finish().await
}
