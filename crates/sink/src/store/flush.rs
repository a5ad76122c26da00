//! The batch on its way into the destination, and what follows a write.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use kafka::group::answered;
use kafka::group_metrics::seconds_since;
use kafka::{CommitMode, TopicPartition};
use service::Failure;

use super::{ENDS_EVERY, RETRY, Retry, Store};
use crate::batch::Part;
use crate::error::WriteError;
use crate::slow;
use crate::writer::Written;

impl Store {
    /// Writes the batch, if there is one.
    pub(super) fn flush(&mut self) -> Result<(), Failure> {
        if self.batch.is_empty() {
            self.since = None;
            self.end_retry();
            return Ok(());
        }
        if self.slowness.is_on() {
            std::thread::park_timeout(slow::PAUSE);
        }
        let started = Instant::now();
        let rest = self.most.map(|most| self.batch.split_off(most)).unwrap_or_default();
        let error = match self.metrics.during_a_write(|| self.writer.write(&self.batch)) {
            Ok(written) => {
                let rows = self.batch.len();
                self.metrics.wrote(&written, rows, started.elapsed().as_secs_f64());
                self.written(&written, rest);
                return Ok(());
            }
            Err(error) => error,
        };
        self.batch.append(rest);
        self.write_failed(error)
    }

    fn write_failed(&mut self, error: WriteError) -> Result<(), Failure> {
        match error {
            WriteError::Fenced { partitions } => {
                tracing::warn!(?partitions, "another sink owns these partitions by now: nothing was written");
                self.metrics.fenced.with_label_values(&["epoch"]).inc_by(partitions.len() as u64);
                for partition in partitions {
                    self.let_go(partition);
                }
            }
            WriteError::Retry { doing, .. } => {
                tracing::warn!(%error, "write failed; trying again");
                self.retry_later(doing);
            }
            WriteError::TooSlow { doing, .. } => {
                let most = (self.most.unwrap_or_else(|| self.batch.len()) / 2).max(1);
                tracing::warn!(%error, rows = most, "a write took too long; trying again with fewer rows at once");
                self.most = Some(most);
                self.retry_later(doing);
            }
            WriteError::Refused(sentence) => {
                tracing::error!(
                    rows = self.batch.len(),
                    "the table refuses rows that it was made for: {sentence}; nothing was set aside, and writing \
                     continues when the table takes them again"
                );
                self.refused = Some(sentence);
                self.metrics.refusing.set(1);
                self.retry_later("refused");
            }
            WriteError::Stop(sentence) => return Err(Failure::Runtime(sentence)),
        }
        Ok(())
    }

    fn retry_later(&mut self, doing: &str) {
        let wait = self.retry.as_ref().map_or(RETRY.0, |retry| (retry.wait * 2).min(RETRY.1));
        self.metrics.retried(doing);
        if self.retry.is_none() {
            self.set_paused(true);
        }
        self.retry = Some(Retry { at: Instant::now() + wait, wait });
        self.show_readiness();
    }

    /// While a write waits nothing more is fetched, but polling goes on: the group must not lose us for it. What waits
    /// to be claimed stays paused until it is.
    pub(super) fn set_paused(&self, paused: bool) {
        let waiting = self.lost.keys().filter(|_| paused);
        let all: Vec<TopicPartition> = self.owned.keys().chain(waiting).map(|partition| self.at(*partition)).collect();
        answered(self.member.set_paused(&all, paused));
        self.metrics.paused.set(if paused { i64::try_from(all.len()).unwrap_or(i64::MAX) } else { 0 });
    }

    pub(super) fn end_retry(&mut self) {
        if self.retry.take().is_some() {
            self.set_paused(false);
            self.show_readiness();
        }
    }

    /// Rows are stored; the `rest` of the batch waits for the next write.
    fn written(&mut self, written: &Written, rest: BTreeMap<i32, Part>) {
        if self.refused.take().is_some() {
            tracing::info!("the table takes rows again");
            self.metrics.refusing.set(0);
        }
        if rest.is_empty() {
            self.end_retry();
        } else if let Some(retry) = &mut self.retry {
            // At once; until all is written nothing more is read.
            *retry = Retry { at: Instant::now(), wait: RETRY.0 };
        }
        let most = usize::try_from(self.config.batch_rows).unwrap_or(usize::MAX);
        self.most = self.most.map(|rows| rows.saturating_mul(2)).filter(|rows| *rows < most);
        for (partition, (from, to)) in &written.lost {
            tracing::error!(
                partition,
                count = to - from,
                from,
                to,
                "the topic was emptied before these records were stored: their edits are lost"
            );
            self.metrics.lost.inc_by(u64::try_from(to - from).unwrap_or(0));
        }
        if !written.rejected.is_empty() {
            let reasons: BTreeSet<&str> = written.rejected.iter().map(|reason| reason.as_str()).collect();
            tracing::warn!(rows = written.rejected.len(), ?reasons, "rows were set aside in edits_rejected");
        }
        self.service.metrics.progressed();
        for (partition, hole) in &written.holes {
            // The table was set back under us: what it lacks is read again.
            tracing::warn!(partition, ?hole, "the table expects another record: reading again from there");
            self.let_go(*partition);
        }
        let parts = std::mem::replace(&mut self.batch.parts, rest);
        self.since = if self.batch.is_empty() { None } else { Some(Instant::now()) };
        for (partition, part) in &parts {
            for row in &part.rows {
                self.metrics.durable(seconds_since(row.received_at_ms));
            }
            if let (Some(last), Some(owned)) = (part.rows.last(), self.owned.get_mut(partition)) {
                owned.next_offset = last.offset + 1;
            }
        }
        self.report.stored(written.inserted);
        self.commit_offsets(CommitMode::Send);
        self.show_lag();
        if !written.rejected.is_empty() {
            self.tell_rejected();
        }
    }

    /// Shows how far each partition is behind: what is read and not yet stored counts.
    pub(super) fn show_lag(&mut self) {
        self.shown = Instant::now();
        self.metrics.buffered.set(i64::try_from(self.batch.len()).unwrap_or(i64::MAX));
        self.look_at_ends();
        for (partition, owned) in &self.owned {
            let at = self.at(*partition);
            let left = self.behind(*partition, owned.next_offset);
            let oldest = self.batch.parts.get(partition).and_then(|part| part.rows.first());
            let oldest = oldest.map(|row| row.received_at_ms).or(owned.last_received_at_ms);
            self.metrics.group.lagging(&at, left, oldest);
        }
    }

    /// Records behind a place. While a write waits nothing is fetched, and the client knows no new end: it was asked for.
    pub(super) fn behind(&self, partition: i32, next_offset: i64) -> i64 {
        let asked = self.ends.get(&partition).map_or(0, |end| end - next_offset);
        self.member.behind(&self.at(partition), next_offset).max(asked)
    }

    /// Asks for the ends of the partitions while a write waits, now and then.
    fn look_at_ends(&mut self) {
        if self.retry.is_none() {
            self.ends.clear();
            return;
        }
        if self.looked_at_ends.elapsed() < ENDS_EVERY {
            return;
        }
        self.looked_at_ends = Instant::now();
        for partition in self.owned.keys() {
            // Kafka does not answer either: what was known last is shown.
            let Ok(bounds) = self.tail.bounds(&self.source.topic, *partition) else { return };
            self.ends.insert(*partition, bounds.end);
        }
    }

    /// Kafka's own offsets follow the table's: for lag tools, and for writers that keep no position.
    pub(super) fn commit_offsets(&self, mode: CommitMode) {
        let offsets: Vec<(TopicPartition, i64, String)> = self
            .owned
            .iter()
            .map(|(partition, owned)| (self.at(*partition), owned.next_offset, String::new()))
            .collect();
        if offsets.is_empty() {
            return;
        }
        let started = Instant::now();
        let committed = self.member.commit(&offsets, mode);
        let outcome = if committed.is_ok() { "ok" } else { "failed" };
        self.metrics.commits.with_label_values(&[outcome]).inc();
        self.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
    }

    /// Tells of rejected rows; what fails is told again soon.
    pub(super) fn tell_rejected(&mut self) {
        let partitions: Vec<i32> = self.owned.keys().copied().collect();
        self.untold = None;
        let told = self.writer.outbox(self.source.topic_id, &partitions).map_err(|error| error.to_string()).and_then(
            |rejected| {
                if rejected.is_empty() {
                    return Ok(());
                }
                self.outbox.tell(&rejected, &self.tail).map_err(|error| error.sentence())?;
                let ids: Vec<i64> = rejected.iter().map(|rejected| rejected.id).collect();
                self.writer.told(&ids).map_err(|error| error.to_string())?;
                // There may be more than are told at once.
                self.untold = Some(Instant::now());
                Ok(())
            },
        );
        if let Err(why) = told {
            self.untold = Some(Instant::now());
            tracing::warn!(why, "dead letters not told yet; trying again");
        }
    }
}
