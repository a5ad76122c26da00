//! Publishes Wikimedia's edits to Kafka, each once.
