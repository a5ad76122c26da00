//! The loop: poll, collect, write, commit.

mod flush;
mod status;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka::group::answered;
use kafka::{BorrowedRecord, ClientError, CommitMode, GroupMember, Kafka, Polled, Rebalance, Tail, TopicPartition};
use schema::control::Moment;
use schema::record::EventHeaders;
use schema::{Edit, Mapping};
use service::health::Readiness;
use service::{Failure, Heartbeat, Service};

use crate::Config;
use crate::batch::{Batch, Fate, Hole, Row};
use crate::heal::{self, Stretch};
use crate::metrics::SinkMetrics;
use crate::outbox::Outbox;
use crate::ownership::{self, ClaimError, Owned, Source};
use crate::report::Report;
use crate::slow::{self, Slowness};
use crate::writer::{Place, Writer};

/// Longest wait for a record: how soon a stop is noticed.
const TURN: Duration = Duration::from_millis(50);
/// Waits between tries of a write, doubling from the first to the last.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// The lag is shown at least this often.
const SHOW_AGAIN: Duration = Duration::from_millis(500);
/// While a write waits the ends of partitions are asked for so often.
const ENDS_EVERY: Duration = Duration::from_secs(2);
/// A partition that had to be let go, for another owner or in doubt, is claimed again after this, if the group still
/// gives it to us: by then whoever lost it has heard of it.
const RECLAIM_AFTER: Duration = Duration::from_secs(2);

/// The state of the loop.
pub struct Store {
    config: Config,
    metrics: SinkMetrics,
    service: Service,
    readiness: Readiness,
    writer: Box<dyn Writer>,
    member: Arc<GroupMember>,
    kafka: Kafka,
    tail: Tail,
    outbox: Outbox,
    raw_topic: String,
    mapping: Mapping,
    source: Source,
    owned: BTreeMap<i32, Owned>,
    batch: Batch,
    since: Option<Instant>,
    retry: Option<Retry>,
    /// Partitions to be claimed again, since when.
    lost: BTreeMap<i32, Instant>,
    /// The last claim has to be tried again.
    unclaimed: bool,
    /// Rows of one write at most, where a whole batch took too long.
    most: Option<usize>,
    /// Why the table refuses all rows, if it does.
    refused: Option<String>,
    /// Ends of the partitions, asked for while a write waits.
    ends: BTreeMap<i32, i64>,
    looked_at_ends: Instant,
    /// When the lag was shown last: also while a write waits it must be seen to grow.
    shown: Instant,
    /// Since when rejected rows wait to be told.
    untold: Option<Instant>,
    report: Report,
    slowness: Slowness,
}

/// A write that has to wait.
struct Retry {
    at: Instant,
    wait: Duration,
}

impl Store {
    /// Joins the consumer group.
    ///
    /// # Errors
    /// A [`Failure`] where the cluster or a setting forbids it.
    pub fn join(
        config: Config,
        kafka: Kafka,
        metrics: SinkMetrics,
        service: Service,
        readiness: Readiness,
        (writer, slowness): (Box<dyn Writer>, Slowness),
    ) -> Result<Self, Failure> {
        let failed = |error: kafka::Error| Failure::Runtime(error.sentence());
        let topics = config.kafka.topics();
        let tail = kafka.tail().map_err(failed)?;
        let topic_id = tail.topic_id(&topics.events).map_err(failed)?;
        let group = config.kafka.prefixed(&config.group);
        let member = kafka.member(&group, &[topics.events.as_str()], config.rebalance).map_err(failed)?;
        let dead_letters = topics.dead_letters_of(&topics.events);
        let reporter = kafka.reporter(&topics.control).map_err(failed)?;
        Ok(Self {
            report: Report::new(reporter, &config, jiff::Timestamp::now().as_millisecond()),
            slowness,
            metrics,
            service,
            readiness,
            writer,
            member: Arc::new(member),
            tail,
            outbox: Outbox::new(kafka.clone(), topics.events.clone(), dead_letters),
            kafka,
            raw_topic: topics.raw,
            mapping: Mapping::new(&config.event_types),
            source: Source { topic: topics.events, topic_id, owner: config.sink_name.clone() },
            owned: BTreeMap::new(),
            batch: Batch { topic_id, parts: BTreeMap::new() },
            since: None,
            retry: None,
            lost: BTreeMap::new(),
            unclaimed: false,
            most: None,
            refused: None,
            ends: BTreeMap::new(),
            looked_at_ends: Instant::now(),
            shown: Instant::now(),
            untold: None,
            config,
        })
    }

    /// Stores until shutdown. Blocks.
    ///
    /// # Errors
    /// Where a person must act.
    pub fn run(mut self, heartbeat: &Heartbeat) -> Result<(), Failure> {
        let member = Arc::clone(&self.member);
        self.show_readiness();
        while !self.service.shutdown.is_cancelled() {
            heartbeat.beat();
            match member.poll(self.patience()) {
                Polled::Record(record) => self.record(&record)?,
                Polled::Rebalance(rebalance) => self.rebalance(&rebalance)?,
                Polled::Failed(error) => self.failed(&error)?,
                Polled::Nothing => {}
            }
            if self.is_due(Instant::now()) {
                self.flush()?;
            }
            self.reclaim()?;
            if self.shown.elapsed() >= SHOW_AGAIN {
                self.show_lag();
                self.outbox.serve();
            }
            if self.report.is_due() {
                self.report(Moment::Heartbeat, &[]);
            }
            if self.untold.is_some_and(|since| since.elapsed() >= RECLAIM_AFTER) {
                self.tell_rejected();
            }
        }
        self.flush()?;
        self.commit_offsets(CommitMode::Wait);
        self.report(Moment::Leaving, &[]);
        Ok(())
    }

    fn patience(&self) -> Duration {
        if self.retry.is_some() {
            return TURN;
        }
        let batch = Duration::from_millis(self.config.batch_ms);
        self.since.map_or(TURN, |since| batch.saturating_sub(since.elapsed()).min(TURN))
    }

    fn is_due(&self, now: Instant) -> bool {
        if let Some(retry) = &self.retry {
            return now >= retry.at;
        }
        let most = if self.slowness.is_on() { slow::ROWS } else { self.config.batch_rows };
        let full = self.batch.len() >= usize::try_from(most).unwrap_or(usize::MAX);
        let old = self.since.is_some_and(|since| since.elapsed() >= Duration::from_millis(self.config.batch_ms));
        full || old
    }

    fn failed(&mut self, error: &ClientError) -> Result<(), Failure> {
        if error.is_gone() {
            // Claiming again compares the table with what the topic holds, and heals or halts. The client reads such a
            // partition no more until it is assigned anew, and tells of each by itself.
            let owned: Vec<i32> = self.owned.keys().copied().collect();
            if !owned.is_empty() {
                tracing::warn!(%error, "an offset was not there: joining again, to claim all partitions again");
                owned.into_iter().for_each(|partition| self.let_go(partition));
                answered(self.member.rejoin());
            }
            return Ok(());
        }
        if let Some(sentence) = error.fatal() {
            return Err(Failure::Runtime(sentence));
        }
        tracing::debug!(%error, "the consumer reports an error and goes on");
        Ok(())
    }

    /// Takes a record into the batch.
    fn record(&mut self, record: &BorrowedRecord<'_>) -> Result<(), Failure> {
        let (partition, value) = (record.partition(), record.value());
        let at = self.at(partition);
        self.metrics.group.read(&at, 1, value.len() as u64);
        let Some(owned) = self.owned.get_mut(&partition).filter(|owned| !owned.is_halted) else {
            return Ok(());
        };
        let headers = match EventHeaders::read(record) {
            Ok(headers) => headers,
            Err(rejection) => {
                tracing::warn!(partition, offset = record.offset(), %rejection, "a record without a position was set aside");
                self.metrics.dead_letters.with_label_values(&[rejection.reason.as_str()]).inc();
                if let Err(error) = self.outbox.tell_record(record.detach(), &rejection) {
                    tracing::warn!(error = error.sentence(), "its dead letter could not be written");
                }
                return Ok(());
            }
        };
        let expected = owned.next_seq.unwrap_or(headers.seq);
        if headers.seq < expected {
            let was_read = record.offset() < owned.next_offset;
            return if was_read { Ok(()) } else { self.repeated(partition, &headers, record.offset()) };
        }
        if headers.seq > expected && headers.base.is_none() {
            self.heal(partition, Hole { expected, found: headers.seq }, &headers, record.offset())?;
        }
        if self
            .owned
            .get(&partition)
            .is_none_or(|owned| owned.next_seq.is_some_and(|next| next < headers.seq) && headers.base.is_none())
        {
            // Halted, or healed in part: it is read again.
            return Ok(());
        }
        let fate = match Edit::from_json(value) {
            Ok(edit) => Fate::Store(Box::new(edit.into_owned())),
            Err(rejection) => Fate::Reject(rejection, value.to_vec()),
        };
        let EventHeaders { id: _, seq, raw_offset, raw_seq: _, received_at_ms, base } = headers;
        self.take(
            partition,
            Row { seq, offset: record.offset(), raw_offset, received_at_ms, is_base: base.is_some(), fate },
        );
        Ok(())
    }

    /// A record behind the position with a lower sequence number: a repeat only where the destination has it there.
    fn repeated(&mut self, partition: i32, headers: &EventHeaders<'_>, offset: i64) -> Result<(), Failure> {
        // It may be a repeat of what is only read.
        self.flush()?;
        let place = Place { partition, seq: headers.seq, id: &headers.id };
        match self.writer.holds(self.source.topic_id, place) {
            Ok(true) => self.metrics.repeats.inc(),
            Ok(false) => {
                tracing::error!(
                    partition,
                    offset,
                    seq = headers.seq,
                    id = %headers.id,
                    "the sequence of {} went back to a number that the table has no such edit for: the partition is halted",
                    self.source.topic
                );
                self.halt(partition);
            }
            Err(error) => {
                tracing::warn!(partition, %error, "cannot look for a repeated record yet");
                self.let_go(partition);
            }
        }
        Ok(())
    }

    fn take(&mut self, partition: i32, row: Row) {
        let Some(owned) = self.owned.get_mut(&partition).filter(|owned| !owned.is_halted) else { return };
        owned.next_seq = Some(row.seq + 1);
        owned.last_raw_offset = row.raw_offset;
        owned.last_received_at_ms = Some(row.received_at_ms);
        let part = self.batch.parts.entry(partition).or_default();
        part.epoch = owned.epoch;
        part.rows.push(row);
        self.since.get_or_insert_with(Instant::now);
    }

    /// Fills a hole from the raw topic, or halts the partition: nothing is stepped over.
    fn heal(&mut self, partition: i32, hole: Hole, behind: &EventHeaders<'_>, offset: i64) -> Result<(), Failure> {
        self.metrics.holes.inc();
        tracing::error!(
            partition,
            expected = hole.expected,
            found = hole.found,
            "a hole in the topic: healing from the raw one"
        );
        let from = self.owned.get(&partition).map_or(0, |owned| owned.last_raw_offset + 1);
        let topic = self.raw_topic.clone();
        let stretch = Stretch { topic: &topic, partition, from, until: behind.raw_offset, offset: offset - 1 };
        match heal::rows(&self.tail, &self.mapping, &stretch, hole) {
            Ok(Some(rows)) => {
                let is_whole = rows.last().is_some_and(|last| last.seq + 1 == hole.found);
                tracing::info!(partition, rows = rows.len(), is_whole, "healed");
                for row in rows {
                    self.take(partition, row);
                }
                if !is_whole {
                    // The rest follows when the partition is claimed again; the group is polled meanwhile.
                    self.flush()?;
                    self.let_go(partition);
                }
            }
            Ok(None) => {
                tracing::error!(partition, "the raw topic does not hold what is missing: the partition is halted");
                self.halt(partition);
            }
            Err(error) => {
                tracing::warn!(partition, error = error.sentence(), "cannot read the raw topic yet");
                self.let_go(partition);
            }
        }
        Ok(())
    }

    fn halt(&mut self, partition: i32) {
        if let Some(owned) = self.owned.get_mut(&partition) {
            owned.is_halted = true;
        }
        self.show_readiness();
    }

    /// Forgets what is in memory of a partition; it is claimed again, and read from where the table stands.
    fn let_go(&mut self, partition: i32) {
        self.batch.forget(&[partition]);
        self.owned.remove(&partition);
        self.lost.insert(partition, Instant::now());
    }

    fn at(&self, partition: i32) -> TopicPartition {
        TopicPartition { topic: self.source.topic.clone(), partition }
    }

    fn rebalance(&mut self, rebalance: &Rebalance) -> Result<(), Failure> {
        let started = Instant::now();
        match rebalance {
            Rebalance::Assigned(partitions) => {
                self.take_on(partitions)?;
                if self.retry.is_some() {
                    self.set_paused(true);
                }
                self.report(Moment::Assigned, partitions);
            }
            Rebalance::Revoked(partitions) => {
                self.report(Moment::Revoking, partitions);
                // What is read is stored before the next owner begins: less is read twice.
                let flushed = self.flush();
                self.commit_offsets(CommitMode::Send);
                self.give_back(partitions);
                self.report(Moment::Revoked, partitions);
                flushed?;
            }
            Rebalance::Lost(partitions) => {
                self.give_back(partitions);
                self.report(Moment::Lost, partitions);
            }
        }
        self.metrics.group.rebalanced(rebalance, started.elapsed());
        self.show_readiness();
        Ok(())
    }

    fn give_back(&mut self, partitions: &[TopicPartition]) {
        // The client remembers a pause, also for a partition that comes back later.
        answered(self.member.set_paused(partitions, false));
        self.forget(partitions);
        answered(self.member.release(partitions));
        if self.batch.is_empty() {
            self.end_retry();
        }
    }

    fn forget(&mut self, partitions: &[TopicPartition]) {
        let numbers: Vec<i32> = partitions.iter().map(|at| at.partition).collect();
        self.batch.forget(&numbers);
        self.owned.retain(|partition, _| !numbers.contains(partition));
        self.lost.retain(|partition, _| !numbers.contains(partition));
        self.unclaimed &= !self.lost.is_empty();
    }

    /// Claims what the group gave. What cannot be claimed yet is taken on paused, and claimed while polling goes on:
    /// the group must not lose us because the destination does not answer.
    fn take_on(&mut self, partitions: &[TopicPartition]) -> Result<(), Failure> {
        let numbers: Vec<i32> = partitions.iter().map(|at| at.partition).collect();
        // A rebalance that brings nothing asks nothing of the destination.
        let claimed = if numbers.is_empty() { Some(BTreeMap::new()) } else { self.claim(&numbers)? };
        match claimed {
            Some(claimed) => {
                let starts: Vec<(TopicPartition, i64)> =
                    claimed.into_iter().map(|(partition, start)| (self.at(partition), start)).collect();
                answered(self.member.assign(&starts));
            }
            None => {
                answered(self.member.assign_paused(partitions));
                self.lost.extend(numbers.into_iter().map(|partition| (partition, Instant::now())));
            }
        }
        Ok(())
    }

    /// Claims partitions and gives where each begins; `None` where that has to be tried again.
    fn claim(&mut self, partitions: &[i32]) -> Result<Option<BTreeMap<i32, i64>>, Failure> {
        match ownership::claim(&self.source, partitions, self.writer.as_mut(), &self.tail, &self.member) {
            Ok(claimed) => {
                let starts = claimed.iter().map(|(partition, (_, start))| (*partition, *start)).collect();
                self.owned.extend(claimed.into_iter().map(|(partition, (owned, _))| (partition, owned)));
                self.unclaimed = false;
                self.tell_rejected();
                Ok(Some(starts))
            }
            Err(ClaimError::Stop(failure)) => Err(failure),
            Err(ClaimError::Again(why)) => {
                tracing::warn!(why, "partitions not claimed yet; trying again");
                // A reader that missed a change of leaders would go on missing it for minutes.
                self.tail = self.kafka.tail().map_err(|error| Failure::Runtime(error.sentence()))?;
                self.unclaimed = true;
                Ok(None)
            }
        }
    }

    /// Claims again what had to be let go and the group still gives to us.
    fn reclaim(&mut self) -> Result<(), Failure> {
        let due: Vec<i32> = self
            .lost
            .iter()
            .filter(|(_, since)| since.elapsed() >= RECLAIM_AFTER)
            .map(|(partition, _)| *partition)
            .collect();
        if due.is_empty() {
            return Ok(());
        }
        match self.claim(&due)? {
            Some(starts) => {
                for (partition, start) in starts {
                    self.go_on_from(partition, start);
                }
            }
            None => self.lost.values_mut().for_each(|since| *since = Instant::now()),
        }
        self.show_readiness();
        Ok(())
    }

    /// Reads a partition that is claimed again from where the table stands.
    fn go_on_from(&mut self, partition: i32, start: i64) {
        let at = self.at(partition);
        let sought = self.member.seek(&at, start);
        match sought.and_then(|()| self.member.set_paused(std::slice::from_ref(&at), self.retry.is_some())) {
            Ok(()) => drop(self.lost.remove(&partition)),
            Err(error) => {
                // The client still has to take it on, or has given it up and is about to say so.
                tracing::warn!(partition, error = error.sentence(), "not set to its place yet; claiming it again");
                self.let_go(partition);
            }
        }
    }
}
