//! How much flows, from records read. Pure.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::edits::Edits;

/// Rates are taken over this long.
const RATE_MS: i64 = 5_000;
/// Points of ten minutes.
const POINTS: usize = 120;
/// Between two points.
const POINT_MS: i64 = 5_000;

/// The pipeline in figures.
#[derive(Clone, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub struct FlowView {
    /// Records that came into the raw topic, a second.
    pub raw_rate: f64,
    /// The same of the enriched edits.
    pub events_rate: f64,
    /// Edits stored a second, by the sinks' words.
    pub stored_rate: f64,
    /// Edits known to be stored since the console watches.
    pub stored: u64,
    /// Raw records that are not enriched yet.
    pub enricher_lag: i64,
    /// Records that the sinks have not stored, by their words.
    pub sink_lag: i64,
    /// Milliseconds from an edit to its being stored, over the last minute: the median.
    pub delay_p50_ms: Option<i64>,
    /// Of 99 in 100, at most.
    pub delay_p99_ms: Option<i64>,
}

/// A point of the charts.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Point {
    /// When, Unix milliseconds.
    pub at_ms: i64,
    /// Edits stored a second.
    pub rate: f64,
    /// Median delay, milliseconds; null where nothing was stored.
    pub delay_ms: Option<i64>,
}

/// Counts over time, and the rates that follow.
#[derive(Debug, Default)]
pub struct Flow {
    raw: Counted,
    events: Counted,
    stored: VecDeque<(i64, i64)>,
    points: VecDeque<Point>,
}

/// Records of a topic that were read, and how far each partition has come in the numbers of the raw records.
#[derive(Debug, Default)]
struct Counted {
    read: i64,
    over_time: VecDeque<(i64, i64)>,
    last: BTreeMap<i32, i64>,
}

impl Counted {
    fn read(&mut self, partition: i32, number: i64) {
        self.read += 1;
        self.last.insert(partition, number);
    }
}

impl Flow {
    /// A raw record was read, with its number.
    pub fn read_raw(&mut self, partition: i32, number: i64) {
        self.raw.read(partition, number);
    }

    /// An enriched edit was read, with the number of the raw record that it came from.
    pub fn read_edit(&mut self, partition: i32, number: i64) {
        self.events.read(partition, number);
    }

    /// Time has passed.
    pub fn passed(&mut self, edits: &Edits, now_ms: i64) {
        note(&mut self.raw.over_time, now_ms, self.raw.read);
        note(&mut self.events.over_time, now_ms, self.events.read);
        note(&mut self.stored, now_ms, i64::try_from(edits.stored()).unwrap_or(i64::MAX));
        if self.points.back().is_none_or(|last| now_ms - last.at_ms >= POINT_MS) {
            let delay_ms = edits.delays().map(|(median, _)| median);
            self.points.push_back(Point { at_ms: now_ms, rate: rate(&self.stored), delay_ms });
            if self.points.len() > POINTS {
                self.points.pop_front();
            }
        }
    }

    /// The figures now; `sink_lag` is what the sinks say.
    #[must_use]
    pub fn view(&self, edits: &Edits, sink_lag: i64) -> FlowView {
        let delays = edits.delays();
        let enriched =
            |partition: &i32, last: i64| self.events.last.get(partition).map_or(0, |done| (last - done).max(0));
        FlowView {
            raw_rate: rate(&self.raw.over_time),
            events_rate: rate(&self.events.over_time),
            stored_rate: rate(&self.stored),
            stored: edits.stored(),
            enricher_lag: self.raw.last.iter().map(|(partition, last)| enriched(partition, *last)).sum(),
            sink_lag,
            delay_p50_ms: delays.map(|(median, _)| median),
            delay_p99_ms: delays.map(|(_, most)| most),
        }
    }

    /// Ten minutes of points, the oldest first.
    #[must_use]
    pub fn points(&self) -> Vec<Point> {
        self.points.iter().copied().collect()
    }
}

fn note(counts: &mut VecDeque<(i64, i64)>, at_ms: i64, count: i64) {
    counts.push_back((at_ms, count));
    while counts.get(1).is_some_and(|(then, _)| at_ms - then >= RATE_MS) {
        counts.pop_front();
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts and milliseconds fit a float well")]
fn rate(counts: &VecDeque<(i64, i64)>) -> f64 {
    match (counts.front(), counts.back()) {
        (Some((from_ms, from)), Some((to_ms, to))) if to_ms > from_ms => {
            (to - from).max(0) as f64 * 1_000.0 / (to_ms - from_ms) as f64
        }
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_taken_over_the_last_seconds() {
        let mut counts = VecDeque::new();
        for second in 0..20 {
            note(&mut counts, second * 1_000, if second < 10 { 0 } else { (second - 9) * 30 });
        }
        assert!((rate(&counts) - 30.0).abs() < 1e-9, "{}", rate(&counts));
        assert!(rate(&VecDeque::new()).abs() < 1e-9);
    }
}
