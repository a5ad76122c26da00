//! Two questions, two answers: is the process alive (its loops turn), is it able to do work now (its checks pass).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::Metrics;

/// The health of one service; cheap to clone.
#[derive(Clone, Debug)]
pub struct Health(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    metrics: Metrics,
    started: Instant,
    stopping: AtomicBool,
    checks: Mutex<BTreeMap<&'static str, Check>>,
    loops: Mutex<Vec<Beat>>,
}

#[derive(Debug)]
struct Check {
    ready: bool,
    detail: String,
    since: jiff::Timestamp,
}

#[derive(Debug)]
struct Beat {
    task: String,
    limit: Duration,
    last_ms: Arc<AtomicU64>,
}

/// One check, as `/readyz` shows it.
#[derive(Debug, Serialize)]
pub struct CheckReport {
    name: &'static str,
    status: &'static str,
    critical: bool,
    since: String,
    detail: String,
    took_ms: u64,
}

/// The body of `/readyz` and `/health`.
#[derive(Debug, Serialize)]
pub struct Report {
    /// `ok`, `failing` or `stopping`.
    pub status: &'static str,
    /// Every check.
    pub checks: Vec<CheckReport>,
}

/// Tells one readiness check; results are kept, so that a probe asks nothing of anybody.
#[derive(Clone, Debug)]
pub struct Readiness {
    name: &'static str,
    health: Health,
}

impl Readiness {
    /// The check passes.
    pub fn ok(&self, detail: &str) {
        self.health.set(self.name, true, detail);
    }

    /// The check fails.
    pub fn failing(&self, detail: &str) {
        self.health.set(self.name, false, detail);
    }
}

impl Health {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        Self(Arc::new(Inner {
            metrics: metrics.clone(),
            started: Instant::now(),
            stopping: AtomicBool::new(false),
            checks: Mutex::default(),
            loops: Mutex::default(),
        }))
    }

    /// Adds a readiness check; it fails until it is told otherwise.
    #[must_use]
    pub fn check(&self, name: &'static str) -> Readiness {
        self.set(name, false, "not yet");
        Readiness { name, health: self.clone() }
    }

    /// Adds a loop that must turn within `limit`.
    pub(crate) fn watch(&self, task: &str, limit: Duration) -> Arc<AtomicU64> {
        let last_ms = Arc::new(AtomicU64::new(self.uptime_ms()));
        let beat = Beat { task: task.to_owned(), limit, last_ms: Arc::clone(&last_ms) };
        lock(&self.0.loops).push(beat);
        last_ms
    }

    /// A loop that ended by itself is watched no more.
    pub(crate) fn unwatch(&self, last_ms: &Arc<AtomicU64>) {
        lock(&self.0.loops).retain(|beat| !Arc::ptr_eq(&beat.last_ms, last_ms));
    }

    pub(crate) fn uptime_ms(&self) -> u64 {
        u64::try_from(self.0.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Readiness goes first when a service stops.
    pub fn stop(&self) {
        self.0.stopping.store(true, Ordering::Relaxed);
    }

    fn set(&self, name: &'static str, ready: bool, detail: &str) {
        self.0.metrics.set_ready(name, ready);
        let mut checks = lock(&self.0.checks);
        let since = checks.get(name).filter(|check| check.ready == ready).map(|check| check.since);
        let since = since.unwrap_or_else(jiff::Timestamp::now);
        checks.insert(name, Check { ready, detail: detail.to_owned(), since });
    }

    /// The loops that have not turned within their limit.
    #[must_use]
    pub fn stuck(&self) -> Vec<String> {
        self.late(1)
    }

    /// A loop that has not turned for so many of its limits.
    pub(crate) fn hung(&self, limits: u32) -> Option<String> {
        self.late(limits).into_iter().next()
    }

    fn late(&self, limits: u32) -> Vec<String> {
        let now = self.uptime_ms();
        let late = |beat: &&Beat| {
            let limit = u64::try_from(beat.limit.saturating_mul(limits).as_millis()).unwrap_or(u64::MAX);
            now.saturating_sub(beat.last_ms.load(Ordering::Relaxed)) > limit
        };
        lock(&self.0.loops).iter().filter(late).map(|beat| beat.task.clone()).collect()
    }

    /// Whether the service can do work now, and why.
    #[must_use]
    pub fn report(&self) -> Report {
        let started = Instant::now();
        let checks = lock(&self.0.checks);
        let status = if self.0.stopping.load(Ordering::Relaxed) {
            "stopping"
        } else if checks.values().all(|check| check.ready) {
            "ok"
        } else {
            "failing"
        };
        let checks = checks.iter().map(|(name, check)| CheckReport {
            name,
            status: if check.ready { "ok" } else { "failing" },
            critical: true,
            since: check.since.to_string(),
            detail: check.detail.clone(),
            took_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        });
        Report { status, checks: checks.collect() }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_ready_when_every_check_passes_and_until_it_stops() {
        let health = Health::new(&Metrics::new("test"));
        let (kafka, stream) = (health.check("kafka"), health.check("stream"));
        kafka.ok("connected");
        assert_eq!(health.report().status, "failing");
        stream.ok("flowing");
        assert_eq!(health.report().status, "ok");
        health.stop();
        assert_eq!(health.report().status, "stopping");
    }

    #[test]
    fn a_loop_that_does_not_turn_is_stuck_until_it_ends() {
        let health = Health::new(&Metrics::new("test"));
        let beat = health.watch("writer", Duration::ZERO);
        while health.uptime_ms() < 2 {
            std::hint::spin_loop();
        }
        assert_eq!(health.stuck(), ["writer"]);
        health.unwatch(&beat);
        assert!(health.stuck().is_empty());
    }
}
