//! Who may work: the consumer group of the raw topic assigns partitions, and each goes to a mapper.

use std::collections::BTreeSet;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use kafka::group::answered;
use kafka::{Polled, Rebalance, TopicPartition};
use service::{Failure, Heartbeat};

use crate::committer::{Committer, Start};
use crate::context::Context;
use crate::mapper::Mapper;
use crate::message::{Beginning, MapperHandle, Message};

/// Longest wait for the group's next event.
const POLL_TIMEOUT: Duration = Duration::from_millis(100);
/// What is open is committed before a partition is released, if that takes no longer; else its writer is dropped, and
/// the next owner fences it.
const END_LIMIT: Duration = Duration::from_secs(1);
/// A mapper comes round at least this often.
const MAPPER_LIMIT: Duration = Duration::from_secs(30);

/// The mappers, and the partitions that they have.
struct Assignment {
    mappers: Vec<MapperHandle>,
    owned: BTreeSet<TopicPartition>,
    /// Counts assignments.
    number: u64,
}

/// Follows the group until shutdown. Blocks.
///
/// # Errors
/// What ended the group's consumer for good.
pub fn follow(context: &Context, heartbeat: &Heartbeat) -> Result<(), Failure> {
    let mut assignment = Assignment { mappers: start_mappers(context)?, owned: BTreeSet::new(), number: 0 };
    let followed = assignment.follow(context, heartbeat);
    let all: Vec<TopicPartition> = assignment.owned.iter().cloned().collect();
    assignment.end(&all);
    followed
}

/// As many as there are processors, unless configured.
fn start_mappers(context: &Context) -> Result<Vec<MapperHandle>, Failure> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let count = if context.config.threads == 0 { processors } else { context.config.threads };
    let start = |index: usize| {
        let (sender, messages) = mpsc::channel();
        let (introduce, introduced) = mpsc::channel();
        let parts = context.clone();
        context.service.tasks.spawn_thread(&format!("map-{index}"), MAPPER_LIMIT, move |heartbeat| {
            drop(introduce.send(std::thread::current()));
            Mapper::new(parts, messages).run(&heartbeat)
        })?;
        let thread = introduced.recv().map_err(|_| Failure::Runtime("a mapper's thread ended at once".to_owned()))?;
        Ok(MapperHandle { messages: sender, thread })
    };
    (0..count).map(start).collect()
}

impl Assignment {
    /// Answers rebalances until shutdown.
    fn follow(&mut self, context: &Context, heartbeat: &Heartbeat) -> Result<(), Failure> {
        context.readiness.ok("standing by");
        while !context.service.shutdown.is_cancelled() {
            heartbeat.beat();
            let rebalance = match context.member.poll(POLL_TIMEOUT) {
                Polled::Rebalance(rebalance) => rebalance,
                Polled::Failed(error) => match error.fatal() {
                    Some(sentence) => return Err(Failure::Runtime(sentence)),
                    None => continue,
                },
                Polled::Record(_) | Polled::Nothing => continue,
            };
            let started = Instant::now();
            match &rebalance {
                Rebalance::Assigned(partitions) => self.begin(context, partitions)?,
                Rebalance::Revoked(partitions) => {
                    self.end(partitions);
                    answered(context.member.release(partitions));
                }
                Rebalance::Lost(partitions) => {
                    self.forget(partitions);
                    answered(context.member.release(partitions));
                }
            }
            context.metrics.group().rebalanced(&rebalance, started.elapsed());
            context.show_readiness();
        }
        Ok(())
    }

    fn mapper(&self, at: &TopicPartition) -> &MapperHandle {
        let index = usize::try_from(at.partition).unwrap_or(0) % self.mappers.len();
        &self.mappers[index]
    }

    /// Gives each partition to its mapper, waits until all positions are known, and lets the consumer begin there.
    fn begin(&mut self, context: &Context, partitions: &[TopicPartition]) -> Result<(), Failure> {
        let (starts, positions) = mpsc::channel();
        for at in partitions {
            self.number += 1;
            let mapper = self.mapper(at).clone();
            let queue = context
                .member
                .queue(at, mapper.thread.clone())
                .ok_or_else(|| Failure::Runtime(format!("no queue for {} partition {}", at.topic, at.partition)))?;
            let committer = Committer::start(context, (at.clone(), self.number), mapper.clone(), starts.clone())?;
            let beginning = Beginning { at: at.clone(), assignment: self.number, queue, committer };
            mapper.send(Message::Begin(Box::new(beginning)));
            self.owned.insert(at.clone());
        }
        drop(starts);
        // Ends when each committer has sent its position or has ended.
        let starts: Vec<Start> = positions.iter().collect();
        answered(context.member.assign(&starts));
        Ok(())
    }

    /// Ends revoked partitions: what is open is committed if that is quick, else left to the next owner.
    fn end(&mut self, partitions: &[TopicPartition]) {
        let (answer, ends) = mpsc::channel();
        for at in partitions {
            self.mapper(at).send(Message::End(at.clone(), answer.clone()));
        }
        drop(answer);
        let deadline = Instant::now() + END_LIMIT;
        let mut waiting: BTreeSet<&TopicPartition> = partitions.iter().collect();
        while let Ok(at) = ends.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            waiting.remove(&at);
        }
        let late: Vec<TopicPartition> = waiting.into_iter().cloned().collect();
        if !late.is_empty() {
            tracing::warn!(partitions = late.len(), "released without their last commit: the next owner decides on it");
        }
        self.forget(&late);
        self.owned.retain(|at| !partitions.contains(at));
    }

    fn forget(&mut self, partitions: &[TopicPartition]) {
        for at in partitions {
            self.mapper(at).send(Message::Forget(at.clone()));
            self.owned.remove(at);
        }
    }
}
