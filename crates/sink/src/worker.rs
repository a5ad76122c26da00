//! The loop: read, judge, write, commit. Here the rooms meet.

mod lag;
mod partitions;
mod repairing;
mod status;
mod writing;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka::group::answered;
use kafka::{BorrowedRecord, ClientError, CommitMode, GroupMember, Kafka, Polled, Tail};
use schema::Mapping;
use schema::control::Moment;
use service::health::Readiness;
use service::{Failure, Heartbeat, Service};

use crate::Config;
use crate::batch::Row;
use crate::context::{Context, Source};
use crate::dead_letters::{DeadLetters, Outbox};
use crate::destination::Destination;
use crate::metrics::SinkMetrics;
use crate::output::Output;
use crate::ownership::Partitions;
use crate::report::Report;
use crate::slow::Slowness;
use crate::step::{self, Input, Outcome};
use lag::Lag;

/// Longest wait for a record: how soon a stop is noticed.
const POLL_TIMEOUT: Duration = Duration::from_millis(50);
/// The same while a write is under way: how soon its end is noticed.
const POLL_WHILE_WRITING: Duration = Duration::from_millis(2);
/// What is read is stored before a partition is released, if that takes no longer; else the write is
/// left to itself, and its epoch decides on it.
const SETTLE_LIMIT: Duration = Duration::from_secs(1);
/// The same at the end of the service.
const END_LIMIT: Duration = Duration::from_secs(4);
/// Records that are taken before all else is looked at again.
const TURN_RECORDS: usize = 500;

/// The state of the loop.
pub struct Worker {
    context: Context,
    tail: Tail,
    destination: Destination,
    partitions: Partitions,
    output: Output,
    dead_letters: DeadLetters,
    lag: Lag,
    report: Report,
    /// Not counted yet, by partition.
    reads: BTreeMap<i32, Reads>,
    /// Fetching is stopped for a write that waits.
    is_paused: bool,
}

/// What was read of a partition.
#[derive(Clone, Copy, Default)]
struct Reads {
    records: u64,
    bytes: u64,
}

/// What a worker is made of.
#[derive(Debug)]
pub struct Parts {
    /// Settings.
    pub config: Config,
    /// Makes Kafka clients.
    pub kafka: Kafka,
    /// What is counted.
    pub metrics: SinkMetrics,
    /// Tasks, health and shutdown of the process.
    pub service: Service,
    /// Whether every assigned partition is stored.
    pub readiness: Readiness,
    /// Whether this sink is slow on purpose.
    pub slowness: Slowness,
}

impl Worker {
    /// Joins the consumer group.
    ///
    /// # Errors
    /// A [`Failure`] where the cluster or a setting forbids it.
    pub fn join(parts: Parts, destination: Destination) -> Result<Self, Failure> {
        let Parts { config, kafka, metrics, service, readiness, slowness } = parts;
        let failed = |error: kafka::Error| Failure::Runtime(error.sentence());
        let topics = config.kafka.topics();
        let tail = kafka.tail().map_err(failed)?;
        let topic_id = tail.topic_id(&topics.events).map_err(failed)?;
        let group = config.kafka.prefixed(&config.group);
        let member = kafka.member(&group, &[topics.events.as_str()], config.rebalance).map_err(failed)?;
        let outbox = Outbox::new(kafka.clone(), topics.events.clone(), topics.dead_letters_of(&topics.events));
        let reporter = kafka.reporter(&topics.control).map_err(failed)?;
        let metrics = Arc::new(metrics);
        let context = Context {
            kafka,
            member: Arc::new(member),
            source: Source { topic: topics.events, topic_id, owner: config.sink_name.clone() },
            raw_topic: topics.raw,
            mapping: Mapping::new(&config.event_types),
            metrics: Arc::clone(&metrics),
            service,
            readiness,
            slowness: slowness.clone(),
            config,
        };
        Ok(Self {
            report: Report::new(reporter, &context.config, jiff::Timestamp::now().as_millisecond()),
            output: Output::new(&context.config, topic_id, metrics, slowness),
            tail,
            destination,
            partitions: Partitions::default(),
            dead_letters: DeadLetters::new(outbox),
            lag: Lag::new(),
            reads: BTreeMap::new(),
            is_paused: false,
            context,
        })
    }

    /// Stores until shutdown. Blocks.
    ///
    /// # Errors
    /// Where a person must act.
    pub fn run(mut self, heartbeat: &Heartbeat) -> Result<(), Failure> {
        let member = Arc::clone(&self.context.member);
        self.show_readiness();
        while !self.context.service.shutdown.is_cancelled() {
            heartbeat.beat();
            if self.is_waiting_for_room() {
                self.finish_write(POLL_TIMEOUT)?;
                continue;
            }
            self.read(&member)?;
            self.finish_write(Duration::ZERO)?;
            if self.output.is_due(Instant::now()) {
                self.output.start(&self.destination);
            }
            self.pause_if_blocked();
            self.claim_what_waits()?;
            self.show();
        }
        self.settle(END_LIMIT)?;
        self.commit_offsets(CommitMode::Wait);
        self.report(Moment::Leaving, &[]);
        Ok(())
    }

    /// Waits for a record, and takes those that are there behind it: all else is looked at once for many of them.
    fn read(&mut self, member: &GroupMember) -> Result<(), Failure> {
        let mut patience = self.patience();
        for _ in 0..TURN_RECORDS {
            match member.poll(patience) {
                Polled::Record(record) => self.record(&record)?,
                Polled::Rebalance(rebalance) => {
                    self.show_reads();
                    self.rebalance(&rebalance)?;
                    break;
                }
                Polled::Failed(error) => {
                    self.failed(&error)?;
                    break;
                }
                Polled::Nothing => break,
            }
            if self.output.is_full() {
                break;
            }
            patience = Duration::ZERO;
        }
        self.show_reads();
        Ok(())
    }

    /// Counts what was read.
    fn show_reads(&mut self) {
        for (partition, Reads { records, bytes }) in std::mem::take(&mut self.reads) {
            self.context.metrics.group().read(&self.context.at(partition), records, bytes);
        }
    }

    /// A whole batch waits for the end of a write that is young: the next record has no room yet.
    fn is_waiting_for_room(&self) -> bool {
        !self.is_paused && self.output.is_writing() && self.output.is_full() && !self.output.is_blocked()
    }

    fn patience(&self) -> Duration {
        let limit = if self.output.is_writing() && !self.is_paused { POLL_WHILE_WRITING } else { POLL_TIMEOUT };
        self.output.patience(limit)
    }

    fn failed(&mut self, error: &ClientError) -> Result<(), Failure> {
        if error.is_gone() {
            // Claiming again compares the table with what the topic holds, and repairs or halts. The client reads such a
            // partition no more until it is assigned again, and tells of each by itself.
            let owned = self.partitions.numbers();
            if !owned.is_empty() {
                tracing::warn!(%error, "an offset was not there: joining again, to claim all partitions again");
                owned.into_iter().for_each(|partition| self.drop_until_claimed(partition));
                answered(self.context.member.rejoin());
            }
            return Ok(());
        }
        if let Some(sentence) = error.fatal() {
            return Err(Failure::Runtime(sentence));
        }
        tracing::debug!(%error, "the consumer reports an error and continues");
        Ok(())
    }

    /// Judges one record, and does what it needs.
    fn record(&mut self, record: &BorrowedRecord<'_>) -> Result<(), Failure> {
        let partition = record.partition();
        let reads = self.reads.entry(partition).or_default();
        reads.records += 1;
        reads.bytes += record.value().len() as u64;
        let input = Input::read(record.offset(), record.value(), record);
        match step::judge(self.partitions.get(partition), &input) {
            Outcome::Take(row) => self.take(partition, row),
            Outcome::Ignore => {}
            Outcome::Foreign(rejection) => self.foreign(record, rejection),
            Outcome::Repeat(headers) => self.repeated(partition, headers, record.offset())?,
            Outcome::Hole(hole, headers) => {
                self.repair(partition, hole, headers, record.offset())?;
                // Halted, or repaired in part, it is read again.
                if let Outcome::Take(row) = step::judge(self.partitions.get(partition), &input) {
                    self.take(partition, row);
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, partition: i32, row: Row) {
        let Some(owned) = self.partitions.get_mut(partition).filter(|owned| !owned.is_halted) else { return };
        owned.take(&row);
        let epoch = owned.epoch;
        self.output.take(partition, epoch, row);
    }
}
