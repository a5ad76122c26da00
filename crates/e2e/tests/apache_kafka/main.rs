//! Everything that is told on Apache Kafka itself: three nodes for this whole test process, one story at a time.

#![expect(clippy::unwrap_used, reason = "a story says what broke by panicking")]
mod chaos;
mod conformance;
mod consume;
mod coordinator;
mod copies;
mod emptied;
mod late_end;
mod page;
mod replicas;
mod secure;
mod zombie_sink;
mod zombies;
