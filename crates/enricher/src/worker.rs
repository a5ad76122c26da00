//! One partition in the hands of a mapper: read, judge, write, commit. Here the rooms meet.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use kafka::group_metrics::observe_since;
use kafka::{Accepted, ClientError, CommitMode, Error, FencedWriter, Fetched, Queue, TopicPartition};
use schema::record::SeqBase;
use schema::{Rejection, namespace};
use uuid::Uuid;

use crate::context::Context;
use crate::message::Beginning;
use crate::output::{Open, Output, Taken};
use crate::position::Position;
use crate::recovery::Recovered;
use crate::step::{Hole, Input, Judged, Lost, Outcome, Step};

/// Records taken from the queue at once.
const BATCH: usize = 1_000;
/// The group's offset is committed this often: for lag tools, and for inputs that gave no output.
const OFFSET_EVERY: Duration = Duration::from_secs(3);
/// One batch in this many is timed.
const TIMED: u64 = 16;

/// Whether there was anything to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There may be more at once.
    Worked,
    /// Nothing to do before the next record or reply, or before [`PartitionWorker::due`].
    Idle,
}

/// Whether the next record may be judged.
enum Handled {
    Done,
    /// This record has to come again, behind a commit.
    Again,
    /// A hole is before it: the partition is recovered and read again.
    ReadAgain,
    Halted,
}

/// The group's offset, a hint for lag tools.
struct Hint {
    at: Instant,
    committed: i64,
    /// The raw topic's id, which goes with it.
    topic_id: Uuid,
}

/// What was seen since the assignment.
#[derive(Default)]
struct Seen {
    batches: u64,
    has_skipped: bool,
    /// The record behind a hole: met there a second time, the hole is the topic's and not the reader's.
    hole_at: Option<i64>,
}

/// A partition's state in memory. Nothing of it outlives a doubt.
pub struct PartitionWorker {
    context: Context,
    at: TopicPartition,
    /// Tells this assignment of the partition from an earlier one.
    pub assignment: u64,
    queue: Queue,
    step: Option<Step>,
    /// Taken from the queue, not yet handled; the next one last.
    pending: Vec<Fetched>,
    output: Output,
    hint: Hint,
    seen: Seen,
    /// A hole was found: a person must act.
    is_halted: bool,
}

impl PartitionWorker {
    /// A partition whose committer recovers.
    #[must_use]
    pub fn new(context: &Context, beginning: Beginning) -> Self {
        let Beginning { at, assignment, queue, committer } = beginning;
        Self {
            context: context.clone(),
            output: Output::new(at.clone(), &context.topics, context.most_bytes, committer),
            at,
            assignment,
            queue,
            step: None,
            pending: Vec::new(),
            hint: Hint { at: Instant::now(), committed: -1, topic_id: Uuid::nil() },
            seen: Seen::default(),
            is_halted: false,
        }
    }

    /// The committer has recovered: work begins at this position.
    pub fn recovered(&mut self, recovered: Recovered) {
        let Recovered { writer, position, topic_id } = recovered;
        self.hint.topic_id = topic_id;
        self.pending.clear();
        if std::mem::take(&mut self.is_halted) {
            // What was before the hole was not committed: the hole is met again behind it.
            self.context.halted.fetch_sub(1, Ordering::SeqCst);
            self.context.show_readiness();
        }
        self.step = Some(Step::new(position, Arc::clone(&self.context.mapping)));
        self.output.recovered(writer);
    }

    /// The committer has committed what was open.
    pub fn committed(&mut self, writer: FencedWriter) {
        let done = self.output.committed(writer);
        self.context.metrics.transactions.with_label_values(&["committed"]).inc();
        self.context.service.metrics.progressed();
        self.show(&done);
        if self.hint.at.elapsed() >= OFFSET_EVERY {
            self.commit_offset();
        }
    }

    /// The outcome of a write is unknown: the writer is dropped, and the committer recovers.
    pub fn doubted(&mut self, doubt: &Error) {
        let partition = self.at.partition;
        tracing::warn!(partition, error = doubt.sentence(), "in doubt about a write: initialising again");
        self.context.metrics.transactions.with_label_values(&["doubt"]).inc();
        self.context.service.tasks.restarted("enrich");
        self.pending.clear();
        self.output.doubted();
    }

    /// Whether nothing is written that is not committed.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        self.output.is_settled()
    }

    /// The partition is revoked: commits what is open; what is only read is dropped.
    pub fn revoke(&mut self) {
        self.pending.clear();
        if self.is_settled() {
            self.output.stop_recovering();
        } else {
            self.commit();
        }
    }

    /// The last act of an assignment: tells the group where the partition stands.
    pub fn end(&mut self) {
        if self.output.is_here() && !self.is_halted {
            self.commit_offset();
        }
    }

    /// When the worker has to act again, even without a record.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        let is_working = self.output.is_here() && !self.is_halted;
        is_working.then(|| self.output.due().unwrap_or(self.hint.at + OFFSET_EVERY))
    }

    /// Handles what is there, and commits where that is due.
    ///
    /// # Errors
    /// [`Error::Stop`] where a person must act; a doubt is dealt with here.
    pub fn advance(&mut self) -> Result<Progress, Error> {
        if self.is_halted || !self.output.is_here() {
            return Ok(Progress::Idle);
        }
        if self.pending.is_empty() {
            self.pending = self.queue.take(BATCH);
            self.pending.reverse();
            self.seen.batches += 1;
        }
        let took = self.pending.len();
        match self.handle_pending() {
            Ok(()) => {}
            Err(stop @ Error::Stop(_)) => return Err(stop),
            Err(doubt @ (Error::Doubt { .. } | Error::TimedOut { .. })) => {
                self.doubted(&doubt);
                return Ok(Progress::Worked);
            }
        }
        self.commit_if_due(took);
        Ok(if took > 0 { Progress::Worked } else { Progress::Idle })
    }

    fn handle_pending(&mut self) -> Result<(), Error> {
        let Some(mut step) = self.step.take() else { return Ok(()) };
        let handled = self.handle_with(&mut step);
        self.step = Some(step);
        handled
    }

    fn handle_with(&mut self, step: &mut Step) -> Result<(), Error> {
        let started = self.seen.batches.is_multiple_of(TIMED).then(Instant::now);
        let count = self.pending.len();
        while let Some(record) = self.pending.pop() {
            if let Some(error) = record.failure() {
                self.failed(error, step.position().next_input)?;
                continue;
            }
            match self.handle(step, &record)? {
                Handled::Done => {}
                Handled::Again => {
                    self.pending.push(record);
                    self.commit_at(step.position());
                    return Ok(());
                }
                Handled::ReadAgain => {
                    let (partition, offset) = (self.at.partition, record.offset());
                    tracing::warn!(partition, offset, "a hole in {}: reading again before it", self.at.topic);
                    self.pending.clear();
                    self.output.doubted();
                    return Ok(());
                }
                Handled::Halted => {
                    self.halt(step.position());
                    return Ok(());
                }
            }
        }
        if let (Some(started), Ok(count @ 1..)) = (started, u32::try_from(count)) {
            self.context.metrics.processing.observe((started.elapsed() / count).as_secs_f64());
        }
        Ok(())
    }

    fn failed(&self, error: ClientError, next_input: i64) -> Result<(), Error> {
        if error.is_gone() {
            // Recovering compares the position with what the log holds, and says if records are gone.
            let TopicPartition { topic, partition } = &self.at;
            return Err(error.doubt(format!("read offset {next_input} of {topic} partition {partition}")));
        }
        tracing::debug!(%error, "the consumer reports an error and continues");
        Ok(())
    }

    /// Judges one record, and writes what becomes of it.
    fn handle(&mut self, step: &mut Step, record: &Fetched) -> Result<Handled, Error> {
        let offset = record.offset();
        let input = Input::read(offset, record.value(), record);
        let accepted = &self.context.config.accept_lost_history;
        let mut judged = step.judge(&input, || accepted.cover(&self.at.topic, self.at.partition, offset));
        if let Outcome::Emit(_, edit) = &judged.outcome
            && let Err(bytes) = self.output.prepare(edit)
        {
            judged = judged.too_long(bytes, self.context.most_bytes);
        }
        let taken = match &judged.outcome {
            Outcome::Emit(headers, edit) => {
                let source = namespace::name(edit.namespace_id, &edit.title).1;
                self.output.edit(record, headers, source)?
            }
            Outcome::Reject(rejection) => self.output.dead_letter(record, rejection)?,
            Outcome::Skip | Outcome::Repeat => {
                self.output.skip(record);
                Taken::Yes
            }
            Outcome::Hole(hole) if self.seen.hole_at == Some(offset) => {
                self.report_hole(*hole, offset);
                return Ok(Handled::Halted);
            }
            Outcome::Hole(_) => {
                self.seen.hole_at = Some(offset);
                return Ok(Handled::ReadAgain);
            }
        };
        if taken == Taken::Again {
            return Ok(Handled::Again);
        }
        step.accept(offset, &judged);
        self.count(offset, &judged);
        Ok(Handled::Done)
    }

    /// Counts and logs what became of a record.
    fn count(&mut self, offset: i64, judged: &Judged<'_>) {
        if let Some(lost) = judged.lost {
            self.report_lost(lost, offset);
        }
        let metrics = &self.context.metrics;
        match &judged.outcome {
            Outcome::Reject(Rejection { reason, .. }) => {
                let (partition, reason) = (self.at.partition, reason.as_str());
                tracing::warn!(partition, offset, reason, "a record was set aside as a dead letter");
            }
            Outcome::Repeat => metrics.repeats.inc(),
            Outcome::Skip if !std::mem::replace(&mut self.seen.has_skipped, true) => tracing::info!(
                partition = self.at.partition,
                "the raw topic holds canaries or types that are not in WIKI_EVENT_TYPES: they are skipped"
            ),
            Outcome::Emit(..) | Outcome::Skip | Outcome::Hole(_) => {}
        }
    }

    fn report_hole(&self, hole: Hole, offset: i64) {
        let (TopicPartition { topic, partition }, Hole { expected, found }) = (&self.at, hole);
        tracing::error!(
            partition,
            offset,
            seq = found,
            expected,
            "a hole in {topic}: the partition is halted; restore the topic, or take the loss with \
             --accept-lost-history {}",
            Accepted::place(topic, *partition, offset)
        );
    }

    fn report_lost(&self, lost: Lost, offset: i64) {
        let (TopicPartition { topic, partition }, Lost { count, base }) = (&self.at, lost);
        match base {
            SeqBase::Emptied => {
                self.context.metrics.lost.inc_by(u64::try_from(count).unwrap_or(0));
                tracing::error!(
                    partition,
                    offset,
                    count,
                    "records of {topic} were deleted before they were mapped: their edits are lost"
                );
            }
            SeqBase::Unknown => tracing::warn!(
                partition,
                offset,
                at_most = count,
                "{topic} was emptied and its sequence continues at the log's end, as an operator accepted: records may \
                 have been deleted before they were mapped"
            ),
        }
    }

    /// Commits when nothing is left to read, or when the transaction has been open for long enough.
    fn commit_if_due(&mut self, took: usize) {
        if self.is_halted || !self.output.is_here() {
            return;
        }
        let Some(due) = self.output.due() else {
            if self.output.has_handled() {
                let done = self.output.take_open();
                self.show(&done);
            }
            if self.hint.at.elapsed() >= OFFSET_EVERY {
                self.commit_offset();
            }
            return;
        };
        let is_caught_up = took < BATCH && self.behind() == 0;
        if is_caught_up || Instant::now() >= due {
            self.commit();
        }
    }

    fn behind(&self) -> i64 {
        self.step.as_ref().map_or(0, |step| self.context.member.behind(&self.at, step.position().next_input))
    }

    fn commit(&mut self) {
        if let Some(position) = self.step.as_ref().map(|step| *step.position()) {
            self.commit_at(&position);
        }
    }

    fn commit_at(&mut self, position: &Position) {
        let topic_id = self.hint.topic_id;
        self.output.commit(|| (position.next_input, position.to_metadata(topic_id)));
    }

    /// Shows what is done.
    fn show(&self, done: &Open) {
        let metrics = &self.context.metrics;
        metrics.group().read(&self.at, done.records, done.bytes);
        for (outcome, count) in [
            ("enriched", done.received_at_ms.len() as u64),
            ("dead_lettered", done.dead_letters),
            ("skipped", done.skipped),
        ] {
            metrics.records.with_label_values(&[outcome]).inc_by(count);
        }
        metrics.named(&done.named);
        observe_since(&metrics.latency, done.received_at_ms.iter().copied());
        metrics.group().lagging(&self.at, self.behind(), done.received_at_ms.last().copied());
    }

    /// Tells the group where the partition stands, if that is new.
    fn commit_offset(&mut self) {
        self.hint.at = Instant::now();
        let Some(position) = self.step.as_ref().map(|step| *step.position()) else { return };
        if std::mem::replace(&mut self.hint.committed, position.next_input) == position.next_input {
            return;
        }
        let offset = (self.at.clone(), position.next_input, position.to_metadata(self.hint.topic_id));
        if let Err(error) = self.context.member.commit(&[offset], CommitMode::Send) {
            // The position is in the records; this one is for lag tools.
            tracing::debug!(error = error.sentence(), "offset not committed");
        }
    }

    /// A hole must not be stepped over: what is before it is committed, then the partition waits for a person.
    fn halt(&mut self, position: &Position) {
        self.pending.clear();
        self.is_halted = true;
        self.context.metrics.holes.inc();
        self.context.halted.fetch_add(1, Ordering::SeqCst);
        self.context.show_readiness();
        if !self.is_settled() {
            self.commit_at(position);
        }
    }
}

impl Drop for PartitionWorker {
    fn drop(&mut self) {
        if self.is_halted {
            self.context.halted.fetch_sub(1, Ordering::SeqCst);
        }
    }
}
