//! Flags of the simulator.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::Faults;

/// How fast events come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// Events a second.
    PerSecond(f64),
    /// As fast as they are read; event time stays virtual.
    Max,
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "max" {
            return Ok(Self::Max);
        }
        match text.parse::<f64>() {
            Ok(rate) if rate > 0.0 && rate.is_finite() => Ok(Self::PerSecond(rate)),
            _ => Err("a rate is a number above 0, or max".to_owned()),
        }
    }
}

/// What the simulator serves, and how.
#[derive(clap::Args, Clone, Debug)]
pub struct Config {
    /// Replay this recording (.sse byte for byte, or .jsonl) instead of generating.
    #[arg(long, env = "WIKI_SIMULATOR_EVENTS", value_name = "FILE")]
    pub events: Option<PathBuf>,
    /// Events a second, or max: as fast as they are read. 35 a second of event time in any case.
    #[arg(long, env = "WIKI_SIMULATOR_RATE", value_name = "N|max", default_value = "35")]
    pub rate: Rate,
    /// Seed of the generator: the same seed gives the same events.
    #[arg(long, env = "WIKI_SIMULATOR_SEED", default_value_t = 1)]
    pub seed: u64,
    /// Stop after this many edits; other events do not count. None means never.
    #[arg(long, env = "WIKI_SIMULATOR_EDITS", value_name = "N")]
    pub edits: Option<u64>,
    /// First instant of event time, Unix milliseconds; the present if not given.
    #[arg(long, env = "WIKI_SIMULATOR_EPOCH_MS", value_name = "MS")]
    pub epoch_ms: Option<i64>,
    /// How far back the log reaches, in seconds of event time.
    #[arg(long, env = "WIKI_SIMULATOR_HISTORY_SECONDS", default_value_t = 604_800)]
    pub history_seconds: u32,
    /// Seconds of event time between canaries of each data centre.
    #[arg(long, env = "WIKI_SIMULATOR_CANARY_SECONDS", default_value_t = 300)]
    pub canary_seconds: u32,
    /// Switch the primary data centre after this many events.
    #[arg(long, env = "WIKI_SIMULATOR_SWITCH_AFTER", value_name = "EVENTS")]
    pub switch_after: Option<u64>,
    /// Connections that one address may hold.
    #[arg(long, env = "WIKI_SIMULATOR_CONNECTIONS", default_value_t = 2)]
    pub connections: usize,
    /// What goes wrong; each can be changed while it runs (PUT /faults).
    #[command(flatten)]
    pub faults: Faults,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            events: None,
            rate: Rate::PerSecond(35.0),
            seed: 1,
            edits: None,
            epoch_ms: None,
            history_seconds: 604_800,
            canary_seconds: 300,
            switch_after: None,
            connections: 2,
            faults: Faults::default(),
        }
    }
}

impl Config {
    /// The time between two events; none where they come as fast as they are read.
    #[must_use]
    pub fn interval(&self) -> Option<Duration> {
        match self.rate {
            Rate::Max => None,
            Rate::PerSecond(rate) => Some(Duration::from_secs_f64(1.0 / rate)),
        }
    }
}
