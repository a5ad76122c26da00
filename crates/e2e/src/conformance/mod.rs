//! The Kafka protocol as this pipeline uses it, checked against any broker.
