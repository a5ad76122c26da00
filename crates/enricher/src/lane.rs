//! One partition in the hands of a mapper: records in, edits out, and when to commit.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use kafka::dead_letter::{self, Origin, Quotation};
use kafka::group_metrics::seconds_since;
use kafka::{Accepted, Error, FencedWriter, Fetched, Outgoing, Queue, Queued, TopicPartition};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use schema::record::{EventHeaders, RawHeaders, SeqBase};
use schema::{Edit, Reason, Rejection, namespace};

use crate::assignment::Context;
use crate::committer::{Handle, Order};
use crate::progress::{Logs, Progress, Step};

/// A transaction is committed when the partition is caught up, or after this long.
const MAX_OPEN: Duration = Duration::from_millis(100);
/// The longest input; ingest writes none that is longer.
const MAX_VALUE_BYTES: usize = 2 << 20;
/// Records taken from the queue at once.
const BATCH: usize = 1_000;
/// The group's offset is committed this often: a hint for lag tools, and the end of inputs without output.
const OFFSET_EVERY: Duration = Duration::from_secs(3);
/// One batch in this many is timed.
const TIMED: u64 = 16;

/// Who has the writer.
enum Stage {
    /// The committer: it recovers or commits.
    Away,
    /// We do.
    Here(FencedWriter),
    /// Nobody: inputs are missing, and a person must act.
    Halted,
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
    /// The last thing written is a dead letter: no output tells that its input is done.
    ends_with_dead_letter: bool,
}

/// What a turn did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// There may be more at once.
    Worked,
    /// Nothing to do before the next record or reply, or before [`Lane::due`].
    Idle,
}

/// What a record needs before the next one is looked at.
enum Handled {
    Done,
    /// The writer's queue is full: this record has to come again.
    Again,
    Hole,
}

/// A partition's state in memory. Nothing of it outlives a doubt.
pub struct Lane {
    context: Context,
    /// The partition.
    pub at: TopicPartition,
    /// Tells this stay of the partition from an earlier one.
    pub stay: u64,
    queue: Queue,
    committer: Handle,
    stage: Stage,
    progress: Progress,
    /// Taken from the queue, not yet handled; the next one last.
    pending: Vec<Fetched>,
    open: Open,
    json: Vec<u8>,
    offset_at: Instant,
    offset_told: i64,
    batches: u64,
    dead_letter_topic: String,
    is_halted: bool,
    told_of_skips: bool,
}

impl Lane {
    /// A partition whose committer recovers.
    #[must_use]
    pub fn new(context: &Context, at: TopicPartition, stay: u64, queue: Queue, committer: Handle) -> Self {
        Self {
            context: context.clone(),
            dead_letter_topic: context.topics.dead_letters_of(&at.topic),
            at,
            stay,
            queue,
            committer,
            stage: Stage::Away,
            progress: Progress::recover(None, None, Logs { input_start: 0, output_end: 0 }),
            pending: Vec::new(),
            open: Open::default(),
            json: Vec::new(),
            offset_at: Instant::now(),
            offset_told: -1,
            batches: 0,
            is_halted: false,
            told_of_skips: false,
        }
    }

    /// The committer has recovered: everything in memory begins anew there.
    pub fn recovered(&mut self, writer: FencedWriter, progress: Progress) {
        self.pending.clear();
        self.open = Open::default();
        self.progress = progress;
        self.stage = Stage::Here(writer);
    }

    /// The committer has committed what was open.
    pub fn committed(&mut self, writer: FencedWriter) {
        self.stage = if self.is_halted { Stage::Halted } else { Stage::Here(writer) };
        self.context.metrics.transactions.with_label_values(&["committed"]).inc();
        self.context.service.metrics.progressed();
        self.show();
        if self.offset_at.elapsed() >= OFFSET_EVERY {
            self.commit_offset();
        }
    }

    /// The outcome of a write is unknown: the writer is gone, and the committer begins anew.
    pub fn doubted(&mut self, doubt: &Error) {
        let partition = self.at.partition;
        tracing::warn!(partition, error = doubt.sentence(), "in doubt about a write: initialising again");
        self.context.metrics.transactions.with_label_values(&["doubt"]).inc();
        self.context.service.tasks.restarted("enrich");
        self.stage = Stage::Away;
        self.pending.clear();
        self.open = Open::default();
        self.committer.order(Order::Recover);
    }

    /// Whether nothing is written that is not committed.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        self.open.since.is_none()
    }

    /// Commits what is open, before the partition is given back; what is only read is forgotten.
    pub fn leave(&mut self) {
        self.pending.clear();
        if self.is_settled() {
            // Nobody waits for a recovery any more.
            self.committer.stop.cancel();
        } else {
            self.commit();
        }
    }

    /// The group's offset, at the end of a stay.
    pub fn left(&mut self) {
        if matches!(self.stage, Stage::Here(_)) {
            self.commit_offset();
        }
    }

    /// When the lane has to be looked at again, even without a record.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        match (&self.stage, self.open.since) {
            (Stage::Here(_), Some(since)) => Some(since + MAX_OPEN),
            (Stage::Here(_), None) => Some(self.offset_at + OFFSET_EVERY),
            (Stage::Away | Stage::Halted, _) => None,
        }
    }

    /// Handles what is there, and commits where that is due.
    ///
    /// # Errors
    /// [`Error::Stop`] where a person must act; a doubt is dealt with here.
    pub fn turn(&mut self) -> Result<Turn, Error> {
        if !matches!(self.stage, Stage::Here(_)) {
            return Ok(Turn::Idle);
        }
        if self.pending.is_empty() {
            self.pending = self.queue.take(BATCH);
            self.pending.reverse();
            self.batches += 1;
        }
        let took = self.pending.len();
        match self.handle_pending() {
            Ok(()) => {}
            Err(stop @ Error::Stop(_)) => return Err(stop),
            Err(doubt @ (Error::Doubt { .. } | Error::TimedOut { .. })) => {
                self.doubted(&doubt);
                return Ok(Turn::Worked);
            }
        }
        self.commit_if_due(took);
        Ok(if took > 0 { Turn::Worked } else { Turn::Idle })
    }

    fn handle_pending(&mut self) -> Result<(), Error> {
        let started = self.batches.is_multiple_of(TIMED).then(Instant::now);
        let count = self.pending.len();
        while let Some(record) = self.pending.pop() {
            if let Some(code) = record.failure() {
                self.failed(code)?;
                continue;
            }
            match self.record(&record)? {
                Handled::Done => {}
                Handled::Again => {
                    self.pending.push(record);
                    self.commit();
                    return Ok(());
                }
                Handled::Hole => {
                    self.halt();
                    return Ok(());
                }
            }
        }
        if let (Some(started), Ok(count @ 1..)) = (started, u32::try_from(count)) {
            self.context.metrics.processing.observe((started.elapsed() / count).as_secs_f64());
        }
        Ok(())
    }

    fn failed(&self, code: RDKafkaErrorCode) -> Result<(), Error> {
        match code {
            // Recovering compares the position with what the log holds, and says if records are gone.
            RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange => Err(Error::Doubt {
                doing: format!(
                    "read offset {} of {} partition {}",
                    self.progress.next_input, self.at.topic, self.at.partition
                ),
                source: KafkaError::MessageConsumption(code),
            }),
            other => {
                tracing::debug!(%other, "the consumer reports an error and goes on");
                Ok(())
            }
        }
    }

    /// Handles one input.
    fn record(&mut self, record: &Fetched) -> Result<Handled, Error> {
        let headers = match RawHeaders::read(record) {
            Ok(headers) => headers,
            Err(rejection) => return self.set_aside(record, None, &rejection),
        };
        match self.progress.step(headers.seq, headers.base) {
            Step::Hole if self.is_accepted(record.offset()) => self.lost(&headers, record.offset(), SeqBase::Emptied),
            Step::Hole => {
                self.tell_hole(&headers, record.offset());
                return Ok(Handled::Hole);
            }
            Step::Lost(base) => self.lost(&headers, record.offset(), base),
            Step::Repeat => {
                self.context.metrics.repeats.inc();
                self.skip(record, None);
                return Ok(Handled::Done);
            }
            Step::Take => {}
        }
        if record.value().len() > MAX_VALUE_BYTES {
            let why = format!("{} bytes, of {MAX_VALUE_BYTES} at most", record.value().len());
            return self.set_aside(record, Some(headers.seq), &Rejection::new(Reason::Oversized, why));
        }
        match self.context.mapping.enrich(record.value()) {
            Ok(Some(edit)) => self.output(record, &headers, &edit),
            Ok(None) => {
                if !std::mem::replace(&mut self.told_of_skips, true) {
                    tracing::info!(
                        partition = self.at.partition,
                        "the raw topic holds canaries or types that are not in WIKI_EVENT_TYPES: they are skipped"
                    );
                }
                self.skip(record, Some(headers.seq));
                Ok(Handled::Done)
            }
            Err(rejection) => self.set_aside(record, Some(headers.seq), &rejection),
        }
    }

    fn is_accepted(&self, offset: i64) -> bool {
        self.context.config.accept_lost_history.cover(&self.at.topic, self.at.partition, offset)
    }

    fn tell_hole(&self, headers: &RawHeaders<'_>, offset: i64) {
        let TopicPartition { topic, partition } = &self.at;
        tracing::error!(
            partition,
            offset,
            due = self.progress.next_input,
            seq = headers.seq,
            expected = self.progress.expected_raw_seq,
            "a hole in {topic}: the partition is halted; restore the topic, or take the loss with \
             --accept-lost-history {}",
            Accepted::place(topic, *partition, offset)
        );
    }

    /// Records that were deleted before they were mapped; the record behind them is the next one.
    fn lost(&mut self, headers: &RawHeaders<'_>, offset: i64, base: SeqBase) {
        let count = headers.seq - self.progress.expected_raw_seq.unwrap_or(headers.seq);
        let (partition, topic, seq) = (self.at.partition, &self.at.topic, headers.seq);
        self.progress.expected_raw_seq = Some(seq);
        match base {
            SeqBase::Emptied => {
                self.context.metrics.lost.inc_by(u64::try_from(count).unwrap_or(0));
                tracing::error!(
                    partition,
                    offset,
                    count,
                    seq,
                    "records of {topic} were deleted before they were mapped: their edits are lost"
                );
            }
            SeqBase::Unknown => tracing::warn!(
                partition,
                offset,
                at_most = count,
                seq,
                "{topic} was emptied and its sequence continues at the log's end, as an operator accepted: records may have \
                 been deleted before they were mapped"
            ),
        }
    }

    fn count(&mut self, record: &Fetched) {
        self.open.records += 1;
        self.open.bytes += record.value().len() as u64;
    }

    fn skip(&mut self, record: &Fetched, seq: Option<i64>) {
        self.count(record);
        self.open.skipped += 1;
        self.progress.pass(record.offset(), seq, false);
    }

    fn output(&mut self, record: &Fetched, raw: &RawHeaders<'_>, edit: &Edit<'_>) -> Result<Handled, Error> {
        self.json.clear();
        edit.write_json(&mut self.json);
        let position = EventHeaders {
            id: raw.id.as_ref().into(),
            seq: self.progress.next_seq,
            raw_offset: record.offset(),
            raw_seq: raw.seq,
            received_at_ms: raw.received_at_ms,
            base: self.progress.is_base.then_some(SeqBase::Unknown),
        };
        let (topic, partition) = (self.context.topics.events.as_str(), self.at.partition);
        let (key, value) = (record.key(), self.json.as_slice());
        let Stage::Here(writer) = &mut self.stage else { return Ok(Handled::Again) };
        writer.begin()?;
        self.open.since.get_or_insert_with(Instant::now);
        let queued =
            position.with_headers(|headers| writer.try_send(&Outgoing { topic, partition, key, value, headers }))?;
        if queued == Queued::Full {
            return Ok(Handled::Again);
        }
        self.count(record);
        self.open.received_at_ms.push(raw.received_at_ms);
        self.open.ends_with_dead_letter = false;
        let (_, source) = namespace::name(edit.namespace_id, &edit.title);
        self.context.metrics.named(source);
        self.progress.pass(record.offset(), Some(raw.seq), true);
        Ok(Handled::Done)
    }

    /// Sets a record aside as it came, with its reason beside its own headers.
    fn set_aside(&mut self, record: &Fetched, seq: Option<i64>, rejection: &Rejection) -> Result<Handled, Error> {
        let TopicPartition { topic, partition } = &self.at;
        let origin =
            Origin { topic, partition: *partition, offset: record.offset(), service: "enricher", stage: "enrich" };
        let reasons = dead_letter::headers(&origin, rejection);
        let cuts = dead_letter::cuts(record.key(), record.value());
        let Quotation { key, value, mut headers } =
            dead_letter::quote(record.key(), record.value(), record.headers(), &cuts);
        headers.extend(reasons.iter().map(|(name, value)| (*name, Some(value.as_bytes()))));
        let letter = Outgoing { topic: &self.dead_letter_topic, partition: 0, key, value, headers: &headers };
        let Stage::Here(writer) = &mut self.stage else { return Ok(Handled::Again) };
        writer.begin()?;
        self.open.since.get_or_insert_with(Instant::now);
        if writer.try_send(&letter)? == Queued::Full {
            return Ok(Handled::Again);
        }
        let (offset, reason) = (record.offset(), rejection.reason.as_str());
        tracing::warn!(partition, offset, reason, "a record was set aside as a dead letter");
        self.count(record);
        self.open.dead_letters += 1;
        self.open.ends_with_dead_letter = true;
        self.progress.pass(offset, seq, false);
        Ok(Handled::Done)
    }

    /// Commits when nothing is left to read, or when the transaction has been open for long enough.
    fn commit_if_due(&mut self, took: usize) {
        if !matches!(self.stage, Stage::Here(_)) {
            return;
        }
        let Some(since) = self.open.since else {
            if self.open.records > 0 {
                self.show();
            }
            if self.offset_at.elapsed() >= OFFSET_EVERY {
                self.commit_offset();
            }
            return;
        };
        let caught_up = took < BATCH && self.behind() == 0;
        if caught_up || since.elapsed() >= MAX_OPEN {
            self.commit();
        }
    }

    fn behind(&self) -> i64 {
        self.context.member.behind(&self.at, self.progress.next_input)
    }

    /// Hands the writer to the committer. Where a dead letter came last, its offset goes into the transaction:
    /// nothing else would tell that it is done.
    fn commit(&mut self) {
        let Stage::Here(writer) = std::mem::replace(&mut self.stage, Stage::Away) else { return };
        let offset = (self.progress.next_input, self.progress.to_metadata());
        self.committer.order(Order::Commit(writer, self.open.ends_with_dead_letter.then_some(offset)));
    }

    /// Shows what is done, and forgets it.
    fn show(&mut self) {
        let open = std::mem::take(&mut self.open);
        let metrics = &self.context.metrics;
        metrics.group().read(&self.at, open.records, open.bytes);
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
        metrics.group().lagging(&self.at, self.behind(), open.received_at_ms.last().copied());
    }

    /// Tells the group where the partition stands, if that is new.
    fn commit_offset(&mut self) {
        self.offset_at = Instant::now();
        if std::mem::replace(&mut self.offset_told, self.progress.next_input) == self.progress.next_input {
            return;
        }
        let offset = (self.at.clone(), self.progress.next_input, self.progress.to_metadata());
        if let Err(error) = self.context.member.commit(&[offset], rdkafka::consumer::CommitMode::Async) {
            // The position is in the records; this one is for lag tools.
            tracing::debug!(error = error.sentence(), "offset not committed");
        }
    }

    /// A hole must not be stepped over: what is before it is committed, then the partition waits for a person.
    fn halt(&mut self) {
        self.pending.clear();
        self.is_halted = true;
        self.context.metrics.holes.inc();
        self.context.stopped.fetch_add(1, Ordering::SeqCst);
        self.context.show_readiness();
        if self.is_settled() {
            self.stage = Stage::Halted;
        } else {
            self.commit();
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        if self.is_halted {
            self.context.stopped.fetch_sub(1, Ordering::SeqCst);
        }
    }
}
