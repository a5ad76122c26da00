//! Follows the services' words, the edits and what was set aside, without a consumer group.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka::dead_letter::REASON;
use kafka::{BorrowedRecord, Kafka, Tail};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use schema::Topics;
use schema::control::Word;
use schema::record::{HeaderSource as _, SEQ};
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
    dead_letters: [String; 2],
    live: Arc<Live>,
    /// Partitions of each topic.
    assigned: BTreeMap<String, i32>,
    looked: Option<Instant>,
    /// Where the words of before end; `None` once they are read.
    due: Cell<Option<i64>>,
}

impl Follow {
    /// Makes the clients.
    ///
    /// # Errors
    /// [`LookError::Stop`] where a setting is refused.
    pub fn new(kafka: &Kafka, live: Arc<Live>) -> Result<Self, LookError> {
        let topics = kafka.config().topics();
        let (tail, consumer) = (kafka.tail()?, kafka.follower()?);
        let dead_letters = [&topics.raw, &topics.events].map(|topic| topics.dead_letters_of(topic));
        let (assigned, due) = (BTreeMap::new(), Cell::new(None));
        Ok(Self { tail, consumer, topics, dead_letters, live, assigned, looked: None, due })
    }

    /// Reads until shutdown. Blocks.
    ///
    /// # Errors
    /// [`Failure::Runtime`] where a right is missing.
    pub fn run(mut self, heartbeat: &Heartbeat, shutdown: &CancellationToken) -> Result<(), Failure> {
        while !shutdown.is_cancelled() {
            heartbeat.beat();
            let pause = if self.assigned.is_empty() { TOPICS_MISSING } else { TOPICS_AGAIN };
            if self.looked.is_none_or(|looked| looked.elapsed() >= pause) {
                self.looked = Some(Instant::now());
                match self.assign() {
                    Ok(()) => {}
                    Err(LookError::Stop(sentence)) => return Err(Failure::Runtime(sentence)),
                    Err(LookError::Again(why)) => tracing::debug!(why, "topics cannot be looked up; looking again"),
                }
            }
            match self.consumer.poll(POLL) {
                Some(Ok(record)) => self.take(&record.into()),
                Some(Err(error)) => tracing::debug!(%error, "the reader reports an error and goes on"),
                None => {}
            }
        }
        Ok(())
    }

    /// Reads all partitions that there are: words of the last ten minutes, edits from the last few on, raw records and
    /// dead letters from now on. What is read already goes on where it is.
    fn assign(&mut self) -> Result<(), LookError> {
        let Topics { control, events, raw, .. } = &self.topics;
        let mut found = BTreeMap::new();
        for topic in [control, events, raw].into_iter().chain(&self.dead_letters) {
            if let Some(count) = self.tail.partitions(topic)? {
                found.insert(topic.clone(), count);
            }
        }
        if found == self.assigned {
            return Ok(());
        }
        let is_first = self.assigned.is_empty();
        let mut starts = self.words_starts(found.get(control).copied().unwrap_or(0))?;
        for (topic, count) in found.iter().filter(|(topic, _)| *topic != control) {
            // A partition that is new is read whole; of one that was there the last edits, to have something to show.
            let from = match (is_first, topic == events) {
                (true, true) => Offset::OffsetTail(LAST),
                (true, false) => Offset::End,
                (false, _) => Offset::Beginning,
            };
            for partition in 0..*count {
                starts.add_partition_offset(topic, partition, from).map_err(again)?;
            }
        }
        if is_first {
            self.due.set(self.words_end(&starts)?);
            if self.due.get().is_none() {
                self.live.caught_up();
            }
        }
        for read in self.consumer.position().map_err(again)?.elements() {
            if let (Offset::Offset(next), Some(mut start)) =
                (read.offset(), starts.find_partition(read.topic(), read.partition()))
            {
                start.set_offset(Offset::Offset(next)).map_err(again)?;
            }
        }
        self.consumer.assign(&starts).map_err(again)?;
        self.assigned = found;
        Ok(())
    }

    /// Where the words of the last minutes begin.
    fn words_starts(&self, partitions: i32) -> Result<TopicPartitionList, LookError> {
        let mut times = TopicPartitionList::new();
        for partition in 0..partitions {
            let since = Offset::Offset(now_ms() - LENGTH_MS);
            times.add_partition_offset(&self.topics.control, partition, since).map_err(again)?;
        }
        let starts = self.consumer.offsets_for_times(times, ANSWER_LIMIT).map_err(again)?;
        for element in starts.elements() {
            element.error().map_err(again)?;
        }
        Ok(starts)
    }

    /// Where the words of the last minutes end; `None` where there are none.
    fn words_end(&self, starts: &TopicPartitionList) -> Result<Option<i64>, LookError> {
        let Some(element) = starts.find_partition(&self.topics.control, 0) else { return Ok(None) };
        let end = self.tail.bounds(&self.topics.control, 0)?.end;
        // The search by time answers with the end where nothing is as young.
        Ok(matches!(element.offset(), Offset::Offset(start) if start < end).then_some(end))
    }

    fn take(&self, record: &BorrowedRecord<'_>) {
        let at_ms = record.timestamp_ms().unwrap_or_else(now_ms);
        let value = record.value();
        if record.topic() == self.topics.control {
            match Word::from_json(value) {
                Ok(Word::Sink(status)) => self.live.heard(status, at_ms),
                Ok(Word::Source(status)) => self.live.heard_source(status, at_ms),
                Err(rejection) => tracing::debug!(%rejection, "a word that cannot be read"),
            }
            if self.due.get().is_some_and(|due| record.offset() + 1 >= due) {
                self.due.set(None);
                self.live.caught_up();
            }
            return;
        }
        if record.topic() == self.topics.raw {
            if let Some(number) = text_of(record, SEQ).and_then(|number| number.parse().ok()) {
                self.live.read_raw(record.partition(), number);
            }
            return;
        }
        if self.dead_letters.iter().any(|topic| topic == record.topic()) {
            let reason = text_of(record, REASON).unwrap_or_else(|| "unknown".to_owned());
            self.live.set_aside(reason, now_ms());
            return;
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let headers = record.headers().map(|(name, value)| (name.to_owned(), value.map(text).unwrap_or_default()));
        let (offset, key) = (record.offset(), text(record.key()));
        self.live.read(
            record.partition(),
            RecordView { offset, at_ms, key, headers: headers.collect(), value: text(value) },
        );
    }
}

fn again(error: KafkaError) -> LookError {
    LookError::Again(error.to_string())
}

fn text_of(record: &BorrowedRecord<'_>, name: &str) -> Option<String> {
    let value = record.header(name)?.to_vec();
    String::from_utf8(value).ok()
}
