//! The embedded broker as a process of its own.

use std::process::ExitCode;

use broker::command::Options;
use clap::Parser;

/// Embedded development broker: one node, in memory, loopback only, not Apache Kafka.
#[derive(Parser, Debug)]
#[command(version)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

fn main() -> ExitCode {
    match Arguments::parse().options.start() {
        Ok(_broker) => loop {
            std::thread::park();
        },
        Err(sentence) => {
            eprintln!("broker: {sentence}");
            ExitCode::from(1)
        }
    }
}
