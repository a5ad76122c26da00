//! Membership of a consumer group: rebalances come as values, and offsets are given with the assignment.
//!
//! The callback only notes what happened. The loop that polls sees it as its next result, prepares (fences
//! writers, locks progress rows), and then answers with [`GroupMember::assign`] or [`GroupMember::release`].
//! Nothing heavy runs inside the client.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{
    BaseConsumer, CommitMode as Mode, Consumer as _, ConsumerContext, ConsumerGroupMetadata, RebalanceProtocol,
};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::util::Timeout;
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use crate::context::Context;
use crate::limits::ANSWER_LIMIT;
use crate::record::{BorrowedRecord, Record};
use crate::{ClientError, Error, Rebalancing, ffi};

/// A group that answers does so within seconds.
const SILENCE: Duration = Duration::from_secs(15);
/// What the end of a transaction takes in each partition's log.
const MARKER: i64 = 1;

/// A partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
}

/// What the group asks of this member; each must be answered before the group goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rebalance {
    /// Answer with [`GroupMember::assign`].
    Assigned(Vec<TopicPartition>),
    /// Answer with [`GroupMember::release`].
    Revoked(Vec<TopicPartition>),
    /// Others own them already: nothing can be finished. Answer with [`GroupMember::release`].
    Lost(Vec<TopicPartition>),
}

/// What one poll gave.
#[derive(Debug)]
pub enum Polled<'a> {
    /// A record of a partition that is read by the main loop.
    Record(BorrowedRecord<'a>),
    /// A rebalance to be answered.
    Rebalance(Rebalance),
    /// The client reports an error; it goes on by itself unless it is fatal.
    Failed(ClientError),
    /// Nothing within the time.
    Nothing,
}

/// Whether a commit of offsets is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitMode {
    /// Until the cluster has answered.
    Wait,
    /// It is sent; only what the client refuses at once is an error.
    Send,
}

/// The context of a group's consumer.
#[derive(Debug)]
pub struct GroupContext {
    inner: Context,
    pending: Mutex<VecDeque<Rebalance>>,
    closing: AtomicBool,
}

impl GroupContext {
    pub(crate) fn new(inner: Context) -> Self {
        Self { inner, pending: Mutex::default(), closing: AtomicBool::new(false) }
    }

    fn next(&self) -> Option<Rebalance> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

impl ClientContext for GroupContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.inner.log(level, facility, message);
    }

    fn stats(&self, statistics: Statistics) {
        self.inner.stats(statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.inner.error(error, reason);
    }
}

impl ConsumerContext for GroupContext {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, event: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let assigned = event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.closing.load(Ordering::SeqCst) {
            // Nobody reads any more: answer at once, or closing waits for ever.
            let answered = if assigned { Ok(()) } else { unassign(consumer, list) };
            if let Err(error) = answered {
                tracing::debug!(%error, "release at the end");
            }
            return;
        }
        let partitions = list
            .elements()
            .iter()
            .map(|element| TopicPartition { topic: element.topic().to_owned(), partition: element.partition() })
            .collect();
        let rebalance = if assigned {
            Rebalance::Assigned(partitions)
        } else if consumer.assignment_lost() {
            Rebalance::Lost(partitions)
        } else {
            Rebalance::Revoked(partitions)
        };
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).push_back(rebalance);
    }

    fn main_queue_min_poll_interval(&self) -> Timeout {
        Timeout::After(Duration::from_millis(100))
    }
}

fn unassign(consumer: &BaseConsumer<GroupContext>, list: &TopicPartitionList) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
        RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.unassign(),
    }
}

/// One partition's records, to be taken in batches.
pub type Queue = ffi::PartitionQueue<GroupContext>;

/// One member of a consumer group.
pub struct GroupMember {
    consumer: Arc<BaseConsumer<GroupContext>>,
    group: String,
    topics: Vec<String>,
    rebalancing: Rebalancing,
    joined: Instant,
    /// The group has answered, or its silence has been told.
    is_heard: AtomicBool,
}

impl std::fmt::Debug for GroupMember {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupMember").field("group", &self.group).finish_non_exhaustive()
    }
}

impl GroupMember {
    pub(crate) fn join(
        consumer: BaseConsumer<GroupContext>,
        group: &str,
        topics: &[&str],
        rebalancing: Rebalancing,
    ) -> Result<Self, Error> {
        consumer.subscribe(topics).map_err(Error::doubt(format!("join group {group}")))?;
        Ok(Self {
            consumer: Arc::new(consumer),
            group: group.to_owned(),
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
            rebalancing,
            joined: Instant::now(),
            is_heard: AtomicBool::new(false),
        })
    }

    /// The group's id.
    #[must_use]
    pub fn group(&self) -> &str {
        &self.group
    }

    /// The protocol in use.
    #[must_use]
    pub const fn rebalancing(&self) -> Rebalancing {
        self.rebalancing
    }

    /// The next record, rebalance or error; blocks up to `limit`.
    #[must_use]
    pub fn poll(&self, limit: Duration) -> Polled<'_> {
        let polled = self.polled(limit);
        match &polled {
            Polled::Rebalance(_) => self.is_heard.store(true, Ordering::Relaxed),
            Polled::Nothing => self.tell_silence(),
            Polled::Record(_) | Polled::Failed(_) => {}
        }
        polled
    }

    /// librdkafka says nothing where the cluster does not know KIP-848: it asks again for ever.
    fn tell_silence(&self) {
        let is_silent = self.rebalancing == Rebalancing::Consumer && self.joined.elapsed() > SILENCE;
        if is_silent && !self.is_heard.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                group = self.group,
                "the cluster gave no assignment so far: WIKI_REBALANCE=consumer needs one that offers KIP-848 (Apache \
                 Kafka 4.0 or later, without group.coordinator.rebalance.protocols=classic); cooperative works with all"
            );
        }
    }

    fn polled(&self, limit: Duration) -> Polled<'_> {
        if let Some(rebalance) = self.consumer.context().next() {
            return Polled::Rebalance(rebalance);
        }
        match self.consumer.poll(limit) {
            Some(Ok(message)) => Polled::Record(Record(message)),
            Some(Err(error)) => Polled::Failed(ClientError(error)),
            None => self.consumer.context().next().map_or(Polled::Nothing, Polled::Rebalance),
        }
    }

    /// Takes partitions on, each from its offset.
    ///
    /// # Errors
    /// [`Error::Doubt`] where the client refuses: leave the group and join again.
    pub fn assign(&self, starts: &[(TopicPartition, i64)]) -> Result<(), Error> {
        self.assign_at(starts.iter().map(|(at, offset)| (at, Offset::Offset(*offset))))
    }

    fn assign_at<'a>(&self, starts: impl Iterator<Item = (&'a TopicPartition, Offset)>) -> Result<(), Error> {
        let list = list_of(starts.map(|(at, offset)| (at, Some(offset))))?;
        let assigned = match self.consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => self.consumer.incremental_assign(&list),
            RebalanceProtocol::Eager | RebalanceProtocol::None => self.consumer.assign(&list),
        };
        assigned.map_err(Error::doubt("take partitions on"))
    }

    /// Takes partitions on without reading them, until [`GroupMember::seek`] and [`GroupMember::set_paused`] say where
    /// from: their ends stand for that meanwhile, since any other offset may be gone.
    ///
    /// # Errors
    /// As [`GroupMember::assign`].
    pub fn assign_paused(&self, partitions: &[TopicPartition]) -> Result<(), Error> {
        self.assign_at(partitions.iter().map(|at| (at, Offset::End)))?;
        self.set_paused(partitions, true)
    }

    /// Leaves the group and joins it again: the way back where the client has given a partition up.
    ///
    /// # Errors
    /// [`Error::Doubt`] where the client refuses.
    pub fn rejoin(&self) -> Result<(), Error> {
        self.consumer.unsubscribe();
        let topics: Vec<&str> = self.topics.iter().map(String::as_str).collect();
        self.consumer.subscribe(&topics).map_err(Error::doubt(format!("join group {} again", self.group)))
    }

    /// Gives partitions back.
    ///
    /// # Errors
    /// [`Error::Doubt`] where the client refuses: leave the group and join again.
    pub fn release(&self, partitions: &[TopicPartition]) -> Result<(), Error> {
        let list = list_of(partitions.iter().map(|at| (at, None)))?;
        unassign(&self.consumer, &list).map_err(Error::doubt("give partitions back"))
    }

    /// Gives a partition's records a queue of their own, before [`GroupMember::assign`]; `waked` is unparked when
    /// records come into the empty queue.
    #[must_use]
    pub fn queue(&self, at: &TopicPartition, waked: Thread) -> Option<Queue> {
        ffi::PartitionQueue::split(&self.consumer, &at.topic, at.partition, waked)
    }

    /// Stops and continues fetching a partition from an offset: the way back after a doubt.
    ///
    /// # Errors
    /// [`Error::Doubt`] where the partition is not ours any more.
    pub fn seek(&self, at: &TopicPartition, offset: i64) -> Result<(), Error> {
        self.consumer
            .seek(&at.topic, at.partition, Offset::Offset(offset), ANSWER_LIMIT)
            .map_err(Error::doubt(format!("go back to offset {offset} of {} partition {}", at.topic, at.partition)))
    }

    /// Stops or continues fetching partitions, without giving them back: polling goes on while a write waits.
    ///
    /// # Errors
    /// [`Error::Doubt`] where the client refuses.
    pub fn set_paused(&self, partitions: &[TopicPartition], paused: bool) -> Result<(), Error> {
        let list = list_of(partitions.iter().map(|at| (at, None)))?;
        let done = if paused { self.consumer.pause(&list) } else { self.consumer.resume(&list) };
        done.map_err(Error::doubt("pause or resume partitions"))
    }

    /// The committed offsets with their metadata, of this group. Blocks.
    ///
    /// # Errors
    /// [`Error::Doubt`] where the cluster does not answer.
    pub fn committed(&self, partitions: &[TopicPartition]) -> Result<Vec<(TopicPartition, i64, String)>, Error> {
        let list = list_of(partitions.iter().map(|at| (at, None)))?;
        let found =
            self.consumer.committed_offsets(list, ANSWER_LIMIT).map_err(Error::doubt("read committed offsets"))?;
        let mut committed = Vec::new();
        for element in found.elements() {
            element.error().map_err(Error::doubt("read committed offsets"))?;
            if let Offset::Offset(offset) = element.offset() {
                let at = TopicPartition { topic: element.topic().to_owned(), partition: element.partition() };
                committed.push((at, offset, element.metadata().to_owned()));
            }
        }
        Ok(committed)
    }

    /// Commits offsets with metadata.
    ///
    /// # Errors
    /// [`Error::Doubt`]; with [`CommitMode::Send`] only what the client refuses at once.
    pub fn commit(&self, offsets: &[(TopicPartition, i64, String)], mode: CommitMode) -> Result<(), Error> {
        let list = offsets_of(offsets)?;
        let mode = match mode {
            CommitMode::Wait => Mode::Sync,
            CommitMode::Send => Mode::Async,
        };
        self.consumer.commit(&list, mode).map_err(Error::doubt("commit offsets"))
    }

    /// What a transaction needs to commit offsets in this member's name.
    ///
    /// # Errors
    /// [`Error::Stop`] where the client has no group.
    pub fn identity(&self) -> Result<ConsumerGroupMetadata, Error> {
        self.consumer.group_metadata().ok_or_else(|| Error::Stop("the consumer has no group".to_owned()))
    }

    /// Who this member is in the group, as the client knows it now.
    #[must_use]
    pub fn membership(&self) -> ffi::Membership {
        ffi::membership(&self.consumer)
    }

    /// How many offsets lie between `next` and the partition's end as the last fetch saw it; 0 where that is at most
    /// the marker that ends a transaction, which is no record.
    #[must_use]
    pub fn behind(&self, at: &TopicPartition, next: i64) -> i64 {
        let left = ffi::cached_end(&self.consumer, &at.topic, at.partition).map_or(0, |end| end - next);
        if left <= MARKER { 0 } else { left }
    }
}

impl Drop for GroupMember {
    fn drop(&mut self) {
        self.consumer.context().closing.store(true, Ordering::SeqCst);
    }
}

fn list_of<'a>(
    partitions: impl Iterator<Item = (&'a TopicPartition, Option<Offset>)>,
) -> Result<TopicPartitionList, Error> {
    let mut list = TopicPartitionList::new();
    for (at, offset) in partitions {
        let mut element = list.add_partition(&at.topic, at.partition);
        if let Some(offset) = offset {
            element.set_offset(offset).map_err(Error::doubt("name an offset"))?;
        }
    }
    Ok(list)
}

/// A list of offsets with metadata, as the client wants it.
///
/// # Errors
/// [`Error::Doubt`] where an offset is out of its range.
pub fn offsets_of(offsets: &[(TopicPartition, i64, String)]) -> Result<TopicPartitionList, Error> {
    let mut list = TopicPartitionList::new();
    for (at, offset, metadata) in offsets {
        let mut element = list.add_partition(&at.topic, at.partition);
        element.set_offset(Offset::Offset(*offset)).map_err(Error::doubt("name an offset"))?;
        element.set_metadata(metadata);
    }
    Ok(list)
}

/// Goes on where the client refused an answer to the group: the group asks again.
pub fn answered(answer: Result<(), Error>) {
    if let Err(error) = answer {
        tracing::warn!(error = error.sentence(), "rebalance not answered; the group asks again");
    }
}
