//! The batch on its way into the destination: what waits, what is being written, and what is tried again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use service::Failure;
use uuid::Uuid;

use crate::Config;
use crate::batch::{Batch, Part, Row};
use crate::destination::{Destination, Pending};
use crate::error::WriteError;
use crate::metrics::SinkMetrics;
use crate::slow::{self, Slowness};
use crate::writer::Written;

/// Waits between tries of a write, doubling from the first to the last.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// A write that takes longer keeps the sink from being ready.
const SLOW: Duration = Duration::from_secs(5);
/// A write that takes longer, while a whole batch waits behind it, stops the reading.
const STALLED: Duration = Duration::from_secs(1);

/// Rows of the first write at most: it is not known yet how quick the destination is.
const FIRST_ROWS: usize = 2_000;
/// A write that took less may have twice the rows the next time; a statement may take 20 s.
const QUICK_SECONDS: f64 = 5.0;

/// What came of a write.
#[derive(Debug)]
pub enum Event {
    /// These rows are durable; rows of partitions that were dropped meanwhile are not among them.
    Stored(BTreeMap<i32, Part>, Written),
    /// Other sinks own these partitions: nothing was written.
    Fenced(Vec<i32>),
    /// It is tried again later.
    Failed,
}

/// A write that is under way.
#[derive(Debug)]
struct Writing {
    done: Pending<Done>,
    /// Partitions that were dropped since it began.
    dropped: Vec<i32>,
}

/// A write that is over.
#[derive(Debug)]
struct Done {
    batch: Batch,
    result: Result<Written, WriteError>,
    seconds: f64,
}

/// A write that has to wait.
#[derive(Debug)]
struct Retry {
    at: Instant,
    wait: Duration,
}

/// Rows of one write and how long they wait for it.
#[derive(Clone, Copy, Debug)]
struct Limits {
    rows: usize,
    wait: Duration,
}

/// Collects rows and writes them, one write at a time; the next batch is collected meanwhile.
#[derive(Debug)]
pub struct Output {
    metrics: Arc<SinkMetrics>,
    slowness: Slowness,
    limits: Limits,
    batch: Batch,
    /// When the first row of the batch came.
    since: Option<Instant>,
    writing: Option<Writing>,
    retry: Option<Retry>,
    /// Rows of one write at most, at first and where a whole batch took too long.
    most: Option<usize>,
    /// Why the table refuses all rows, if it does.
    refused: Option<String>,
}

impl Output {
    /// Nothing to write yet.
    #[must_use]
    pub fn new(config: &Config, topic_id: Uuid, metrics: Arc<SinkMetrics>, slowness: Slowness) -> Self {
        let rows = usize::try_from(config.batch_rows).unwrap_or(usize::MAX);
        Self {
            metrics,
            slowness,
            limits: Limits { rows, wait: Duration::from_millis(config.batch_ms) },
            batch: Batch { topic_id, parts: BTreeMap::new() },
            since: None,
            writing: None,
            retry: None,
            most: Some(FIRST_ROWS),
            refused: None,
        }
    }

    /// Takes a row.
    pub fn take(&mut self, partition: i32, epoch: i64, row: Row) {
        let part = self.batch.parts.entry(partition).or_default();
        part.epoch = epoch;
        part.rows.push(row);
        self.since.get_or_insert_with(Instant::now);
    }

    /// Rows that wait for their write.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.batch.len()
    }

    /// When ingest read the oldest row of a partition that waits.
    #[must_use]
    pub fn oldest_ms(&self, partition: i32) -> Option<i64> {
        self.batch.parts.get(&partition)?.rows.first().map(|row| row.received_at_ms)
    }

    /// Whether nothing waits and nothing is being written.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.batch.is_empty() && self.writing.is_none()
    }

    /// Whether a write is under way.
    #[must_use]
    pub const fn is_writing(&self) -> bool {
        self.writing.is_some()
    }

    /// Whether a whole batch waits.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.batch.len() >= if self.slowness.is_on() { slow::ROWS } else { self.limits.rows }
    }

    /// Whether nothing more should be read for now: a write is tried again, or a slow one has a whole batch behind it.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.retry.is_some() || (self.is_full() && self.age() > STALLED)
    }

    fn age(&self) -> Duration {
        self.writing.as_ref().map_or(Duration::ZERO, |writing| writing.done.age())
    }

    /// What keeps rows from being stored, for people.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        if let Some(sentence) = &self.refused {
            return Some(format!("the table refuses rows that it was made for: {sentence}"));
        }
        if self.retry.is_some() {
            return Some("a write waits for the destination".to_owned());
        }
        let seconds = self.age().as_secs();
        (self.age() > SLOW).then(|| format!("the destination has not answered a write for {seconds} s"))
    }

    /// How long a record may be waited for: until the next write is due, at most `limit`.
    #[must_use]
    pub fn patience(&self, limit: Duration) -> Duration {
        if self.writing.is_some() {
            return limit;
        }
        if let Some(retry) = &self.retry {
            return retry.at.saturating_duration_since(Instant::now()).min(limit);
        }
        self.since.map_or(limit, |since| self.limits.wait.saturating_sub(since.elapsed()).min(limit))
    }

    /// Whether a write should begin.
    #[must_use]
    pub fn is_due(&self, now: Instant) -> bool {
        if self.writing.is_some() || self.batch.is_empty() {
            return false;
        }
        match &self.retry {
            Some(retry) => now >= retry.at,
            None => self.is_full() || self.since.is_some_and(|since| since.elapsed() >= self.limits.wait),
        }
    }

    /// Begins to write what waits, unless a write is under way.
    pub fn start(&mut self, destination: &Destination) {
        if self.writing.is_some() || self.batch.is_empty() {
            return;
        }
        let rest = self.batch.split_off(self.most.map_or(self.limits.rows, |most| most.min(self.limits.rows)));
        let parts = std::mem::replace(&mut self.batch.parts, rest);
        let batch = Batch { topic_id: self.batch.topic_id, parts };
        self.since = (!self.batch.is_empty()).then(Instant::now);
        let (metrics, is_slowed) = (Arc::clone(&self.metrics), self.slowness.is_on());
        let done = destination.ask(move |writer| {
            if is_slowed {
                std::thread::park_timeout(slow::PAUSE);
            }
            let started = Instant::now();
            let result = metrics.during_a_write(|| writer.write(&batch));
            Done { batch, result, seconds: started.elapsed().as_secs_f64() }
        });
        self.writing = Some(Writing { done, dropped: Vec::new() });
    }

    /// What came of the write that is under way, if it is over within `limit`.
    ///
    /// # Errors
    /// Where a person must act.
    pub fn finished(&mut self, limit: Duration) -> Result<Option<Event>, Failure> {
        let Some(done) = self.writing.as_ref().and_then(|writing| writing.done.wait(limit)) else { return Ok(None) };
        let dropped = self.writing.take().map(|writing| writing.dropped).unwrap_or_default();
        let Done { mut batch, result, seconds } = done;
        match result {
            Ok(written) => {
                self.metrics.wrote(&written, batch.len(), seconds);
                batch.forget(&dropped);
                self.stored(&written, seconds);
                Ok(Some(Event::Stored(batch.parts, written)))
            }
            Err(error) => {
                batch.forget(&dropped);
                let rows = batch.len();
                // In front of what came meanwhile.
                let later = std::mem::replace(&mut self.batch.parts, batch.parts);
                self.batch.append(later);
                self.since.get_or_insert_with(Instant::now);
                let event = self.failed(error, rows)?;
                self.rest_if_empty();
                Ok(Some(event))
            }
        }
    }

    fn stored(&mut self, written: &Written, seconds: f64) {
        if self.refused.take().is_some() {
            tracing::info!("the table takes rows again");
            self.metrics.refusing.set(0);
        }
        if self.batch.is_empty() {
            self.retry = None;
        } else if let Some(retry) = &mut self.retry {
            // At once; until all is written nothing more is read.
            *retry = Retry { at: Instant::now(), wait: RETRY.0 };
        }
        // A slow link stays slow: twice as much is tried only where this much was quick.
        if seconds < QUICK_SECONDS {
            self.most = self.most.map(|rows| rows.saturating_mul(2)).filter(|rows| *rows < self.limits.rows);
        }
        for (partition, (from, to)) in &written.lost {
            tracing::error!(
                partition,
                count = to - from,
                from,
                to,
                "the topic was emptied before these records were stored: their edits are lost"
            );
            self.metrics.lost.inc_by(u64::try_from(to - from).unwrap_or(0));
        }
    }

    fn failed(&mut self, error: WriteError, rows: usize) -> Result<Event, Failure> {
        match error {
            WriteError::Fenced { partitions } => {
                tracing::warn!(?partitions, "another sink owns these partitions by now: nothing was written");
                self.metrics.fenced.with_label_values(&["epoch"]).inc_by(partitions.len() as u64);
                return Ok(Event::Fenced(partitions));
            }
            WriteError::Retry { doing, .. } => {
                tracing::warn!(%error, "write failed; trying again");
                self.retry_later(doing);
            }
            WriteError::TooSlow { doing, .. } => {
                let most = (rows / 2).max(1);
                tracing::warn!(%error, rows = most, "a write took too long; trying again with fewer rows at once");
                self.most = Some(most);
                self.retry_later(doing);
            }
            WriteError::Refused(sentence) => {
                tracing::error!(
                    rows,
                    "the table refuses rows that it was made for: {sentence}; nothing was set aside, and writing \
                     continues when the table takes them again"
                );
                self.refused = Some(sentence);
                self.metrics.refusing.set(1);
                self.retry_later("refused");
            }
            WriteError::Stop(sentence) => return Err(Failure::Runtime(sentence)),
        }
        Ok(Event::Failed)
    }

    fn retry_later(&mut self, doing: &str) {
        let wait = self.retry.as_ref().map_or(RETRY.0, |retry| (retry.wait * 2).min(RETRY.1));
        self.metrics.retried(doing);
        self.retry = Some(Retry { at: Instant::now() + wait, wait });
    }

    /// Drops what waits of partitions that are no longer ours.
    pub fn forget(&mut self, partitions: &[i32]) {
        self.batch.forget(partitions);
        if let Some(writing) = &mut self.writing {
            writing.dropped.extend_from_slice(partitions);
        }
        self.rest_if_empty();
    }

    /// With nothing to write, nothing waits.
    fn rest_if_empty(&mut self) {
        if !self.batch.is_empty() {
            return;
        }
        self.since = None;
        if self.writing.is_none() {
            self.retry = None;
            self.refused = None;
            self.metrics.refusing.set(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::batch::Fate;
    use crate::writer::{Claim, Place, Position, Rejected, Writer};
    use schema::{Reason, Rejection};
    use service::{CancellationToken, Service};

    const LIMIT: Duration = Duration::from_secs(20);

    /// A table that takes the next answers from a list, and waits while there is none.
    #[derive(Clone, Default)]
    struct Table {
        answers: Arc<Mutex<Vec<Result<Written, WriteError>>>>,
        /// Sequence numbers of each write.
        writes: Arc<Mutex<Vec<Vec<i64>>>>,
    }

    impl Table {
        fn answer(&self, answer: Result<Written, WriteError>) {
            self.answers.lock().unwrap().insert(0, answer);
        }

        fn writes(&self) -> Vec<Vec<i64>> {
            self.writes.lock().unwrap().clone()
        }
    }

    impl Writer for Table {
        fn claim(&mut self, _: &[Claim<'_>]) -> Result<Vec<Position>, WriteError> {
            Ok(Vec::new())
        }

        fn write(&mut self, batch: &Batch) -> Result<Written, WriteError> {
            let rows = batch.parts.values().flat_map(|part| part.rows.iter().map(|row| row.seq));
            self.writes.lock().unwrap().push(rows.collect());
            loop {
                if let Some(answer) = self.answers.lock().unwrap().pop() {
                    return answer;
                }
                std::thread::park_timeout(Duration::from_millis(1));
            }
        }

        fn holds(&mut self, _: Uuid, _: Place<'_>) -> Result<bool, WriteError> {
            Ok(false)
        }

        fn outbox(&mut self, _: Uuid, _: &[i32]) -> Result<Vec<Rejected>, WriteError> {
            Ok(Vec::new())
        }

        fn told(&mut self, _: &[i64]) -> Result<(), WriteError> {
            Ok(())
        }
    }

    fn retry() -> WriteError {
        WriteError::Retry { doing: "write", source: "no answer".into() }
    }

    fn row(seq: i64) -> Row {
        let fate = Fate::Reject(Rejection::new(Reason::InvalidJson, ""), Vec::new());
        Row { seq, offset: seq, raw_offset: seq, received_at_ms: 0, is_base: false, fate }
    }

    fn begin(rows: u32) -> (Table, Destination, Output) {
        let service = Service::new("sink", CancellationToken::new());
        let table = Table::default();
        let destination = Destination::start(&service, Box::new(table.clone())).unwrap();
        let config = Config { batch_rows: rows, ..crate::config::tests::defaults() };
        let metrics = Arc::new(SinkMetrics::new(&service.metrics, &config));
        (table, destination, Output::new(&config, Uuid::nil(), metrics, Slowness::default()))
    }

    fn take(output: &mut Output, partition: i32, seqs: std::ops::Range<i64>) {
        seqs.for_each(|seq| output.take(partition, 1, row(seq)));
    }

    fn end(output: &mut Output) -> Event {
        output.finished(LIMIT).unwrap().expect("the write ends")
    }

    #[test]
    fn the_next_batch_is_collected_while_a_write_is_under_way() {
        let (table, destination, mut output) = begin(10);
        take(&mut output, 0, 0..2);
        output.start(&destination);
        take(&mut output, 0, 2..5);
        output.start(&destination);
        assert!(output.finished(Duration::ZERO).unwrap().is_none(), "it waits for its answer");
        assert_eq!((output.waiting(), output.is_due(Instant::now() + LIMIT)), (3, false), "one write at a time");
        table.answer(Ok(Written::default()));
        assert!(matches!(end(&mut output), Event::Stored(parts, _) if parts[&0].rows.len() == 2));
        table.answer(Ok(Written::default()));
        output.start(&destination);
        end(&mut output);
        assert!(output.is_settled());
        assert_eq!(table.writes(), [vec![0, 1], vec![2, 3, 4]]);
    }

    #[test]
    fn what_failed_is_written_again_before_what_came_later() {
        let (table, destination, mut output) = begin(10);
        take(&mut output, 0, 0..2);
        output.start(&destination);
        take(&mut output, 0, 2..3);
        table.answer(Err(retry()));
        assert!(matches!(end(&mut output), Event::Failed));
        assert!(output.is_blocked() && output.trouble().is_some());
        assert!(!output.is_due(Instant::now()) && output.is_due(Instant::now() + RETRY.0));
        table.answer(Ok(Written::default()));
        output.start(&destination);
        end(&mut output);
        assert_eq!(table.writes(), [vec![0, 1], vec![0, 1, 2]]);
        assert!(output.is_settled() && !output.is_blocked() && output.trouble().is_none());
    }

    #[test]
    fn a_write_that_takes_too_long_is_halved_until_it_does_not() {
        let (table, destination, mut output) = begin(100);
        take(&mut output, 0, 0..8);
        let too_slow = || Err(WriteError::TooSlow { doing: "write", source: "canceled".into() });
        for answer in [too_slow(), too_slow(), Ok(Written::default())] {
            table.answer(answer);
            output.start(&destination);
            end(&mut output);
        }
        assert!(output.is_blocked(), "nothing is read before all is written");
        let sizes: Vec<usize> = table.writes().iter().map(Vec::len).collect();
        assert_eq!((sizes, output.waiting()), (vec![8, 4, 2], 6));
    }

    #[test]
    fn rows_of_a_partition_that_was_dropped_meanwhile_are_neither_stored_nor_written_again() {
        let (table, destination, mut output) = begin(10);
        for answer in [Ok(Written::default()), Err(retry())] {
            take(&mut output, 0, 0..2);
            take(&mut output, 1, 5..7);
            output.start(&destination);
            output.forget(&[0]);
            table.answer(answer);
            match end(&mut output) {
                Event::Stored(parts, _) => assert_eq!(parts.keys().collect::<Vec<_>>(), [&1]),
                _ => assert_eq!((output.waiting(), output.oldest_ms(0)), (2, None)),
            }
        }
        output.forget(&[1]);
        assert!(output.is_settled() && !output.is_blocked(), "with nothing to write nothing waits");
    }

    #[test]
    fn a_slow_write_stops_the_reading_only_with_a_whole_batch_behind_it() {
        let (table, destination, mut output) = begin(2);
        take(&mut output, 0, 0..2);
        output.start(&destination);
        take(&mut output, 0, 2..3);
        let deadline = Instant::now() + LIMIT;
        while output.age() <= STALLED && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(20));
        }
        assert!(!output.is_blocked(), "there is room");
        take(&mut output, 0, 3..4);
        assert!(output.is_blocked());
        table.answer(Ok(Written::default()));
        end(&mut output);
        assert!(!output.is_blocked());
    }
}
