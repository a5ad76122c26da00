//! Supervised tasks and threads: the first that fails ends the service, and shutdown waits for all of them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{Failure, Health, Metrics, shutdown};

/// How often heartbeats are looked at.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// A task that has not beaten for this many of its limits ends the service.
const HUNG_LIMITS: u32 = 2;

/// Where a service spawns its parts; cheap to clone.
#[derive(Clone, Debug)]
pub struct Tasks(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shutdown: CancellationToken,
    health: Health,
    metrics: Metrics,
    running: AtomicUsize,
    ended: mpsc::UnboundedSender<Ended>,
    reports: Mutex<Option<mpsc::UnboundedReceiver<Ended>>>,
    stopping_since: OnceLock<Instant>,
}

#[derive(Debug)]
struct Ended {
    task: String,
    result: Result<(), Failure>,
}

/// Told by a loop each time it turns.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    health: Health,
    last_ms: Arc<AtomicU64>,
}

impl Heartbeat {
    /// The loop turned.
    pub fn beat(&self) {
        self.last_ms.store(self.health.uptime_ms(), Ordering::Relaxed);
    }
}

impl Tasks {
    pub(crate) fn new(shutdown: CancellationToken, health: Health, metrics: &Metrics) -> Self {
        let (ended, reports) = mpsc::unbounded_channel();
        Self(Arc::new(Inner {
            shutdown,
            health,
            metrics: metrics.clone(),
            running: AtomicUsize::new(0),
            ended,
            reports: Mutex::new(Some(reports)),
            stopping_since: OnceLock::new(),
        }))
    }

    /// Runs a future as a task of the service.
    pub fn spawn(&self, task: &str, body: impl Future<Output = Result<(), Failure>> + Send + 'static) {
        self.0.running.fetch_add(1, Ordering::SeqCst);
        let (inner, task) = (Arc::clone(&self.0), task.to_owned());
        let handle = tokio::spawn(body);
        tokio::spawn(async move {
            let result = handle.await.unwrap_or_else(|_| Err(Failure::Runtime(format!("task {task} panicked"))));
            inner.end(task, result);
        });
    }

    /// Runs a blocking loop on a thread of its own, watched: it must beat at least every `limit`.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn spawn_thread(
        &self,
        task: &str,
        limit: Duration,
        body: impl FnOnce(Heartbeat) -> Result<(), Failure> + Send + 'static,
    ) -> Result<(), Failure> {
        let last_ms = self.0.health.watch(task, limit);
        let heartbeat = Heartbeat { health: self.0.health.clone(), last_ms: Arc::clone(&last_ms) };
        let (inner, name) = (Arc::clone(&self.0), task.to_owned());
        self.0.running.fetch_add(1, Ordering::SeqCst);
        let spawned = thread::Builder::new().name(task.to_owned()).spawn(move || {
            let result = catch_unwind(AssertUnwindSafe(|| body(heartbeat)));
            inner.health.unwatch(&last_ms);
            let result = result.unwrap_or_else(|_| Err(Failure::Runtime(format!("task {name} panicked"))));
            inner.end(name, result);
        });
        spawned.map(|_| ()).map_err(|error| Failure::Runtime(format!("cannot start thread {task}: {error}")))
    }

    /// Notes that a task was begun anew after a doubt.
    pub fn restarted(&self, task: &str) {
        self.0.metrics.task_restarted(task);
    }

    /// How long ago the shutdown began; zero before it.
    pub(crate) fn stopping_for(&self) -> Duration {
        self.0.stopping_since.get().map_or(Duration::ZERO, Instant::elapsed)
    }

    /// Waits for the service's end; see [`crate::Service::finish`].
    pub(crate) async fn finish(&self) -> Result<(), Failure> {
        let reports = self.0.reports.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut reports) = reports else { return Ok(()) };
        let mut result = Ok(());
        let deadline = async {
            self.0.shutdown.cancelled().await;
            self.0.health.stop();
            self.0.stopping_since.get_or_init(Instant::now);
            tokio::time::sleep(shutdown::LIMIT).await;
        };
        tokio::pin!(deadline);
        let mut watch = tokio::time::interval(WATCH_EVERY);
        while self.0.running.load(Ordering::SeqCst) > 0 {
            let ended = tokio::select! {
                ended = reports.recv() => ended,
                _ = watch.tick(), if !self.0.shutdown.is_cancelled() => {
                    if let Some(hung) = self.0.health.hung(HUNG_LIMITS) {
                        tracing::error!(task = hung, "a task hangs: ending the service so that it is restarted");
                        self.0.shutdown.cancel();
                        result = result.and(Err(Failure::Runtime(format!("task {hung} hangs"))));
                    }
                    continue;
                }
                () = &mut deadline => {
                    tracing::warn!(limit = ?shutdown::LIMIT, "tasks still running at the limit of the shutdown");
                    break;
                }
            };
            let Some(Ended { task, result: outcome }) = ended else { break };
            self.0.running.fetch_sub(1, Ordering::SeqCst);
            if let Err(failure) = outcome {
                tracing::debug!(task, %failure, "task failed");
                self.0.shutdown.cancel();
                result = result.and(Err(failure));
            }
        }
        result
    }
}

impl Inner {
    fn end(&self, task: String, result: Result<(), Failure>) {
        // Nobody waits any more once the limit of the shutdown is over.
        let _ = self.ended.send(Ended { task, result });
    }
}

#[cfg(test)]
mod tests {
    use crate::{Failure, Service};
    use std::time::Duration;
    use tokio_util::sync::CancellationToken;

    #[tokio::test]
    async fn a_failing_task_ends_the_service_with_its_words() {
        let service = Service::new("test", CancellationToken::new());
        let stopped = service.shutdown.clone();
        service.tasks.spawn("waits", async move {
            stopped.cancelled().await;
            Ok(())
        });
        service.tasks.spawn("fails", async { Err(Failure::Runtime("the disk is gone".into())) });
        assert_eq!(service.finish().await, Err(Failure::Runtime("the disk is gone".into())));
        assert!(service.shutdown.is_cancelled());
    }

    #[tokio::test]
    async fn a_hanging_thread_ends_the_service_by_name() {
        let service = Service::new("test", CancellationToken::new());
        let (release, held) = std::sync::mpsc::channel::<()>();
        let spawned = service.tasks.spawn_thread("hangs", Duration::from_millis(1), move |_| {
            // A call that does not come back until the test is over.
            let _ = held.recv();
            Ok(())
        });
        spawned.unwrap();
        let stopped = service.shutdown.clone();
        let released = tokio::spawn(async move {
            stopped.cancelled().await;
            drop(release);
        });
        assert_eq!(service.finish().await, Err(Failure::Runtime("task hangs hangs".into())));
        released.await.unwrap();
    }

    #[tokio::test]
    async fn a_panicking_thread_is_a_failure_not_a_silence() {
        let service = Service::new("test", CancellationToken::new());
        let spawned = service.tasks.spawn_thread("breaks", Duration::from_secs(1), |_| panic!("on purpose"));
        spawned.unwrap();
        assert_eq!(service.finish().await, Err(Failure::Runtime("task breaks panicked".into())));
    }
}
