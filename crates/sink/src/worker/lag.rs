//! How far each partition is behind: what is read and not yet stored counts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Worker;

/// The lag is shown at least this often: also while a write waits it must be seen to grow.
const SHOW_AGAIN: Duration = Duration::from_millis(500);
/// While a write waits the ends of partitions are asked for so often.
const ENDS_EVERY: Duration = Duration::from_secs(2);

/// What is known of the ends of partitions while nothing is fetched.
pub(super) struct Lag {
    ends: BTreeMap<i32, i64>,
    asked: Instant,
    shown: Instant,
}

impl Lag {
    pub(super) fn new() -> Self {
        Self { ends: BTreeMap::new(), asked: Instant::now(), shown: Instant::now() }
    }
}

impl Worker {
    /// Whether the lag was shown long ago.
    pub(super) fn is_lag_due(&self) -> bool {
        self.lag.shown.elapsed() >= SHOW_AGAIN
    }

    /// Shows it.
    pub(super) fn show_lag(&mut self) {
        self.lag.shown = Instant::now();
        self.ask_for_ends();
        let metrics = &self.context.metrics;
        metrics.buffered.set(i64::try_from(self.output.waiting()).unwrap_or(i64::MAX));
        for (partition, owned) in self.partitions.owned() {
            let left = self.behind(partition, owned.next_offset);
            let oldest = self.output.oldest_ms(partition).or(owned.last_received_at_ms);
            metrics.group().lagging(&self.context.at(partition), left, oldest);
        }
    }

    /// Records behind a place. While a write waits nothing is fetched, and the client knows no new end: it was asked for.
    pub(super) fn behind(&self, partition: i32, next_offset: i64) -> i64 {
        let asked = self.lag.ends.get(&partition).map_or(0, |end| end - next_offset);
        self.context.member.behind(&self.context.at(partition), next_offset).max(asked)
    }

    /// Asks for the ends of the partitions while nothing is fetched, now and then.
    fn ask_for_ends(&mut self) {
        if !self.is_paused {
            self.lag.ends.clear();
            return;
        }
        if self.lag.asked.elapsed() < ENDS_EVERY {
            return;
        }
        self.lag.asked = Instant::now();
        for partition in self.partitions.numbers() {
            // Kafka does not answer either: what was known last is shown.
            let Ok(bounds) = self.tail.bounds(&self.context.source.topic, partition) else { return };
            self.lag.ends.insert(partition, bounds.end);
        }
    }
}
