//! The loop: look at each group, show it. A look that fails leaves the last picture, and its age grows.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka::{GroupView, TopicView};
use service::health::Readiness;
use service::{Failure, Heartbeat, Service};

use crate::error::LookError;
use crate::live::{Live, now_ms};
use crate::metrics::ConsoleMetrics;
use crate::picture::{Brokers, Change, Picture, Progress};

/// How long all answers of one look may take.
const LOOK_LIMIT: Duration = Duration::from_secs(4);
/// A picture older than this is stale.
const STALE: Duration = Duration::from_secs(10);

/// A group, the topic it reads, and the last picture of both.
#[derive(Debug)]
pub struct Watched {
    view: GroupView,
    topic: String,
    last: Option<Picture>,
    looked: Instant,
}

impl Watched {
    /// A group that nobody has looked at yet.
    #[must_use]
    pub fn new(view: GroupView, topic: String) -> Self {
        Self { view, topic, last: None, looked: Instant::now() }
    }

    fn look(&mut self) -> Result<Picture, LookError> {
        let deadline = Instant::now() + LOOK_LIMIT;
        let left = || deadline.saturating_duration_since(Instant::now());
        let TopicView { partitions, brokers_up, brokers_known } = self.view.topic(&self.topic, left())?;
        let committed = self.view.committed(&partitions, left())?;
        let brokers = Brokers { up: brokers_up, known: brokers_known };
        let mut picture = Picture { brokers, ..Picture::default() };
        for at in partitions {
            let bounds = self.view.bounds(&at, left())?;
            let progress = Progress { start: bounds.start, end: bounds.end, committed: committed.get(&at).copied() };
            picture.partitions.insert(at, progress);
        }
        picture.described = self.view.describe(left())?;
        Ok(picture)
    }
}

/// Looks at groups until shutdown.
#[derive(Debug)]
pub struct Watch {
    watched: Vec<Watched>,
    interval: Duration,
    metrics: ConsoleMetrics,
    live: Arc<Live>,
    service: Service,
    readiness: Readiness,
}

impl Watch {
    /// Prepares the loop.
    #[must_use]
    pub fn new(
        watched: Vec<Watched>,
        interval: Duration,
        (metrics, live): (ConsoleMetrics, Arc<Live>),
        service: &Service,
        readiness: Readiness,
    ) -> Self {
        Self { watched, interval, metrics, live, service: service.clone(), readiness }
    }

    /// Looks until shutdown. Blocks.
    ///
    /// # Errors
    /// [`Failure::Runtime`] where a right is missing.
    pub fn run(mut self, heartbeat: &Heartbeat) -> Result<(), Failure> {
        self.live.watched_by(std::thread::current());
        while !self.service.shutdown.is_cancelled() {
            let began = Instant::now();
            heartbeat.beat();
            match self.turn() {
                Some(LookError::Stop(sentence)) => return Err(Failure::Runtime(sentence)),
                again => self.tell(again),
            }
            std::thread::park_timeout(self.interval.saturating_sub(began.elapsed()));
        }
        Ok(())
    }

    fn turn(&mut self) -> Option<LookError> {
        let mut failed = None;
        for watched in &mut self.watched {
            let asked_ms = now_ms();
            match watched.look() {
                Ok(picture) => {
                    self.live.looked(&watched.topic, &picture, asked_ms);
                    // The first look compares with nothing: who is there did not come just now.
                    let change = watched.last.as_ref().map_or_else(Change::default, |last| picture.since(last));
                    self.metrics.show(watched.view.group(), &watched.topic, &picture, change);
                    watched.last = Some(picture);
                    watched.looked = Instant::now();
                    self.service.metrics.progressed();
                }
                Err(error) => failed = Some(error),
            }
        }
        failed
    }

    fn tell(&self, failed: Option<LookError>) {
        let age = self.watched.iter().map(|watched| watched.looked.elapsed()).max().unwrap_or_default();
        self.metrics.snapshot_age.set(age.as_secs_f64());
        match failed {
            None => self.readiness.ok("groups seen"),
            // A coordinator that moves is silent for a moment.
            Some(error) => {
                tracing::debug!(%error, age_seconds = age.as_secs_f64(), "a look failed");
                if age > STALE {
                    self.readiness.failing(&format!("the picture is old: {error}"));
                }
            }
        }
    }
}
