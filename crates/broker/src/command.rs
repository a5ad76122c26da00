//! The broker's command line, for its own binary and for `wiki broker`.

use crate::{Broker, Config};

/// How a broker on the command line runs.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct Options {
    /// Loopback port; 0 takes a free one.
    #[arg(long, env = "WIKI_BROKER_PORT", default_value_t = 9092)]
    port: u16,
    /// Mebibytes of records kept over all partitions; the oldest go first.
    #[arg(long, env = "WIKI_BROKER_MEMORY_MIB", default_value_t = 512)]
    memory_mib: usize,
}

impl Options {
    /// Starts the broker, and says where it listens.
    ///
    /// # Errors
    /// One sentence, where the port is taken.
    pub fn start(self) -> Result<Broker, String> {
        // Who has a subscriber already keeps it.
        let _ = tracing_subscriber::fmt().with_writer(std::io::stderr).try_init();
        let Self { port, memory_mib } = self;
        let config = Config { port, max_bytes: memory_mib << 20, ..Config::default() };
        let broker = Broker::start(config).map_err(|error| {
            format!("cannot listen on port {port}: {error}; stop what listens there or give another --port")
        })?;
        println!("{}\nlistening on {}", crate::NOTICE, broker.address());
        Ok(broker)
    }
}
