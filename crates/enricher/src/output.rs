//! What is written: edits and dead letters of one partition, each batch in one transaction with its position.

use std::time::{Duration, Instant};

use kafka::dead_letter::{self, Origin, Quotation};
use kafka::{Error, FencedWriter, Fetched, Outgoing, Queued, TopicPartition};
use schema::record::EventHeaders;
use schema::{Edit, Rejection, Topics, namespace};

use crate::message::{Handle, Order};

/// A transaction is committed when the partition is caught up, or after this long.
pub const MAX_OPEN: Duration = Duration::from_millis(100);

/// Who has the writer.
enum Stage {
    /// The committer: it recovers or commits.
    Away,
    /// This thread.
    Here(FencedWriter),
}

/// Whether the output took a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It did.
    Yes,
    /// The writer's queue is full: commit, and bring the record again.
    Again,
}

/// What is handled and not yet committed.
#[derive(Debug, Default)]
pub struct Open {
    /// When the first record of the transaction was written; none where nothing is written.
    since: Option<Instant>,
    /// Input records.
    pub records: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// When ingest read each of the edits, Unix milliseconds.
    pub received_at_ms: Vec<i64>,
    /// Edits by where the namespace's name came from.
    pub named: [u64; namespace::Source::ALL.len()],
    /// Records that became dead letters.
    pub dead_letters: u64,
    /// Records that gave nothing.
    pub skipped: u64,
    /// The last thing written is a dead letter: no edit says that its input is done.
    ends_with_dead_letter: bool,
}

/// The writer of a partition, and what is open on it.
pub struct Output {
    at: TopicPartition,
    events_topic: String,
    /// Bytes of the longest edit that it takes.
    most_bytes: usize,
    dead_letter_topic: String,
    committer: Handle,
    stage: Stage,
    open: Open,
    json: Vec<u8>,
}

impl Output {
    /// An output whose committer recovers.
    #[must_use]
    pub fn new(at: TopicPartition, topics: &Topics, most_bytes: usize, committer: Handle) -> Self {
        Self {
            most_bytes,
            events_topic: topics.events.clone(),
            dead_letter_topic: topics.dead_letters_of(&at.topic),
            at,
            committer,
            stage: Stage::Away,
            open: Open::default(),
            json: Vec::new(),
        }
    }

    /// Whether the writer is here.
    #[must_use]
    pub const fn is_here(&self) -> bool {
        matches!(self.stage, Stage::Here(_))
    }

    /// Whether nothing is written that is not committed.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        self.open.since.is_none()
    }

    /// Whether anything was handled since the last commit.
    #[must_use]
    pub const fn has_handled(&self) -> bool {
        self.open.records > 0
    }

    /// When the open transaction is due.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.open.since.map(|since| since + MAX_OPEN)
    }

    /// Takes the writer back; what was open is over.
    pub fn recovered(&mut self, writer: FencedWriter) {
        self.open = Open::default();
        self.stage = Stage::Here(writer);
    }

    /// Takes the writer back after a commit, and gives what was committed.
    pub fn committed(&mut self, writer: FencedWriter) -> Open {
        self.stage = Stage::Here(writer);
        self.take_open()
    }

    /// Gives what was handled, and forgets it.
    pub fn take_open(&mut self) -> Open {
        std::mem::take(&mut self.open)
    }

    /// The outcome of a write is unknown: drops the writer, and lets the committer recover.
    pub fn doubted(&mut self) {
        self.stage = Stage::Away;
        self.open = Open::default();
        self.committer.order(Order::Recover);
    }

    /// Hands the writer to the committer. Where a dead letter came last, the offset goes into the transaction: nothing
    /// else says that its input is done.
    pub fn commit(&mut self, offset: impl FnOnce() -> (i64, String)) {
        if let Stage::Here(writer) = std::mem::replace(&mut self.stage, Stage::Away) {
            self.committer.order(Order::Commit(writer, self.open.ends_with_dead_letter.then(offset)));
        }
    }

    /// Ends a recovery that is under way: its result is no longer needed.
    pub fn stop_recovering(&self) {
        self.committer.stop_recovering();
    }

    /// Makes the value of an edit, for [`Output::edit`].
    ///
    /// # Errors
    /// Its length in bytes, where the topic takes no such record.
    pub fn prepare(&mut self, edit: &Edit<'_>) -> Result<(), usize> {
        self.json.clear();
        edit.write_json(&mut self.json);
        if self.json.len() > self.most_bytes { Err(self.json.len()) } else { Ok(()) }
    }

    /// Writes the edit that was prepared, under its input's key. `named`: where the namespace's name came from.
    ///
    /// # Errors
    /// [`Error::Doubt`]: call [`Output::doubted`].
    pub fn edit(
        &mut self,
        record: &Fetched,
        headers: &EventHeaders<'_>,
        named: namespace::Source,
    ) -> Result<Taken, Error> {
        let Stage::Here(writer) = &mut self.stage else { return Ok(Taken::Again) };
        writer.begin()?;
        self.open.since.get_or_insert_with(Instant::now);
        let (topic, partition) = (self.events_topic.as_str(), self.at.partition);
        let (key, value) = (record.key(), self.json.as_slice());
        let queued =
            headers.with_headers(|headers| writer.try_send(&Outgoing { topic, partition, key, value, headers }))?;
        if queued == Queued::Full {
            return Ok(Taken::Again);
        }
        self.count(record);
        self.open.received_at_ms.push(headers.received_at_ms);
        self.open.named[named as usize] += 1;
        self.open.ends_with_dead_letter = false;
        Ok(Taken::Yes)
    }

    /// Writes a record as it came to the dead letters, with the reason beside its own headers.
    ///
    /// # Errors
    /// [`Error::Doubt`]: call [`Output::doubted`].
    pub fn dead_letter(&mut self, record: &Fetched, rejection: &Rejection) -> Result<Taken, Error> {
        let Stage::Here(writer) = &mut self.stage else { return Ok(Taken::Again) };
        let TopicPartition { topic, partition } = &self.at;
        let origin =
            Origin { topic, partition: *partition, offset: record.offset(), service: "enricher", stage: "enrich" };
        let reasons = dead_letter::headers(&origin, rejection);
        let cuts = dead_letter::cuts(record.key(), record.value());
        let Quotation { key, value, mut headers } =
            dead_letter::quote(record.key(), record.value(), record.headers(), &cuts);
        headers.extend(reasons.iter().map(|(name, value)| (*name, Some(value.as_bytes()))));
        writer.begin()?;
        self.open.since.get_or_insert_with(Instant::now);
        let letter = Outgoing { topic: &self.dead_letter_topic, partition: 0, key, value, headers: &headers };
        if writer.try_send(&letter)? == Queued::Full {
            return Ok(Taken::Again);
        }
        self.count(record);
        self.open.dead_letters += 1;
        self.open.ends_with_dead_letter = true;
        Ok(Taken::Yes)
    }

    /// Notes a record that gives nothing.
    pub fn skip(&mut self, record: &Fetched) {
        self.count(record);
        self.open.skipped += 1;
    }

    fn count(&mut self, record: &Fetched) {
        self.open.records += 1;
        self.open.bytes += record.value().len() as u64;
    }
}
