//! The embedded broker as a process of its own.

use std::process::ExitCode;

use broker::{Broker, Config};
use clap::Parser;

/// Embedded development broker: one node, in memory, loopback only, not Apache Kafka.
#[derive(Parser, Debug)]
#[command(version)]
struct Arguments {
    /// Loopback port; 0 takes a free one.
    #[arg(long, env = "WIKI_BROKER_PORT", default_value_t = 9092)]
    port: u16,
    /// Mebibytes of records kept over all partitions; the oldest go first.
    #[arg(long, env = "WIKI_BROKER_MEMORY_MIB", default_value_t = 512)]
    memory_mib: usize,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = Config { port: arguments.port, max_bytes: arguments.memory_mib << 20, ..Config::default() };
    match Broker::start(config) {
        Ok(broker) => {
            println!("{}\nlistening on {}", broker::NOTICE, broker.address());
            loop {
                std::thread::park();
            }
        }
        Err(error) => {
            eprintln!(
                "broker: cannot listen on port {}: {error}; stop what listens there or give another --port",
                arguments.port
            );
            ExitCode::from(1)
        }
    }
}
