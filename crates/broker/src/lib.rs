//! A one-node, in-memory Kafka broker for one machine without Docker or Java.
