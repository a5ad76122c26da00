//! The blocking half of one partition, on a thread of its own: fence and recover, commit.
//!
//! The writer goes to and fro between this thread and the mapper that owns the partition: whoever holds it may use
//! it, and nobody else can.

use std::sync::mpsc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread::Thread;
use std::time::{Duration, Instant};

use kafka::group::offsets_of;
use kafka::{Error, FencedWriter, Headers, TopicPartition};
use rdkafka::message::OwnedMessage;
use schema::record::EventHeaders;
use service::{CancellationToken, Failure, Heartbeat};

use crate::assignment::Context;
use crate::mapper::{Letter, Reply};
use crate::progress::{Logs, Progress};

/// Wait before a partition begins anew: whoever lost it hears of it meanwhile.
const AFTER_DOUBT: Duration = Duration::from_millis(500);
/// A call to the cluster that does not come back for so long hangs: the service ends, and another replica takes over.
const HANG_LIMIT: Duration = Duration::from_secs(90);
/// Between two signs of life while there is nothing to do.
const BEAT: Duration = Duration::from_secs(1);
/// How soon a stop is noticed while waiting.
const TURN: Duration = Duration::from_millis(20);

/// What the mapper asks of it.
pub enum Order {
    /// Commit what is open; with these offsets, where nothing else would tell that the last inputs are done.
    Commit(FencedWriter, Option<(i64, String)>),
    /// The last commit was refused or a write failed: begin anew.
    Recover,
}

/// The mapper's end: its orders, and the way to stop.
pub struct Handle {
    orders: Sender<Order>,
    /// Ends recovering; what is being committed is not cut short.
    pub stop: CancellationToken,
}

impl Handle {
    /// Gives an order. A committer that is gone has told why already.
    pub fn order(&self, order: Order) {
        drop(self.orders.send(order));
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// One partition's thread.
pub struct Committer {
    context: Context,
    at: TopicPartition,
    /// Tells this stay of the partition from an earlier one.
    stay: u64,
    letters: Sender<Letter>,
    mapper: Thread,
    orders: Receiver<Order>,
    stop: CancellationToken,
}

impl Committer {
    /// Starts the thread; it recovers at once, tells `starts` the first position and the mapper everything.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        context: &Context,
        stay: (TopicPartition, u64),
        mapper: (Sender<Letter>, Thread),
        starts: Sender<(TopicPartition, i64)>,
    ) -> Result<Handle, Failure> {
        let (sender, orders) = mpsc::channel();
        let stop = context.service.shutdown.child_token();
        let (at, stay) = stay;
        let name = format!("commit-{}", at.partition);
        let tasks = context.service.tasks.clone();
        let committer = Self {
            context: context.clone(),
            at,
            stay,
            letters: mapper.0,
            mapper: mapper.1,
            orders,
            stop: stop.clone(),
        };
        tasks.spawn_thread(&name, HANG_LIMIT, move |heartbeat| {
            committer.run(starts, &heartbeat);
            Ok(())
        })?;
        Ok(Handle { orders: sender, stop })
    }

    fn run(self, starts: Sender<(TopicPartition, i64)>, heartbeat: &Heartbeat) {
        self.recover(Some(starts), heartbeat);
        loop {
            heartbeat.beat();
            let order = match self.orders.recv_timeout(BEAT) {
                Ok(order) => order,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            match order {
                Order::Commit(mut writer, offsets) => match self.commit(&mut writer, offsets) {
                    Ok(()) => self.reply(Reply::Committed(writer)),
                    Err(doubt) => {
                        // The writer is dropped: nothing of it is used again.
                        drop(writer);
                        self.reply(Reply::Doubt(doubt));
                    }
                },
                Order::Recover => {
                    self.pause(AFTER_DOUBT);
                    self.recover(None, heartbeat);
                }
            }
        }
    }

    fn reply(&self, reply: Reply) {
        // A mapper that is gone needs no answer.
        drop(self.letters.send(Letter::Reply { at: self.at.clone(), stay: self.stay, reply }));
        self.mapper.unpark();
    }

    fn commit(&self, writer: &mut FencedWriter, offsets: Option<(i64, String)>) -> Result<(), Error> {
        if let Some((offset, metadata)) = offsets {
            let offsets = offsets_of(&[(self.at.clone(), offset, metadata)])?;
            writer.send_offsets(offsets, self.context.member.identity()?)?;
        }
        let started = Instant::now();
        writer.commit()?;
        self.context.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
        Ok(())
    }

    /// Recovers until it works or is not wanted any more. `starts` is told at the first time; later the consumer is
    /// set back to the position.
    fn recover(&self, starts: Option<Sender<(TopicPartition, i64)>>, heartbeat: &Heartbeat) {
        while !self.stop.is_cancelled() {
            heartbeat.beat();
            let recovered = self.durable().and_then(|(writer, progress)| {
                if starts.is_none() {
                    self.context.member.seek(&self.at, progress.next_input)?;
                }
                Ok((writer, progress))
            });
            match recovered {
                Ok((writer, progress)) => {
                    if let Some(starts) = starts {
                        // The group's loop is gone only when everything ends.
                        drop(starts.send((self.at.clone(), progress.next_input)));
                    }
                    return self.reply(Reply::Recovered(writer, progress));
                }
                Err(Error::Stop(sentence)) => return self.reply(Reply::Stop(sentence)),
                Err(doubt @ (Error::Doubt { .. } | Error::TimedOut { .. })) => {
                    tracing::warn!(partition = self.at.partition, error = doubt.sentence(), "not recovered yet");
                    self.pause(AFTER_DOUBT);
                }
            }
        }
    }

    /// Waits, but no longer than until the stop.
    fn pause(&self, limit: Duration) {
        let until = Instant::now() + limit;
        while Instant::now() < until && !self.stop.is_cancelled() {
            std::thread::park_timeout(TURN);
        }
    }

    /// Fences the predecessor, then reads how far it came.
    fn durable(&self) -> Result<(FencedWriter, Progress), Error> {
        let TopicPartition { topic, partition } = &self.at;
        let config = &self.context.config;
        let events_topic = &self.context.topics.events;
        let id = config.kafka.prefixed(&format!("wiki-enricher-{topic}-{partition}"));
        let writer = self.context.kafka.fenced_writer(&id)?;
        let tail = self.context.kafka.tail()?;
        let (raw, events) = (tail.partitions(topic)?, tail.partitions(events_topic)?);
        if raw != events {
            return Err(Error::Stop(format!(
                "{topic} has {raw:?} partitions and {events_topic} has {events:?}: give both the same number"
            )));
        }
        // What others wrote there is stepped over.
        let is_own = |record: &OwnedMessage| EventHeaders::read(&Headers(record)).is_ok();
        let last = tail.last_own_records(events_topic, &[*partition], is_own)?.remove(partition);
        let source = last.as_ref().map(Headers);
        let last = source.as_ref().and_then(|source| EventHeaders::read(source).ok());
        let committed = self.context.member.committed(std::slice::from_ref(&self.at))?;
        let committed = committed.first().map(|(_, offset, metadata)| (*offset, metadata.as_str()));
        let bounds = tail.bounds(topic, *partition)?;
        let output_end = tail.bounds(events_topic, *partition)?.end;
        let progress = Progress::recover(last.as_ref(), committed, Logs { input_start: bounds.start, output_end });
        if progress.next_input > bounds.end {
            return Err(Error::Stop(format!(
                "{topic} partition {partition} ends at offset {}, and the next one to map is {}: the topic was cut or made \
                 anew; restore it, or give the pipeline a fresh WIKI_TOPIC_PREFIX",
                bounds.end, progress.next_input
            )));
        }
        if progress.is_base {
            tracing::warn!(
                partition,
                seq = progress.next_seq,
                "{events_topic} was emptied and no record says where its sequence ended: it continues at the log's end, and \
                 what the raw topic holds is mapped again"
            );
        }
        if progress.expected_raw_seq.is_none() {
            tracing::info!(partition, offset = progress.next_input, "first met on an aged topic: begins at its start");
        }
        Ok((writer, progress))
    }
}
