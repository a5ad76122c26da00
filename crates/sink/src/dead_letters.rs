//! Rejected rows on their way to the dead letters.
//!
//! The row in `edits_rejected` is exact. The dead letter that says so is at least once, and carries the offset of its
//! record, so that a repeat can be recognised.

use std::time::{Duration, Instant};

use kafka::dead_letter::{self, Origin, Quotation};
use kafka::{Error, FencedWriter, Kafka, Outgoing, OwnedRecord, Tail};
use schema::Rejection;
use uuid::Uuid;

use crate::destination::{Destination, Pending};
use crate::error::WriteError;
use crate::writer::Rejected;

/// Between two tries.
const AGAIN: Duration = Duration::from_secs(2);

/// How far the delivery of rejected rows is.
#[derive(Debug)]
enum Delivery {
    /// None is known.
    Idle,
    /// The destination is asked for them, not before this.
    Due(Instant),
    /// The destination is asked for them.
    Asked(Pending<Result<Vec<Rejected>, WriteError>>),
    /// They are delivered, and the destination notes it.
    Noting(Pending<Result<(), WriteError>>),
}

/// Delivers rejected rows as dead letters.
#[derive(Debug)]
pub struct DeadLetters {
    outbox: Outbox,
    delivery: Delivery,
    /// There may be rejected rows that the last answer does not hold.
    is_due: bool,
}

impl DeadLetters {
    /// For what is rejected from the outbox's topic.
    #[must_use]
    pub const fn new(outbox: Outbox) -> Self {
        Self { outbox, delivery: Delivery::Idle, is_due: false }
    }

    /// There may be rejected rows.
    pub const fn due(&mut self) {
        self.is_due = true;
    }

    /// The outbox, for records that never become rows.
    pub const fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// Takes the next step, if the destination has answered. Blocks while dead letters are written.
    pub fn advance(
        &mut self,
        destination: &Destination,
        topic_id: Uuid,
        partitions: impl FnOnce() -> Vec<i32>,
        tail: &Tail,
    ) {
        let next = match std::mem::replace(&mut self.delivery, Delivery::Idle) {
            Delivery::Idle if !self.is_due => Ok(Delivery::Idle),
            Delivery::Due(at) if Instant::now() < at => Ok(Delivery::Due(at)),
            Delivery::Idle | Delivery::Due(_) => {
                self.is_due = false;
                let partitions = partitions();
                Ok(Delivery::Asked(destination.ask(move |writer| writer.outbox(topic_id, &partitions))))
            }
            Delivery::Asked(pending) => match pending.wait(Duration::ZERO) {
                None => Ok(Delivery::Asked(pending)),
                Some(Err(error)) => Err(error.to_string()),
                Some(Ok(rejected)) => self.deliver(&rejected, destination, tail),
            },
            Delivery::Noting(pending) => match pending.wait(Duration::ZERO) {
                None => Ok(Delivery::Noting(pending)),
                Some(Err(error)) => Err(error.to_string()),
                // There may be more than are delivered at once.
                Some(Ok(())) => Ok(Delivery::Due(Instant::now() + AGAIN)),
            },
        };
        self.delivery = next.unwrap_or_else(|why| {
            tracing::warn!(why, "dead letters not delivered yet; trying again");
            Delivery::Due(Instant::now() + AGAIN)
        });
    }

    fn deliver(&mut self, rejected: &[Rejected], destination: &Destination, tail: &Tail) -> Result<Delivery, String> {
        if rejected.is_empty() {
            return Ok(Delivery::Idle);
        }
        self.outbox.write_all(rejected, tail).map_err(|error| error.sentence())?;
        let ids: Vec<i64> = rejected.iter().map(|rejected| rejected.id).collect();
        Ok(Delivery::Noting(destination.ask(move |writer| writer.told(&ids))))
    }
}

/// A dead letter: its place, the record where the topic still holds it, its value, and why.
struct DeadLetter<'a> {
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

    /// Serves the writer while there is nothing to write.
    pub fn serve(&self) {
        if let Some(writer) = &self.writer {
            writer.serve();
        }
    }

    /// Writes a dead letter for each rejected row, with the record's own key and headers where the topic still holds it. Blocks.
    ///
    /// # Errors
    /// [`Error::Doubt`]: some may be written, write them all again.
    pub fn write_all(&mut self, rejected: &[Rejected], tail: &Tail) -> Result<(), Error> {
        let mut letters = Vec::new();
        for Rejected { partition, offset, value, rejection, .. } in rejected {
            let record = match tail.records_between(&self.topic, *partition, *offset, offset + 1) {
                Ok(mut found) => found.pop(),
                // Behind retention only the value is left.
                Err(error) if error.is_gone() => None,
                Err(error) => return Err(error),
            };
            letters.push(DeadLetter { partition: *partition, offset: *offset, record, value, rejection });
        }
        let result = self.write(&letters);
        if result.is_err() {
            self.writer = None;
        }
        result
    }

    /// Writes a dead letter for a record that has no place in the table at all. Blocks.
    ///
    /// # Errors
    /// [`Error::Doubt`]: it may be written, write it again.
    pub fn write_record(&mut self, record: OwnedRecord, rejection: &Rejection) -> Result<(), Error> {
        let value = record.value().to_vec();
        let (partition, offset) = (record.partition(), record.offset());
        let result = self.write(&[DeadLetter { partition, offset, record: Some(record), value: &value, rejection }]);
        if result.is_err() {
            self.writer = None;
        }
        result
    }

    fn write(&mut self, letters: &[DeadLetter<'_>]) -> Result<(), Error> {
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => {
                // An id of its own: no predecessor has to be fenced, and none is.
                let id = self.kafka.config().prefixed(&format!("wiki-sink-dead-letters-{}", Uuid::new_v4()));
                none.insert(self.kafka.fenced_writer(&id)?)
            }
        };
        writer.begin()?;
        for DeadLetter { partition, offset, record, value, rejection } in letters {
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;
    use crate::batch::Batch;
    use crate::writer::{Claim, Place, Position, Writer, Written};
    use kafka::KafkaConfig;
    use service::{CancellationToken, Metrics, Service};

    const LIMIT: Duration = Duration::from_secs(20);

    /// Says when it is asked for rejected rows, and answers none when it may.
    struct Table {
        asked: Sender<()>,
        may_answer: Receiver<()>,
    }

    impl Writer for Table {
        fn claim(&mut self, _: &[Claim<'_>]) -> Result<Vec<Position>, WriteError> {
            Ok(Vec::new())
        }

        fn write(&mut self, _: &Batch) -> Result<Written, WriteError> {
            Ok(Written::default())
        }

        fn holds(&mut self, _: Uuid, _: Place<'_>) -> Result<bool, WriteError> {
            Ok(false)
        }

        fn outbox(&mut self, _: Uuid, _: &[i32]) -> Result<Vec<Rejected>, WriteError> {
            self.asked.send(()).unwrap();
            self.may_answer.recv_timeout(LIMIT).unwrap();
            Ok(Vec::new())
        }

        fn told(&mut self, _: &[i64]) -> Result<(), WriteError> {
            Ok(())
        }
    }

    #[test]
    fn rows_that_are_rejected_while_the_destination_is_asked_are_asked_for_again() {
        // No cluster is needed where nothing is rejected.
        let kafka = Kafka::new(KafkaConfig::at("127.0.0.1:1"), &Metrics::new("test"));
        let tail = kafka.tail().unwrap();
        let (asked, is_asked) = channel();
        let (answer, may_answer) = channel();
        let service = Service::new("sink", CancellationToken::new());
        let destination = Destination::start(&service, Box::new(Table { asked, may_answer })).unwrap();
        let mut letters = DeadLetters::new(Outbox::new(kafka, "t".to_owned(), "d".to_owned()));
        let advance = |letters: &mut DeadLetters| letters.advance(&destination, Uuid::nil(), || vec![0], &tail);
        letters.due();
        advance(&mut letters);
        is_asked.recv_timeout(LIMIT).unwrap();
        letters.due();
        answer.send(()).unwrap();
        let deadline = Instant::now() + LIMIT;
        while is_asked.try_recv().is_err() {
            assert!(Instant::now() < deadline, "it is not asked a second time");
            advance(&mut letters);
            std::thread::park_timeout(Duration::from_millis(5));
        }
        answer.send(()).unwrap();
    }
}
