//! Rejected rows on their way to the dead letters.
//!
//! The row in `edits_rejected` is exact; the dead letter that tells of it is at least once, and carries the offset
//! that it stands for, so that a repeat can be told.

use kafka::dead_letter::{self, Origin, Quotation};
use kafka::{Error, FencedWriter, Kafka, Outgoing, OwnedRecord, Tail};
use schema::Rejection;
use uuid::Uuid;

use crate::writer::Rejected;

/// What is to be told: where it stood, the record where the topic still holds it, its value, and why.
struct Letter<'a> {
    partition: i32,
    offset: i64,
    record: Option<OwnedRecord>,
    value: &'a [u8],
    rejection: &'a Rejection,
}

/// Writes dead letters; connects only when there is one.
#[derive(Debug)]
pub struct Outbox {
    kafka: Kafka,
    topic: String,
    dead_letters: String,
    writer: Option<FencedWriter>,
}

impl Outbox {
    /// For what is rejected from `topic`.
    #[must_use]
    pub const fn new(kafka: Kafka, topic: String, dead_letters: String) -> Self {
        Self { kafka, topic, dead_letters, writer: None }
    }

    /// Serves the writer while there is nothing to tell.
    pub fn serve(&self) {
        if let Some(writer) = &self.writer {
            writer.serve();
        }
    }

    /// Tells of rejected rows, each with the record's own key and headers where the topic still holds it. Blocks.
    ///
    /// # Errors
    /// [`Error::Doubt`]: some may be told, tell them all again.
    pub fn tell(&mut self, rejected: &[Rejected], tail: &Tail) -> Result<(), Error> {
        let mut letters = Vec::new();
        for Rejected { partition, offset, value, rejection, .. } in rejected {
            let record = match tail.records_between(&self.topic, *partition, *offset, offset + 1) {
                Ok(mut found) => found.pop(),
                // Behind retention only the value is left.
                Err(error) if error.is_gone() => None,
                Err(error) => return Err(error),
            };
            letters.push(Letter { partition: *partition, offset: *offset, record, value, rejection });
        }
        let result = self.write(&letters);
        if result.is_err() {
            self.writer = None;
        }
        result
    }

    /// Tells of a record that has no place in the table at all. Blocks.
    ///
    /// # Errors
    /// [`Error::Doubt`]: it may be told, tell it again.
    pub fn tell_record(&mut self, record: OwnedRecord, rejection: &Rejection) -> Result<(), Error> {
        let value = record.value().to_vec();
        let (partition, offset) = (record.partition(), record.offset());
        let result = self.write(&[Letter { partition, offset, record: Some(record), value: &value, rejection }]);
        if result.is_err() {
            self.writer = None;
        }
        result
    }

    fn write(&mut self, letters: &[Letter<'_>]) -> Result<(), Error> {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => {
                // An id of its own: nobody has to be fenced, and nobody shall be.
                let id = self.kafka.config().prefixed(&format!("wiki-sink-dead-letters-{}", Uuid::new_v4()));
                none.insert(self.kafka.fenced_writer(&id)?)
            }
        };
        writer.begin()?;
        for Letter { partition, offset, record, value, rejection } in letters {
            let origin =
                Origin { topic: &self.topic, partition: *partition, offset: *offset, service: "sink", stage: "store" };
            let reasons = dead_letter::headers(&origin, rejection);
            let own = record.iter().flat_map(OwnedRecord::headers);
            let key = record.as_ref().map(OwnedRecord::key).unwrap_or_default();
            let cuts = dead_letter::cuts(key, value);
            let Quotation { key, value, mut headers } = dead_letter::quote(key, value, own, &cuts);
            headers.extend(reasons.iter().map(|(name, value)| (*name, Some(value.as_bytes()))));
            writer.send(&Outgoing { topic: &self.dead_letters, partition: 0, key, value, headers: &headers })?;
        }
        writer.commit()
    }
}
