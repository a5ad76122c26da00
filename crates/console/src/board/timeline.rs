//! Ten minutes of ownership, partition by partition.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::tile::TileState;

/// How far back it reaches.
pub const LENGTH_MS: i64 = 600_000;

/// A stretch in which nothing changed; it lasts until the next one begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Span {
    /// When it began, Unix milliseconds.
    pub from_ms: i64,
    /// The tile's state.
    pub state: TileState,
    /// The owner's name, where there is one.
    pub owner: Option<String>,
    /// The letter that it went by.
    pub letter: Option<String>,
}

/// The timeline of every partition.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    spans: BTreeMap<i32, VecDeque<Span>>,
}

impl Timeline {
    /// Notes what a partition's tile shows from now on; a span like the last one changes nothing.
    pub fn note(&mut self, partition: i32, span: Span) {
        let spans = self.spans.entry(partition).or_default();
        let is_same = |last: &Span| last.state == span.state && last.owner == span.owner;
        if spans.back().is_some_and(is_same) {
            return;
        }
        // What is learnt late begins where the last stretch began, at the earliest.
        let from_ms = spans.back().map_or(span.from_ms, |last| span.from_ms.max(last.from_ms));
        let span = Span { from_ms, ..span };
        let horizon = span.from_ms - LENGTH_MS;
        spans.push_back(span);
        // The span that reaches over the horizon stays.
        while spans.get(1).is_some_and(|second| second.from_ms <= horizon) {
            spans.pop_front();
        }
    }

    /// Partitions and their spans, the oldest first.
    pub fn all(&self) -> impl Iterator<Item = (i32, &VecDeque<Span>)> {
        self.spans.iter().map(|(partition, spans)| (*partition, spans))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_that_say_the_same_are_one_and_old_ones_go_except_the_one_over_the_horizon() {
        let span = |from_ms, owner: &str| Span {
            from_ms,
            state: TileState::Owned,
            owner: Some(owner.to_owned()),
            letter: None,
        };
        let mut timeline = Timeline::default();
        for (at_ms, owner) in [(0, "a"), (10, "a"), (20, "b"), (30, "a"), (LENGTH_MS + 25, "b")] {
            timeline.note(0, span(at_ms, owner));
        }
        let starts: Vec<i64> = timeline.all().flat_map(|(_, spans)| spans.iter().map(|span| span.from_ms)).collect();
        assert_eq!(starts, [20, 30, LENGTH_MS + 25]);
    }
}
