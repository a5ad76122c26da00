//! Records that are not simply the next one: foreign, repeated, or behind a hole.

use kafka::BorrowedRecord;
use schema::Rejection;
use schema::record::{EventHeaders, MAPPING_VERSION};
use service::Failure;

use super::{SETTLE_LIMIT, Worker};
use crate::batch::Hole;
use crate::repair::{self, Stretch};
use crate::writer::Place;

impl Worker {
    /// A record that the enricher did not write.
    pub(super) fn foreign(&mut self, record: &BorrowedRecord<'_>, rejection: &Rejection) {
        let (partition, offset) = (record.partition(), record.offset());
        tracing::warn!(partition, offset, %rejection, "a record without a position was set aside");
        self.context.metrics.dead_letters.with_label_values(&[rejection.reason.as_str()]).inc();
        if let Err(error) = self.dead_letters.outbox().write_record(record.detach(), rejection) {
            tracing::warn!(error = error.sentence(), "its dead letter could not be written: reading again before it");
            self.drop_until_claimed(partition);
        }
    }

    /// A record behind the position with a lower sequence number: a repeat only where the destination has it there.
    pub(super) fn repeated(&mut self, partition: i32, headers: &EventHeaders<'_>, offset: i64) -> Result<(), Failure> {
        // It may be a repeat of what is only read.
        if !self.settle(SETTLE_LIMIT)? {
            self.drop_until_claimed(partition);
            return Ok(());
        }
        let (topic_id, seq, id) = (self.context.source.topic_id, headers.seq, headers.id.to_string());
        let holds = self.destination.ask(move |writer| writer.holds(topic_id, Place { partition, seq, id: &id }));
        match holds.wait(SETTLE_LIMIT) {
            Some(Ok(true)) => self.context.metrics.repeats.inc(),
            Some(Ok(false)) => {
                tracing::error!(
                    partition,
                    offset,
                    seq,
                    id = %headers.id,
                    "the sequence of {} went back to a number that the table has no such edit for: the partition is halted",
                    self.context.source.topic
                );
                self.halt(partition);
            }
            Some(Err(error)) => {
                tracing::warn!(partition, %error, "cannot look for a repeated record yet");
                self.drop_until_claimed(partition);
            }
            None => {
                tracing::warn!(partition, "the destination does not say yet whether it holds a repeated record");
                self.drop_until_claimed(partition);
            }
        }
        Ok(())
    }

    /// Repairs a hole from the raw topic, or halts the partition: nothing is stepped over.
    pub(super) fn repair(
        &mut self,
        partition: i32,
        hole: Hole,
        behind: &EventHeaders<'_>,
        offset: i64,
    ) -> Result<(), Failure> {
        self.context.metrics.holes.inc();
        tracing::error!(
            partition,
            expected = hole.expected,
            found = hole.found,
            "a hole in the topic: repairing it from the raw topic"
        );
        if behind.mapping != MAPPING_VERSION {
            tracing::error!(
                partition,
                version = behind.mapping,
                own = MAPPING_VERSION,
                "the edits around a hole were mapped by another version than this sink's, which cannot repair it: the \
                 partition is halted; run a sink of that release"
            );
            self.halt(partition);
            return Ok(());
        }
        let from = self.partitions.get(partition).map_or(0, |owned| owned.last_raw_offset + 1);
        let topic = self.context.raw_topic.clone();
        let stretch = Stretch { topic: &topic, partition, from, until: behind.raw_offset, offset: offset - 1 };
        match repair::rows(&self.tail, &self.context.mapping, &stretch, hole) {
            Ok(Some(rows)) => {
                let is_whole = rows.last().is_some_and(|last| last.seq + 1 == hole.found);
                tracing::info!(partition, rows = rows.len(), is_whole, "a hole is repaired");
                for row in rows {
                    self.take(partition, row);
                }
                if !is_whole {
                    // The rest follows when the partition is claimed again; the group is polled meanwhile.
                    self.settle(SETTLE_LIMIT)?;
                    self.drop_until_claimed(partition);
                }
            }
            Ok(None) => {
                tracing::error!(partition, "the raw topic does not hold what is missing: the partition is halted");
                self.halt(partition);
            }
            Err(error) => {
                tracing::warn!(partition, error = error.sentence(), "cannot read the raw topic yet");
                self.drop_until_claimed(partition);
            }
        }
        Ok(())
    }
}
