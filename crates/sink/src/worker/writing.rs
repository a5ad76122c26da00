//! What follows a write: positions, offsets, pauses.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use kafka::group::answered;
use kafka::{CommitMode, TopicPartition};
use service::Failure;

use super::Worker;
use crate::batch::Part;
use crate::output::Event;
use crate::writer::Written;

impl Worker {
    /// Takes the end of the write that is under way, if it comes within `limit`.
    pub(super) fn finish_write(&mut self, limit: Duration) -> Result<(), Failure> {
        if let Some(event) = self.output.finished(limit)? {
            self.written(event);
        }
        Ok(())
    }

    /// Writes all that waits; false where that fails, or takes longer than `limit`.
    pub(super) fn settle(&mut self, limit: Duration) -> Result<bool, Failure> {
        let deadline = Instant::now() + limit;
        loop {
            self.output.start(&self.destination);
            if self.output.is_settled() {
                return Ok(true);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let Some(event) = self.output.finished(left)? else { return Ok(false) };
            let is_failed = matches!(event, Event::Failed);
            self.written(event);
            if is_failed {
                return Ok(false);
            }
        }
    }

    fn written(&mut self, event: Event) {
        match event {
            Event::Stored(parts, written) => self.stored(&parts, &written),
            Event::Fenced(partitions) => {
                for partition in partitions {
                    self.drop_until_claimed(partition);
                }
            }
            Event::Failed => {}
        }
        self.show_readiness();
    }

    /// Rows are durable.
    fn stored(&mut self, parts: &BTreeMap<i32, Part>, written: &Written) {
        self.context.service.metrics.progressed();
        for (partition, hole) in &written.holes {
            // The table was set back under us: what it lacks is read again.
            tracing::warn!(partition, ?hole, "the table expects another record: reading again from there");
            self.drop_until_claimed(*partition);
        }
        for (partition, part) in parts {
            self.context.metrics.durable(part.rows.iter().map(|row| row.received_at_ms));
            if let (Some(last), Some(owned)) = (part.rows.last(), self.partitions.get_mut(*partition)) {
                owned.stored(last);
            }
        }
        self.report.stored(written.inserted);
        self.commit_offsets(CommitMode::Send);
        self.show_lag();
        if !written.rejected.is_empty() {
            let reasons: BTreeSet<&str> = written.rejected.iter().map(|reason| reason.as_str()).collect();
            tracing::warn!(rows = written.rejected.len(), ?reasons, "rows were set aside in edits_rejected");
            self.dead_letters.due();
        }
    }

    /// Stops fetching while a write waits, and continues after it. Polling never stops: the group must not lose us for a
    /// destination that does not answer.
    pub(super) fn pause_if_blocked(&mut self) {
        if self.output.is_blocked() != self.is_paused {
            self.set_paused(!self.is_paused);
            self.show_readiness();
        }
    }

    /// What waits to be claimed stays paused until it is.
    fn set_paused(&mut self, paused: bool) {
        self.is_paused = paused;
        let waiting = self.partitions.unclaimed().filter(|_| paused);
        let owned = self.partitions.owned().map(|(partition, _)| partition);
        let all: Vec<TopicPartition> = owned.chain(waiting).map(|partition| self.context.at(partition)).collect();
        answered(self.context.member.set_paused(&all, paused));
        self.context.metrics.paused.set(if paused { i64::try_from(all.len()).unwrap_or(i64::MAX) } else { 0 });
    }

    /// Kafka's own offsets follow the table's: for lag tools, and for writers that keep no position.
    pub(super) fn commit_offsets(&self, mode: CommitMode) {
        let offset = |(partition, owned): (i32, &crate::position::Owned)| {
            (self.context.at(partition), owned.next_offset, String::new())
        };
        let offsets: Vec<(TopicPartition, i64, String)> = self.partitions.owned().map(offset).collect();
        if offsets.is_empty() {
            return;
        }
        let started = Instant::now();
        let committed = self.context.member.commit(&offsets, mode);
        let outcome = if committed.is_ok() { "ok" } else { "failed" };
        self.context.metrics.commits.with_label_values(&[outcome]).inc();
        self.context.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
    }
}
