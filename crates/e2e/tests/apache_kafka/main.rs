//! Everything that is told on Apache Kafka itself: three nodes for this whole test process, one story at a time.

mod chaos;
mod conformance;
mod late_end;
mod replicas;
mod zombies;
