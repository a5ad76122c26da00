//! Shows who owns which partition, moving while one watches: a page, its API, and the groups' metrics.
//!
//! It joins no group and writes nothing: whatever becomes of it, the pipeline does not notice. Two truths meet here:
//! what the sinks say of themselves (`wikipedia-control`), and what the broker says of their group.
//!
//! | module | what |
//! | --- | --- |
//! | [`config`], [`metrics`], [`error`] | as in every service |
//! | [`watch`] | the loop that asks the broker about each group |
//! | [`follow`] | the loop that reads the sinks' words and the edits |
//! | [`picture`] | one look, and what it means (pure) |
//! | [`board`] | who owns which partition, by both truths (pure) |
//! | [`edits`], [`flow`] | what is stored, and how much flows (pure) |
//! | [`around`] | the stream, the brokers, dead letters, and what is wrong (pure) |
//! | [`live`] | all of that, shared, and who is told of it |
//! | [`control`] | what a page may do, in the demo |
//! | [`http`] | the page and its API |

pub mod around;
pub mod board;
pub mod config;
pub mod control;
pub mod edits;
pub mod error;
pub mod flow;
pub mod follow;
pub mod http;
pub mod live;
pub mod metrics;
pub mod picture;
pub mod watch;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use kafka::Kafka;
use service::{Failure, Service};

pub use config::Config;
use control::Control;
use follow::Follow;
use live::Live;
use metrics::ConsoleMetrics;
use watch::{Watch, Watched};

/// A look may wait for every answer it asks for.
const TURN_LIMIT: Duration = Duration::from_secs(120);

/// Runs the service until its shutdown.
///
/// # Errors
/// A [`Failure`] in one sentence.
pub async fn run(config: Config, service: Service, http: SocketAddr) -> Result<(), Failure> {
    let routes = attach(config, &service, None)?;
    service::admin::start_with(&service, http, routes).await?;
    service.finish().await
}

/// Starts to watch, and gives the page and its API; with `control` the page may change the pipeline.
///
/// # Errors
/// [`Failure::Config`] where a setting is refused.
pub fn attach(config: Config, service: &Service, control: Option<Control>) -> Result<Router, Failure> {
    let kafka = Kafka::new(config.kafka.clone(), &service.metrics).in_group(&config.group);
    let groups = [&config.group, &config.enricher_group].map(|group| config.kafka.prefixed(group));
    let metrics = ConsoleMetrics::new(&service.metrics, &[&groups[0], &groups[1]]);
    let live = Arc::new(Live::new(&config.kafka, &config.group, &metrics));
    let site = http::Site::new(Arc::clone(&live), control, &config, service);
    let looking = service.health.check("groups");
    let (telling, shutdown) = (Arc::clone(&live), service.shutdown.clone());
    service.tasks.spawn("tell", async move {
        telling.tell(shutdown).await;
        Ok(())
    });
    let starting = service.clone();
    service.tasks.spawn("start", async move {
        kafka::wait_until_reachable(&kafka, config.require_healthy, &starting.shutdown).await?;
        if starting.shutdown.is_cancelled() {
            return Ok(());
        }
        start_threads(&config, &kafka, (metrics, live), &starting, looking)
    });
    Ok(http::router(site))
}

fn start_threads(
    config: &Config,
    kafka: &Kafka,
    (metrics, live): (ConsoleMetrics, Arc<Live>),
    service: &Service,
    looking: service::health::Readiness,
) -> Result<(), Failure> {
    let topics = config.kafka.topics();
    let mut watched = Vec::new();
    for (group, topic) in [(&config.group, topics.events), (&config.enricher_group, topics.raw)] {
        let view =
            kafka.group_view(&config.kafka.prefixed(group)).map_err(|error| Failure::Config(error.sentence()))?;
        watched.push(Watched::new(view, topic));
    }
    let interval = Duration::from_millis(config.look_ms);
    let watch = Watch::new(watched, interval, (metrics, Arc::clone(&live)), service, looking);
    let follow = Follow::new(kafka, live).map_err(|error| Failure::Config(error.to_string()))?;
    let shutdown = service.shutdown.clone();
    service.tasks.spawn_thread("watch", TURN_LIMIT, move |heartbeat| watch.run(&heartbeat))?;
    service.tasks.spawn_thread("follow", TURN_LIMIT, move |heartbeat| follow.run(&heartbeat, &shutdown))
}
