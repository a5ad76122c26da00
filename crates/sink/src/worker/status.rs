//! What the loop shows of itself: readiness, metrics, and its status for those who watch.

use kafka::TopicPartition;
use schema::control::{Moment, OwnedPartition};

use super::Worker;
use crate::report::State;

impl Worker {
    /// Shows what is due to be shown, and delivers what waits to be delivered.
    pub(super) fn show(&mut self) {
        if self.is_lag_due() {
            self.show_lag();
            self.show_readiness();
            self.dead_letters.outbox().serve();
        }
        if self.report.is_due() {
            self.report(Moment::Heartbeat, &[]);
        }
        let (topic_id, partitions) = (self.context.source.topic_id, &self.partitions);
        self.dead_letters.advance(&self.destination, topic_id, || partitions.numbers(), &self.tail);
    }

    /// Ready unless a write waits, or a hole halted a partition: that is for a person to see.
    pub(super) fn show_readiness(&self) {
        let owned = self.partitions.owned().count();
        self.context.metrics.halted.set(i64::try_from(self.partitions.halted()).unwrap_or(i64::MAX));
        match self.trouble() {
            Some(trouble) => self.context.readiness.failing(&trouble),
            None if owned == 0 => self.context.readiness.ok("standing by"),
            None => self.context.readiness.ok(&format!("{owned} partitions")),
        }
    }

    fn trouble(&self) -> Option<String> {
        if let Some(trouble) = self.output.trouble() {
            return Some(trouble);
        }
        if self.partitions.is_failing() || (self.partitions.is_claiming() && self.partitions.unclaimed().count() > 0) {
            return Some("partitions wait to be claimed in the destination".to_owned());
        }
        let halted = self.partitions.halted();
        (halted > 0).then(|| format!("a hole that cannot be repaired halted {halted} partitions"))
    }

    /// Says who we are and what we own, at a moment that concerns these partitions.
    pub(super) fn report(&mut self, moment: Moment, moving: &[TopicPartition]) {
        let state = State {
            membership: self.context.member.membership(),
            owned: self.assigned_partitions(),
            buffered: self.output.waiting(),
            trouble: self.trouble(),
            is_slowed: self.context.slowness.is_on(),
        };
        self.report.tell(moment, moving.iter().map(|at| at.partition).collect(), state);
    }

    /// What the group assigned, also where it waits to be claimed.
    fn assigned_partitions(&self) -> Vec<OwnedPartition> {
        let owned = self.partitions.owned().map(|(partition, owned)| OwnedPartition {
            partition,
            next_offset: owned.next_offset,
            lag: self.behind(partition, owned.next_offset).max(0),
        });
        let waiting = self.partitions.unclaimed();
        owned.chain(waiting.map(|partition| OwnedPartition { partition, next_offset: -1, lag: 0 })).collect()
    }
}
