//! Black-box stories on real processes, and the checker that judges them.
//!
//! It uses nothing of the services but their binaries, and computes what must come out by itself: a mistake in the
//! shared crates shows here instead of agreeing with itself.
//!
//! | module | what |
//! | --- | --- |
//! | [`process`] | processes started, killed with `kill -9`, asked to end |
//! | [`pipeline`] | a broker, a simulator and the services, as a story needs them |
//! | [`kafka`] | Apache Kafka itself: nodes started and killed |
//! | [`postgres`] | PostgreSQL itself: a server started and killed |
//! | [`browser`] | a real browser, driven |
//! | [`groups`] | a consumer group as the broker describes it |
//! | [`guarded`] | servers of others, ended with the story |
//! | [`emptied`] | topics and offsets that are emptied while the services are away |
//! | [`slow_link`] | a link that passes so many bytes a second |
//! | [`proxy`] | between clients and brokers: holds the end of a transaction back |
//! | [`stack`] | the compose stack as users run it, with Docker |
//! | [`target`] | where a story's topics are |
//! | [`chaos`] | the long fault runs: services killed, then nodes |
//! | [`demo`] | `wiki demo`, and its page compared with the broker |
//! | [`checker`] | made, raw, enriched and stored, compared |
//! | [`http`] | the few requests that stories make |
//! | [`recorded`] | recordings, and what each of their events must become |
//! | [`schedule`] | which stories run side by side, and which alone |
//! | [`random`] | seeded choices, so that a failure can be repeated |
//! | [`conformance`] | the Kafka protocol as this pipeline uses it, checked against any broker |
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a story says what broke by panicking")]

pub mod browser;
pub mod chaos;
pub mod checker;
pub mod conformance;
pub mod demo;
pub mod emptied;
pub mod frames;
pub mod groups;
pub mod guarded;
pub mod http;
pub mod kafka;
pub mod pages;
pub mod pipeline;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod random;
pub mod recorded;
pub mod schedule;
pub mod slow_link;
pub mod stack;
pub mod target;

use std::time::{Duration, Instant};

/// Waits for a future; stories have no runtime of their own.
///
/// # Panics
/// Where the system gives no runtime.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Waits until `condition` holds, at most `limit`.
///
/// # Panics
/// With `what`, where it does not hold in time.
pub fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(25));
    }
}
