//! The blocking half of one partition, on a thread of its own: recover, commit.
//!
//! The writer moves between this thread and the mapper that owns the partition: one of them has it, never both.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use kafka::group::offsets_of;
use kafka::{Error, FencedWriter, TopicPartition};
use service::{CancellationToken, Failure, Heartbeat};

use crate::context::Context;
use crate::message::{Handle, MapperHandle, Message, Order, Reply};
use crate::recovery;

/// Wait before recovering again: a replica that lost the partition hears of it meanwhile.
const AFTER_DOUBT: Duration = Duration::from_millis(500);
/// A call to the cluster that lasts longer hangs: the service ends, and another replica takes over.
const HANG_LIMIT: Duration = Duration::from_secs(90);
/// Between two signs of life while there is nothing to do.
const BEAT: Duration = Duration::from_secs(1);
/// How soon a stop is noticed while waiting.
const STOP_POLL: Duration = Duration::from_millis(20);

/// Where the consumer begins to read a partition.
pub type Start = (TopicPartition, i64);

/// One partition's thread.
pub struct Committer {
    context: Context,
    at: TopicPartition,
    assignment: u64,
    mapper: MapperHandle,
    orders: Receiver<Order>,
    stop: CancellationToken,
}

impl Committer {
    /// Starts the thread. It recovers at once, and sends the first position to `starts` and everything to the mapper.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        context: &Context,
        (at, assignment): (TopicPartition, u64),
        mapper: MapperHandle,
        starts: Sender<Start>,
    ) -> Result<Handle, Failure> {
        let stop = context.service.shutdown.child_token();
        let (handle, orders) = Handle::new(stop.clone());
        let name = format!("commit-{}", at.partition);
        let tasks = context.service.tasks.clone();
        let committer = Self { context: context.clone(), at, assignment, mapper, orders, stop };
        tasks.spawn_thread(&name, HANG_LIMIT, move |heartbeat| {
            committer.run(starts, &heartbeat);
            Ok(())
        })?;
        Ok(handle)
    }

    fn run(self, starts: Sender<Start>, heartbeat: &Heartbeat) {
        self.recover(Some(starts), heartbeat);
        loop {
            heartbeat.beat();
            match self.orders.recv_timeout(BEAT) {
                Ok(Order::Commit(mut writer, offset)) => match self.commit(&mut writer, offset) {
                    Ok(()) => self.reply(Reply::Committed(writer)),
                    Err(doubt) => {
                        // Before the answer: nothing of it is used again.
                        drop(writer);
                        self.reply(Reply::Doubt(doubt));
                    }
                },
                Ok(Order::Recover) => {
                    self.pause(AFTER_DOUBT);
                    self.recover(None, heartbeat);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn reply(&self, reply: Reply) {
        self.mapper.send(Message::Reply(self.at.clone(), self.assignment, reply));
    }

    fn commit(&self, writer: &mut FencedWriter, offset: Option<(i64, String)>) -> Result<(), Error> {
        if let Some((offset, metadata)) = offset {
            let offsets = offsets_of(&[(self.at.clone(), offset, metadata)])?;
            writer.send_offsets(offsets, self.context.member.identity()?)?;
        }
        let started = Instant::now();
        writer.commit()?;
        self.context.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
        Ok(())
    }

    /// Recovers until it works or is no longer wanted. The first time the position goes to `starts`; later the
    /// consumer is set back to it.
    fn recover(&self, starts: Option<Sender<Start>>, heartbeat: &Heartbeat) {
        while !self.stop.is_cancelled() {
            heartbeat.beat();
            let recovered = recovery::recover(&self.context, &self.at).and_then(|recovered| {
                if starts.is_none() {
                    self.context.member.seek(&self.at, recovered.position.next_input)?;
                }
                Ok(recovered)
            });
            match recovered {
                Ok(recovered) => {
                    if let Some(starts) = starts {
                        // The group's loop is gone only when the service ends.
                        drop(starts.send((self.at.clone(), recovered.position.next_input)));
                    }
                    return self.reply(Reply::Recovered(recovered));
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
            std::thread::park_timeout(STOP_POLL);
        }
    }
}
