//! One partition: recover, then map, write and commit until something ends it. On a thread of its own.

use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use kafka::dead_letter::{self, Origin};
use kafka::group::{Queue, offsets_of};
use kafka::group_metrics::seconds_since;
use kafka::{Error, FencedWriter, GroupMember, Headers, Outgoing, TopicPartition};
use rdkafka::consumer::CommitMode;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use schema::record::{EventHeaders, RawHeaders};
use schema::{Edit, Rejection, Topics, namespace};
use service::{CancellationToken, Failure};

use crate::assignment::Context;
use crate::progress::{Progress, Step};

/// A transaction is committed when the partition is caught up, or after this long.
const MAX_OPEN: Duration = Duration::from_millis(100);
/// Longest wait for a record: how soon a stop is noticed.
const TURN: Duration = Duration::from_millis(50);
/// The group's offset is committed this often: a hint for lag tools, and the end of inputs without output.
const OFFSET_EVERY: Duration = Duration::from_secs(3);
/// Wait before a partition begins anew: whoever lost it hears of it meanwhile.
const AFTER_DOUBT: Duration = Duration::from_millis(500);
/// One record in this many is timed.
const TIMED: u64 = 64;

/// A partition's work.
pub struct Task {
    context: Context,
    topics: Topics,
    member: Arc<GroupMember>,
    at: TopicPartition,
    queue: Queue,
    stop: CancellationToken,
}

impl Task {
    /// Prepares the work on a partition.
    #[must_use]
    pub fn new(
        context: &Context,
        member: &Arc<GroupMember>,
        at: TopicPartition,
        queue: Queue,
        stop: CancellationToken,
    ) -> Self {
        let topics = context.config.kafka.topics();
        Self { context: context.clone(), topics, member: Arc::clone(member), at, queue, stop }
    }

    /// Works until stopped; tells its first position, and goes back to it by itself after a doubt.
    ///
    /// # Errors
    /// Where a person must act.
    pub fn run(&self, starts: mpsc::Sender<(TopicPartition, i64)>) -> Result<(), Failure> {
        let mut starts = Some(starts);
        while !self.stop.is_cancelled() {
            let ended = self.recover().and_then(|(writer, progress)| {
                match starts.take() {
                    // The group's loop is gone only when everything ends.
                    Some(starts) => drop(starts.send((self.at.clone(), progress.next_input))),
                    None => self.member.seek(&self.at, progress.next_input)?,
                }
                let open = Open::default();
                Work { task: self, writer, progress, open, at_end: false, offset_at: Instant::now() }.run()
            });
            match ended {
                Ok(()) => return Ok(()),
                Err(Error::Stop(sentence)) => return Err(Failure::Runtime(sentence)),
                Err(doubt @ (Error::Doubt { .. } | Error::TimedOut { .. })) => {
                    let partition = self.at.partition;
                    tracing::warn!(partition, error = doubt.sentence(), "in doubt about a write: initialising again");
                    self.context.metrics.transactions.with_label_values(&["doubt"]).inc();
                    self.context.service.tasks.restarted("enrich");
                    self.pause(AFTER_DOUBT);
                }
            }
        }
        Ok(())
    }

    /// Waits, but no longer than until the stop. What arrives meanwhile is read again from the durable position.
    fn pause(&self, limit: Duration) {
        let until = Instant::now() + limit;
        while Instant::now() < until && !self.stop.is_cancelled() {
            drop(self.queue.poll(TURN));
        }
    }

    /// Fences the predecessor, then reads how far it came.
    fn recover(&self) -> Result<(FencedWriter, Progress), Error> {
        let TopicPartition { topic, partition } = &self.at;
        let id = self.context.config.kafka.prefixed(&format!("wiki-enricher-{topic}-{partition}"));
        let writer = self.context.kafka.fenced_writer(&id)?;
        let tail = self.context.kafka.tail()?;
        let (raw, events) = (tail.partitions(topic)?, tail.partitions(&self.topics.events)?);
        if raw != events {
            return Err(Error::Stop(format!(
                "{topic} has {raw:?} partitions and {} has {events:?}: give both the same number",
                self.topics.events
            )));
        }
        let last = tail.last_records(&self.topics.events, &[*partition])?.remove(partition);
        let last = last.map(|record| EventHeaders::read(&Headers(&record))).transpose().map_err(|rejection| {
            Error::Stop(format!(
                "{} partition {partition} ends with a record that this service did not write ({}): give it a topic of \
                 its own with WIKI_EVENTS_TOPIC or WIKI_TOPIC_PREFIX",
                self.topics.events, rejection.detail
            ))
        })?;
        let committed = self.member.committed(std::slice::from_ref(&self.at))?;
        let committed = committed.first().map(|(_, offset, metadata)| (*offset, metadata.as_str()));
        let bounds = tail.bounds(topic, *partition)?;
        let mut progress = Progress::recover(last.as_ref(), committed, bounds.start);
        if !(bounds.start..=bounds.end).contains(&progress.next_input) {
            return Err(Error::Stop(format!(
                "{topic} partition {partition} holds offsets {} to {}, and the next one to map is {}: records were \
                 deleted before they were mapped, or the topic was made anew; restore it, or give the pipeline a \
                 fresh WIKI_TOPIC_PREFIX",
                bounds.start, bounds.end, progress.next_input
            )));
        }
        if self.context.config.accept_lost_history {
            progress.expected_raw_seq = None;
        }
        if progress.expected_raw_seq.is_none() {
            tracing::info!(partition, offset = progress.next_input, "first met on an aged topic: begins at its start");
        }
        Ok((writer, progress))
    }
}

/// What is written and not yet committed.
#[derive(Default)]
struct Open {
    since: Option<Instant>,
    records: u64,
    bytes: u64,
    received_at_ms: Vec<i64>,
    dead_letters: u64,
    skipped: u64,
    last_gave_output: bool,
}

struct Work<'a> {
    task: &'a Task,
    writer: FencedWriter,
    progress: Progress,
    open: Open,
    /// Nothing is left to read at the moment.
    at_end: bool,
    offset_at: Instant,
}

impl Work<'_> {
    fn run(&mut self) -> Result<(), Error> {
        while !self.task.stop.is_cancelled() {
            let limit = self.open.since.map_or(TURN, |since| MAX_OPEN.saturating_sub(since.elapsed()).min(TURN));
            match self.task.queue.poll(limit) {
                Some(Ok(record)) => {
                    self.at_end = false;
                    if !self.record(&record)? {
                        return self.stopped_at_hole();
                    }
                }
                // The end of the partition: nothing to wait for.
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    self.at_end = true;
                    self.commit()?;
                }
                Some(Err(error)) if error.rdkafka_error_code().is_some_and(is_lost) => return Err(self.gone(error)),
                Some(Err(error)) => tracing::debug!(%error, "the consumer reports an error and goes on"),
                None => {}
            }
            if self.open.since.is_some_and(|since| since.elapsed() >= MAX_OPEN) {
                self.commit()?;
            }
            if self.offset_at.elapsed() >= OFFSET_EVERY {
                self.commit_offset();
            }
        }
        self.commit()?;
        self.commit_offset();
        Ok(())
    }

    fn gone(&self, error: KafkaError) -> Error {
        let TopicPartition { topic, partition } = &self.task.at;
        Error::Stop(format!(
            "{topic} partition {partition} no longer holds offset {}: {error}; records were deleted before they were \
             mapped",
            self.progress.next_input
        ))
    }

    /// Handles one input; false where inputs are missing before it.
    fn record(&mut self, record: &BorrowedMessage<'_>) -> Result<bool, Error> {
        let value = record.payload().unwrap_or_default();
        self.open.bytes += value.len() as u64;
        self.open.records += 1;
        let headers = match RawHeaders::read(&Headers(record)) {
            Ok(headers) => headers,
            Err(rejection) => {
                self.dead_letter(record, &rejection)?;
                self.progress.pass(record.offset(), None, false);
                return Ok(true);
            }
        };
        match self.progress.step(headers.seq) {
            Step::Hole => {
                let expected = self.progress.expected_raw_seq;
                tracing::error!(
                    partition = self.task.at.partition,
                    seq = headers.seq,
                    ?expected,
                    "a hole in the input"
                );
                self.task.context.metrics.holes.inc();
                return Ok(false);
            }
            Step::Repeat => {
                self.open.skipped += 1;
                self.open.last_gave_output = false;
                self.task.context.metrics.repeats.inc();
                self.progress.pass(record.offset(), None, false);
                return Ok(true);
            }
            Step::Take => {}
        }
        let timed = self.open.records.is_multiple_of(TIMED).then(Instant::now);
        let gave_output = match schema::enrich(value) {
            Ok(edit) => {
                self.output(record, &headers, &edit)?;
                true
            }
            Err(rejection) => {
                self.dead_letter(record, &rejection)?;
                false
            }
        };
        if let Some(started) = timed {
            self.task.context.metrics.processing.observe(started.elapsed().as_secs_f64());
        }
        self.progress.pass(record.offset(), Some(headers.seq), gave_output);
        Ok(true)
    }

    fn begin(&mut self) -> Result<(), Error> {
        self.writer.begin()?;
        self.open.since.get_or_insert_with(Instant::now);
        Ok(())
    }

    fn output(&mut self, record: &BorrowedMessage<'_>, raw: &RawHeaders, edit: &Edit) -> Result<(), Error> {
        self.begin()?;
        let headers = EventHeaders {
            id: raw.id.clone(),
            seq: self.progress.next_seq,
            raw_offset: record.offset(),
            raw_seq: raw.seq,
            received_at_ms: raw.received_at_ms,
        };
        let headers = headers.to_headers();
        let headers: Vec<(&str, Option<&[u8]>)> =
            headers.iter().map(|(name, value)| (*name, Some(value.as_bytes()))).collect();
        self.writer.send(&Outgoing {
            topic: &self.task.topics.events,
            partition: self.task.at.partition,
            key: record.key().unwrap_or_default(),
            value: &edit.to_json(),
            headers: &headers,
        })?;
        self.open.received_at_ms.push(raw.received_at_ms);
        self.open.last_gave_output = true;
        let (_, source) = namespace::name(edit.namespace_id, &edit.title);
        self.task.context.metrics.namespaces.with_label_values(&[source.as_str()]).inc();
        Ok(())
    }

    /// Sets a record aside as it came, with its reason beside its own headers.
    fn dead_letter(&mut self, record: &BorrowedMessage<'_>, rejection: &Rejection) -> Result<(), Error> {
        self.begin()?;
        let TopicPartition { topic, partition } = &self.task.at;
        let origin =
            Origin { topic, partition: *partition, offset: record.offset(), service: "enricher", stage: "enrich" };
        let reasons = dead_letter::headers(&origin, rejection);
        let mut headers: Vec<(&str, Option<&[u8]>)> =
            record.headers().into_iter().flat_map(|own| own.iter().map(|header| (header.key, header.value))).collect();
        headers.extend(reasons.iter().map(|(name, value)| (*name, Some(value.as_bytes()))));
        self.writer.send(&Outgoing {
            topic: &self.task.topics.dead_letters_of(topic),
            partition: 0,
            key: record.key().unwrap_or_default(),
            value: record.payload().unwrap_or_default(),
            headers: &headers,
        })?;
        tracing::warn!(
            partition,
            offset = record.offset(),
            reason = rejection.reason.as_str(),
            "a record was set aside as a dead letter"
        );
        self.open.dead_letters += 1;
        self.open.last_gave_output = false;
        Ok(())
    }

    /// Commits what is open. Where the last input left no output, its offset goes into the transaction: nothing
    /// else would tell that it is done.
    fn commit(&mut self) -> Result<(), Error> {
        if self.open.since.is_some() {
            if !self.open.last_gave_output {
                let offsets = offsets_of(&[self.offset()])?;
                self.writer.send_offsets(&offsets, &self.task.member.identity()?)?;
            }
            self.writer.commit()?;
            self.task.context.metrics.transactions.with_label_values(&["committed"]).inc();
            self.task.context.service.metrics.progressed();
        }
        self.show();
        self.open = Open::default();
        Ok(())
    }

    fn show(&self) {
        let metrics = &self.task.context.metrics;
        let open = &self.open;
        if open.records > 0 {
            metrics.group().read(&self.task.at, open.records, open.bytes);
        }
        for (outcome, count) in [
            ("enriched", open.received_at_ms.len() as u64),
            ("dead_lettered", open.dead_letters),
            ("skipped", open.skipped),
        ] {
            metrics.records.with_label_values(&[outcome]).inc_by(count);
        }
        for received_at_ms in &open.received_at_ms {
            metrics.latency.observe(seconds_since(*received_at_ms));
        }
        let end = self.task.member.cached_end(&self.task.at).filter(|_| !self.at_end);
        let left = end.map_or(0, |end| end - self.progress.next_input);
        metrics.group().lagging(&self.task.at, left, open.received_at_ms.last().copied());
    }

    fn offset(&self) -> (TopicPartition, i64, String) {
        (self.task.at.clone(), self.progress.next_input, self.progress.to_metadata())
    }

    fn commit_offset(&mut self) {
        self.offset_at = Instant::now();
        if self.open.since.is_none()
            && let Err(error) = self.task.member.commit(&[self.offset()], CommitMode::Async)
        {
            // The position is in the records; this one is for lag tools.
            tracing::debug!(error = error.sentence(), "offset not committed");
        }
    }

    /// A hole must not be stepped over: the partition waits for a person, and says so.
    fn stopped_at_hole(&mut self) -> Result<(), Error> {
        self.commit()?;
        self.task.context.stopped.fetch_add(1, Ordering::SeqCst);
        self.task.context.show_readiness();
        while !self.task.stop.is_cancelled() {
            drop(self.task.queue.poll(TURN));
        }
        self.task.context.stopped.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }
}

const fn is_lost(code: rdkafka::error::RDKafkaErrorCode) -> bool {
    use rdkafka::error::RDKafkaErrorCode as Code;
    matches!(code, Code::AutoOffsetReset | Code::OffsetOutOfRange)
}
