//! A transactional producer that a successor fences.
//!
//! There is no abort: librdkafka's late EndTxn could strike the next transaction of the same producer
//! (docs/correctness.md). Any error leaves the writer unusable; its owner drops it and starts a new one, whose
//! `init_transactions` makes whatever is still under way harmless.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer as _};

use crate::context::Context;
use crate::offset_sender::OffsetSender;
use crate::{Error, ffi};

/// How long starting may take: an open transaction of the predecessor is aborted meanwhile.
const INIT_LIMIT: Duration = Duration::from_secs(30);
/// How long a commit may take before it counts as unknown.
const COMMIT_LIMIT: Duration = Duration::from_secs(10);
/// How long a full queue may stay full.
const QUEUE_LIMIT: Duration = Duration::from_secs(8);
/// Between two looks at a full queue.
const QUEUE_PAUSE: Duration = Duration::from_millis(5);

/// A record to be written.
#[derive(Debug)]
pub struct Outgoing<'a> {
    /// Topic.
    pub topic: &'a str,
    /// Partition, computed by us.
    pub partition: i32,
    /// Key.
    pub key: &'a [u8],
    /// Value.
    pub value: &'a [u8],
    /// Headers; a null value is kept.
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
}

/// Whether there was room for a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queued {
    /// It is on its way.
    Taken,
    /// The queue is full: commit what is open, or try again a little later.
    Full,
}

fn refused(record: &Outgoing<'_>, code: RDKafkaErrorCode) -> Error {
    let doing = format!("write to {} partition {}", record.topic, record.partition);
    Error::Doubt { doing, source: KafkaError::MessageProduction(code) }
}

/// The one writer of its transactional id.
pub struct FencedWriter {
    // Before the producer: they are dropped in this order.
    topics: Vec<(String, ffi::TopicHandle)>,
    producer: Arc<BaseProducer<Context>>,
    offsets: Option<OffsetSender>,
    transactional_id: String,
    is_open: bool,
    waited_for_queue: Duration,
}

impl std::fmt::Debug for FencedWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FencedWriter").field("transactional_id", &self.transactional_id).finish_non_exhaustive()
    }
}

impl FencedWriter {
    pub(crate) fn start(producer: BaseProducer<Context>, transactional_id: &str) -> Result<Self, Error> {
        producer.init_transactions(INIT_LIMIT).map_err(Error::doubt(format!("start writer {transactional_id}")))?;
        Ok(Self {
            topics: Vec::new(),
            producer: Arc::new(producer),
            offsets: None,
            transactional_id: transactional_id.to_owned(),
            is_open: false,
            waited_for_queue: Duration::ZERO,
        })
    }

    /// Whether a transaction is open.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.is_open
    }

    /// Opens a transaction, unless one is open.
    ///
    /// # Errors
    /// [`Error::Doubt`]: drop the writer.
    pub fn begin(&mut self) -> Result<(), Error> {
        if !self.is_open {
            self.producer.begin_transaction().map_err(Error::doubt("begin a transaction"))?;
            self.is_open = true;
        }
        Ok(())
    }

    /// Writes a record within the open transaction. Waits while the queue is full.
    ///
    /// # Errors
    /// [`Error::Doubt`]: drop the writer.
    pub fn send(&mut self, record: &Outgoing<'_>) -> Result<(), Error> {
        let started = Instant::now();
        while self.try_send(record)? == Queued::Full {
            if started.elapsed() >= QUEUE_LIMIT {
                return Err(refused(record, RDKafkaErrorCode::QueueFull));
            }
            self.producer.poll(QUEUE_PAUSE);
            self.waited_for_queue += QUEUE_PAUSE;
        }
        Ok(())
    }

    /// Writes a record within the open transaction, if there is room for it.
    ///
    /// # Errors
    /// [`Error::Doubt`]: drop the writer.
    pub fn try_send(&mut self, record: &Outgoing<'_>) -> Result<Queued, Error> {
        let known = self.topics.iter().position(|(name, _)| name == record.topic);
        let index = known.map_or_else(|| self.learn(record), Ok)?;
        match ffi::produce(&self.producer, &self.topics[index].1, record) {
            Ok(()) => Ok(Queued::Taken),
            Err(RDKafkaErrorCode::QueueFull) => Ok(Queued::Full),
            Err(code) => Err(refused(record, code)),
        }
    }

    fn learn(&mut self, record: &Outgoing<'_>) -> Result<usize, Error> {
        let handle = ffi::TopicHandle::new(&self.producer, record.topic)
            .ok_or_else(|| refused(record, RDKafkaErrorCode::InvalidTopic))?;
        self.topics.push((record.topic.to_owned(), handle));
        Ok(self.topics.len() - 1)
    }

    /// Writes a group's offsets within the open transaction; refused if the member lost its place meanwhile. Blocks.
    ///
    /// # Errors
    /// [`Error::Doubt`] or [`Error::TimedOut`]: drop the writer.
    pub fn send_offsets(&mut self, offsets: TopicPartitionList, member: ConsumerGroupMetadata) -> Result<(), Error> {
        let sender = match &mut self.offsets {
            Some(sender) => sender,
            none => none.insert(OffsetSender::start(&self.producer)?),
        };
        sender.send(offsets, member, COMMIT_LIMIT)
    }

    /// Commits the open transaction, if one is open. Blocks.
    ///
    /// # Errors
    /// [`Error::Doubt`]: it may be committed or not; drop the writer and read what stands.
    pub fn commit(&mut self) -> Result<(), Error> {
        if self.is_open {
            ffi::commit_transaction(&self.producer, COMMIT_LIMIT).map_err(Error::doubt("commit a transaction"))?;
            self.is_open = false;
            // Serves errors and statistics; with delivery reports for errors only there is nothing else.
            self.producer.poll(Duration::ZERO);
        }
        Ok(())
    }

    /// Serves the client's statistics and errors while nothing is written: they would pile up otherwise.
    pub fn serve(&self) {
        self.producer.poll(Duration::ZERO);
    }

    /// How long this writer has waited for room in its queue; counted from 0 again.
    pub const fn take_waited(&mut self) -> Duration {
        std::mem::replace(&mut self.waited_for_queue, Duration::ZERO)
    }
}
