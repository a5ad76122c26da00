//! Flags of the simulator.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::Faults;
use crate::generator::{DENSITY, Making};

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
    /// Events a second, or max: as fast as they are read, with --edits all of them before the first reader.
    #[arg(long, env = "WIKI_SIMULATOR_RATE", value_name = "N|max", default_value = "35")]
    pub rate: Rate,
    /// Seed of the generator: the same seed and the same first instant give the same events. Without one each start
    /// makes others.
    #[arg(long, env = "WIKI_SIMULATOR_SEED")]
    pub seed: Option<u64>,
    /// Stop after this many edits; other events do not count. None means never.
    #[arg(long, env = "WIKI_SIMULATOR_EDITS", value_name = "N")]
    pub edits: Option<u64>,
    /// Events a second of event time, whatever the rate.
    #[arg(long, env = "WIKI_SIMULATOR_DENSITY", value_name = "N", default_value_t = DENSITY, value_parser = density)]
    pub density: f64,
    /// Event time that is made before the first reader, in seconds.
    #[arg(long, env = "WIKI_SIMULATOR_BACKLOG_SECONDS", value_name = "SECONDS", default_value_t = 0)]
    pub backlog_seconds: u32,
    /// How far back some log times step, in milliseconds.
    #[arg(long, env = "WIKI_SIMULATOR_DISORDER_MS", value_name = "MS", default_value_t = 0)]
    pub disorder_ms: u64,
    /// Every N events, one has a log time 60 days ahead, and the next one a negative log time.
    #[arg(long, env = "WIKI_SIMULATOR_ODD_EVERY", value_name = "N")]
    pub odd_every: Option<u64>,
    /// First instant of event time, Unix milliseconds. If not given: the present where events come as they would live,
    /// else a month ago, so that event time stays behind the clock.
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
            seed: None,
            edits: None,
            density: DENSITY,
            backlog_seconds: 0,
            disorder_ms: 0,
            odd_every: None,
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
    /// Whether event time passes as fast as the clock's.
    #[must_use]
    pub fn is_real_time(&self) -> bool {
        matches!(self.rate, Rate::PerSecond(rate) if rate <= self.density * 1.01) && self.epoch_ms.is_none()
    }

    /// How events are made.
    #[must_use]
    pub const fn making(&self) -> Making {
        Making {
            canary_seconds: self.canary_seconds,
            switch_after: self.switch_after,
            density: self.density,
            disorder_ms: self.disorder_ms,
            odd_every: self.odd_every,
        }
    }

    /// The time between two events; none where they come as fast as they are read.
    #[must_use]
    pub fn interval(&self) -> Option<Duration> {
        match self.rate {
            Rate::Max => None,
            Rate::PerSecond(rate) => Some(Duration::from_secs_f64(1.0 / rate)),
        }
    }
}

fn density(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(density) if density > 0.0 && density.is_finite() => Ok(density),
        _ => Err("a density is a number above 0".to_owned()),
    }
}
