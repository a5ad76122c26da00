//! What the loop shows of itself: readiness, and its word to whoever watches.

use kafka::TopicPartition;
use schema::control::{Moment, OwnedPartition};

use super::Store;
use crate::report::State;

impl Store {
    /// Ready unless a write waits, or a hole halted a partition: that is for a person to see.
    pub(super) fn show_readiness(&self) {
        let halted = self.owned.values().filter(|owned| owned.is_halted).count();
        self.metrics.halted.set(i64::try_from(halted).unwrap_or(i64::MAX));
        match self.trouble() {
            Some(trouble) => self.readiness.failing(&trouble),
            None if self.owned.is_empty() => self.readiness.ok("standing by"),
            None => self.readiness.ok(&format!("{} partitions", self.owned.len())),
        }
    }

    fn trouble(&self) -> Option<String> {
        if let Some(sentence) = &self.refused {
            return Some(format!("the table refuses rows that it was made for: {sentence}"));
        }
        if self.retry.is_some() {
            return Some("a write waits for the destination".to_owned());
        }
        if self.unclaimed {
            return Some("partitions wait to be claimed in the destination".to_owned());
        }
        let halted = self.owned.values().filter(|owned| owned.is_halted).count();
        (halted > 0).then(|| format!("a hole that cannot be healed halted {halted} partitions"))
    }

    /// Says who we are and what we own, at a moment that concerns these partitions.
    pub(super) fn report(&mut self, moment: Moment, moving: &[TopicPartition]) {
        let state = State {
            membership: self.member.membership(),
            owned: self.assigned(),
            buffered: self.batch.len(),
            trouble: self.trouble(),
            is_slowed: self.slowness.is_on(),
        };
        self.report.tell(moment, moving.iter().map(|at| at.partition).collect(), state);
    }

    /// What the group gave us, also where it waits to be claimed.
    fn assigned(&self) -> Vec<OwnedPartition> {
        let owned = self.owned.iter().map(|(partition, owned)| OwnedPartition {
            partition: *partition,
            next_offset: owned.next_offset,
            lag: self.behind(*partition, owned.next_offset).max(0),
        });
        let waiting = self.lost.keys().filter(|partition| !self.owned.contains_key(partition));
        owned
            .chain(waiting.map(|partition| OwnedPartition { partition: *partition, next_offset: -1, lag: 0 }))
            .collect()
    }
}
