//! The smallest honest producer: it waits for the report of each record, and says what was not delivered.
//!
//! `cargo run -p kafka --example hello_producer -- 127.0.0.1:9092 hello Hello world`

use std::process::ExitCode;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(brokers), Some(topic)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: hello_producer HOST:PORT TOPIC VALUE…");
        return ExitCode::from(2);
    };
    let producer: FutureProducer = match ClientConfig::new()
        .set("bootstrap.servers", &brokers)
        // Every copy in sync has it, and a retry writes nothing twice.
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("message.timeout.ms", "10000")
        .create()
    {
        Ok(producer) => producer,
        Err(error) => {
            eprintln!("no producer: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut is_whole = true;
    for value in arguments {
        let record = FutureRecord::<str, str>::to(&topic).payload(&value);
        // The wait, at most, for room in the client's queue.
        match producer.send(record, Duration::from_secs(10)).await {
            Ok(at) => println!("delivered {topic}:{}:{}", at.partition, at.offset),
            Err((error, _)) => {
                eprintln!("not delivered: {value}: {error}");
                is_whole = false;
            }
        }
    }
    if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
