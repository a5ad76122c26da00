//! The smallest honest consumer: it commits what it has handled, and never before.
//!
//! `cargo run -p kafka --example hello_consumer -- 127.0.0.1:9092 hello my-group 2`

use std::process::ExitCode;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [brokers, topic, group, count] = arguments.as_slice() else {
        eprintln!("usage: hello_consumer HOST:PORT TOPIC GROUP COUNT");
        return ExitCode::from(2);
    };
    match consume(brokers, topic, group, count.parse().unwrap_or(u64::MAX)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{topic} cannot be read: {error}");
            ExitCode::FAILURE
        }
    }
}

fn consume(brokers: &str, topic: &str, group: &str, count: u64) -> Result<(), KafkaError> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", group)
        .set("auto.offset.reset", "earliest")
        // Nobody commits but us, and what a transaction aborted is not shown.
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .create()?;
    consumer.subscribe(&[topic])?;
    let mut handled = 0;
    while handled < count {
        let Some(record) = consumer.poll(Duration::from_millis(100)) else { continue };
        let record = record?;
        let value = String::from_utf8_lossy(record.payload().unwrap_or_default());
        println!("{}:{}:{} {value}", record.topic(), record.partition(), record.offset());
        // Handled: now it may be committed. A crash before this line shows the record again; none is skipped.
        consumer.commit_message(&record, CommitMode::Sync)?;
        handled += 1;
    }
    Ok(())
}
