//! A thread that maps the records of several partitions. It never waits for Kafka: what blocks is the committers'.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::time::{Duration, Instant};

use kafka::{Error, TopicPartition};
use service::{Failure, Heartbeat};

use crate::context::Context;
use crate::message::{Message, Reply};
use crate::worker::{PartitionWorker, Progress};

/// Longest sleep: messages, records and due commits wake it earlier.
const TICK: Duration = Duration::from_millis(500);

/// The partitions of one thread.
pub struct Mapper {
    context: Context,
    messages: Receiver<Message>,
    workers: BTreeMap<TopicPartition, PartitionWorker>,
    /// Those that were revoked, and who waits for them.
    ending: BTreeMap<TopicPartition, Sender<TopicPartition>>,
}

impl Mapper {
    /// A mapper without partitions.
    #[must_use]
    pub const fn new(context: Context, messages: Receiver<Message>) -> Self {
        Self { context, messages, workers: BTreeMap::new(), ending: BTreeMap::new() }
    }

    /// Maps until no message can come any more.
    ///
    /// # Errors
    /// Where a person must act.
    pub fn run(mut self, heartbeat: &Heartbeat) -> Result<(), Failure> {
        loop {
            heartbeat.beat();
            if !self.read_messages()? {
                return Ok(());
            }
            let mut has_worked = false;
            for (_, worker) in self.workers.iter_mut().filter(|(at, _)| !self.ending.contains_key(at)) {
                has_worked |= worker.advance().map_err(stop)? == Progress::Worked;
            }
            if !has_worked {
                std::thread::park_timeout(self.patience(Instant::now()));
            }
        }
    }

    fn patience(&self, now: Instant) -> Duration {
        let due = self.workers.values().filter_map(PartitionWorker::due).min();
        due.map_or(TICK, |due| due.saturating_duration_since(now).min(TICK))
    }

    /// False when no message can come any more.
    fn read_messages(&mut self) -> Result<bool, Failure> {
        loop {
            match self.messages.try_recv() {
                Ok(message) => self.read(message)?,
                Err(TryRecvError::Empty) => return Ok(true),
                // The group's loop ended, and so did every committer.
                Err(TryRecvError::Disconnected) => return Ok(false),
            }
        }
    }

    fn read(&mut self, message: Message) -> Result<(), Failure> {
        match message {
            Message::Begin(beginning) => {
                let at = beginning.at.clone();
                self.workers.insert(at, PartitionWorker::new(&self.context, *beginning));
            }
            Message::End(at, answer) => self.revoke(at, answer),
            Message::Forget(at) => {
                self.workers.remove(&at);
                self.ending.remove(&at);
            }
            Message::Reply(at, assignment, reply) => self.replied(&at, assignment, reply)?,
        }
        Ok(())
    }

    fn revoke(&mut self, at: TopicPartition, answer: Sender<TopicPartition>) {
        let Some(worker) = self.workers.get_mut(&at) else {
            drop(answer.send(at));
            return;
        };
        worker.revoke();
        self.ending.insert(at.clone(), answer);
        self.end_if_settled(&at);
    }

    fn end_if_settled(&mut self, at: &TopicPartition) {
        if !self.workers.get(at).is_some_and(PartitionWorker::is_settled) {
            return;
        }
        if let Some(answer) = self.ending.remove(at)
            && let Some(mut worker) = self.workers.remove(at)
        {
            worker.end();
            drop(answer.send(at.clone()));
        }
    }

    fn replied(&mut self, at: &TopicPartition, assignment: u64, reply: Reply) -> Result<(), Failure> {
        let Some(worker) = self.workers.get_mut(at).filter(|worker| worker.assignment == assignment) else {
            // A worker that is gone needs no writer: the next owner fences it, and it is dropped here.
            if let Reply::Doubt(doubt) = reply {
                let (partition, error) = (at.partition, doubt.sentence());
                tracing::warn!(
                    partition,
                    error,
                    "a commit was refused after the partition was lost: its next owner decides"
                );
            }
            return Ok(());
        };
        match reply {
            Reply::Recovered(recovered) => worker.recovered(recovered),
            Reply::Committed(writer) => worker.committed(writer),
            Reply::Doubt(doubt) => worker.doubted(&doubt),
            Reply::Stop(sentence) => return Err(Failure::Runtime(sentence)),
        }
        self.end_if_settled(at);
        Ok(())
    }
}

fn stop(error: Error) -> Failure {
    Failure::Runtime(error.sentence())
}
