//! Follows the services' words, the edits and what was set aside, without a consumer group.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka::dead_letter::REASON;
use kafka::follower::From;
use kafka::{BorrowedRecord, Follower, Kafka, Tail, TopicPartition};
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
/// Offsets of a partition that are read at the start; markers of transactions count.
const LAST: i64 = 40;

/// Reads words and edits into [`Live`].
pub struct Follow {
    tail: Tail,
    follower: Follower,
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
        let (tail, follower) = (kafka.tail()?, kafka.follower()?);
        let dead_letters = [&topics.raw, &topics.events].map(|topic| topics.dead_letters_of(topic));
        let (assigned, due) = (BTreeMap::new(), Cell::new(None));
        Ok(Self { tail, follower, topics, dead_letters, live, assigned, looked: None, due })
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
            match self.follower.poll(POLL) {
                Ok(Some(record)) => self.take(&record),
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, "the reader reports an error and continues"),
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
        let words = self.words_starts(found.get(control).copied().unwrap_or(0))?;
        if is_first {
            self.due.set(self.words_end(words.get(&0).copied().flatten())?);
            if self.due.get().is_none() {
                self.live.caught_up();
            }
        }
        let mut starts = Vec::new();
        for (topic, count) in &found {
            // A partition that is new is read whole; of one that was there the last edits, to have something to show.
            let from = match (is_first, topic == events) {
                (true, true) => From::Last(LAST),
                (true, false) => From::End,
                (false, _) => From::Beginning,
            };
            for partition in 0..*count {
                let word = words.get(&partition).copied().flatten().map_or(From::End, From::At);
                let from = if topic == control { word } else { from };
                starts.push((TopicPartition { topic: topic.clone(), partition }, from));
            }
        }
        self.follower.follow(starts)?;
        self.assigned = found;
        Ok(())
    }

    /// Where the words of the last minutes begin, by partition; none where there are none as young.
    fn words_starts(&self, partitions: i32) -> Result<BTreeMap<i32, Option<i64>>, LookError> {
        Ok(self.tail.offsets_since(&self.topics.control, partitions, now_ms() - LENGTH_MS)?)
    }

    /// Where the words of the last minutes end; `None` where there are none.
    fn words_end(&self, start: Option<i64>) -> Result<Option<i64>, LookError> {
        let Some(start) = start else { return Ok(None) };
        let end = self.tail.bounds(&self.topics.control, 0)?.end;
        Ok((start < end).then_some(end))
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

fn text_of(record: &BorrowedRecord<'_>, name: &str) -> Option<String> {
    let value = record.header(name)?.to_vec();
    String::from_utf8(value).ok()
}
