//! Follows the sinks' words and the edits, without a consumer group.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka::{Kafka, Tail};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use schema::Topics;
use schema::control::SinkStatus;
use service::{CancellationToken, Failure, Heartbeat};

use crate::board::timeline::LENGTH_MS;
use crate::edits::RecordView;
use crate::error::LookError;
use crate::live::{Live, now_ms};

/// Longest wait for a record: how soon a stop is noticed.
const POLL: Duration = Duration::from_millis(100);
/// Between two looks for topics, and whether they grew.
const TOPICS_AGAIN: Duration = Duration::from_secs(5);
/// The same, while there are none.
const TOPICS_MISSING: Duration = Duration::from_millis(250);
/// How long one answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);

/// Offsets of a partition that are read at the start; markers of transactions count.
const LAST: i64 = 40;

/// Reads words and edits into [`Live`].
pub struct Follow {
    tail: Tail,
    consumer: BaseConsumer<kafka::context::Context>,
    topics: Topics,
    live: Arc<Live>,
    assigned: (i32, i32),
    looked: Option<Instant>,
}

impl Follow {
    /// Makes the clients.
    ///
    /// # Errors
    /// [`LookError::Stop`] where a setting is refused.
    pub fn new(kafka: &Kafka, live: Arc<Live>) -> Result<Self, LookError> {
        let topics = kafka.config().topics();
        let (tail, consumer) = (kafka.tail()?, kafka.follower()?);
        Ok(Self { tail, consumer, topics, live, assigned: (0, 0), looked: None })
    }

    /// Reads until shutdown. Blocks.
    ///
    /// # Errors
    /// [`Failure::Runtime`] where a right is missing.
    pub fn run(mut self, heartbeat: &Heartbeat, shutdown: &CancellationToken) -> Result<(), Failure> {
        while !shutdown.is_cancelled() {
            heartbeat.beat();
            let pause = if self.assigned == (0, 0) { TOPICS_MISSING } else { TOPICS_AGAIN };
            if self.looked.is_none_or(|looked| looked.elapsed() >= pause) {
                self.looked = Some(Instant::now());
                match self.assign() {
                    Ok(()) => {}
                    Err(LookError::Stop(sentence)) => return Err(Failure::Runtime(sentence)),
                    Err(LookError::Again(why)) => tracing::debug!(why, "topics cannot be looked up; looking again"),
                }
            }
            match self.consumer.poll(POLL) {
                Some(Ok(record)) => self.take(&record),
                Some(Err(error)) => tracing::debug!(%error, "the reader reports an error and goes on"),
                None => {}
            }
        }
        Ok(())
    }

    /// Reads all partitions that there are: words of the last ten minutes, edits from the last few on.
    fn assign(&mut self) -> Result<(), LookError> {
        let count = |topic: &str| Ok::<i32, LookError>(self.tail.partitions(topic)?.unwrap_or(0));
        let found = (count(&self.topics.control)?, count(&self.topics.events)?);
        if found == self.assigned {
            return Ok(());
        }
        let again = |error: rdkafka::error::KafkaError| LookError::Again(error.to_string());
        let mut times = TopicPartitionList::new();
        for partition in 0..found.0 {
            let since = Offset::Offset(now_ms() - LENGTH_MS);
            times.add_partition_offset(&self.topics.control, partition, since).map_err(again)?;
        }
        let mut starts = TopicPartitionList::new();
        for element in self.consumer.offsets_for_times(times, ANSWER_LIMIT).map_err(again)?.elements() {
            element.error().map_err(again)?;
            starts.add_partition_offset(element.topic(), element.partition(), element.offset()).map_err(again)?;
        }
        for partition in 0..found.1 {
            // A partition that is new is read whole; of one that was there the last records, to have something to show.
            let from = if self.assigned == (0, 0) { Offset::OffsetTail(LAST) } else { Offset::Beginning };
            let position = self.consumer.position().map_err(again)?;
            let known = position.find_partition(&self.topics.events, partition).map(|element| element.offset());
            let from = match known {
                Some(Offset::Offset(next)) => Offset::Offset(next),
                _ => from,
            };
            starts.add_partition_offset(&self.topics.events, partition, from).map_err(again)?;
        }
        self.consumer.assign(&starts).map_err(again)?;
        self.assigned = found;
        Ok(())
    }

    fn take(&self, record: &BorrowedMessage<'_>) {
        let at_ms = record.timestamp().to_millis().unwrap_or_else(now_ms);
        let value = record.payload().unwrap_or_default();
        if record.topic() == self.topics.control {
            match SinkStatus::from_json(value) {
                Ok(status) => self.live.heard(status, at_ms),
                Err(rejection) => tracing::debug!(%rejection, "a word that cannot be read"),
            }
            return;
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let headers = record.headers().into_iter().flat_map(|headers| headers.iter());
        let headers = headers.map(|header| (header.key.to_owned(), header.value.map(text).unwrap_or_default()));
        let (offset, key) = (record.offset(), record.key().map(text).unwrap_or_default());
        self.live.read(
            record.partition(),
            RecordView { offset, at_ms, key, headers: headers.collect(), value: text(value) },
        );
    }
}
