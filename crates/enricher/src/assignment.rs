//! The consumer group of the raw topic: partitions come and go, and are handed to the mappers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::Thread;
use std::time::{Duration, Instant};

use kafka::group::answered;
use kafka::{GroupMember, Kafka, Polled, Rebalance, TopicPartition};
use schema::{Mapping, Topics};
use service::health::Readiness;
use service::{Failure, Heartbeat, Service};

use crate::Config;
use crate::committer::Committer;
use crate::lane::Lane;
use crate::mapper::{Letter, Mapper};
use crate::metrics::EnricherMetrics;

/// One turn of the loop.
const TURN: Duration = Duration::from_millis(100);
/// What is open is committed before a partition is given back, if that takes no longer; else its writer is dropped,
/// and the next owner fences it.
const LEAVE_LIMIT: Duration = Duration::from_secs(1);
/// A mapper turns at least this often.
const MAPPER_LIMIT: Duration = Duration::from_secs(30);

/// What all partitions share; cheap to clone.
#[derive(Clone, Debug)]
pub struct Context {
    /// Flags.
    pub config: Config,
    /// Clients.
    pub kafka: Kafka,
    /// Topic names.
    pub topics: Arc<Topics>,
    /// Which changes become edits, and how.
    pub mapping: Arc<Mapping>,
    /// Our place in the consumer group.
    pub member: Arc<GroupMember>,
    /// Metrics.
    pub metrics: Arc<EnricherMetrics>,
    /// The frame.
    pub service: Service,
    /// Whether partitions are worked on.
    pub readiness: Readiness,
    /// Partitions that a hole in the input stopped.
    pub stopped: Arc<AtomicUsize>,
}

impl Context {
    /// Ready unless a hole stopped a partition: that is for a person to see.
    pub fn show_readiness(&self) {
        let stopped = self.stopped.load(Ordering::SeqCst);
        self.metrics.halted.set(i64::try_from(stopped).unwrap_or(i64::MAX));
        match stopped {
            0 => self.readiness.ok("partitions are worked on"),
            stopped => self.readiness.failing(&format!("a hole in the input stopped {stopped} partitions")),
        }
    }
}

/// A mapper's letter box, and its thread, which sleeps when it has nothing to do.
type LetterBox = (Sender<Letter>, Thread);

/// The mappers and what they were given.
struct Assignment {
    mappers: Vec<LetterBox>,
    owned: BTreeSet<TopicPartition>,
    stays: u64,
}

/// Follows the group until shutdown. Blocks.
///
/// # Errors
/// What ended the group's consumer for good.
pub fn follow(context: &Context, heartbeat: &Heartbeat) -> Result<(), Failure> {
    let mut assignment = Assignment { mappers: start_mappers(context)?, owned: BTreeSet::new(), stays: 0 };
    let followed = assignment.follow(context, heartbeat);
    let all: Vec<TopicPartition> = assignment.owned.iter().cloned().collect();
    assignment.end(&all);
    followed
}

/// Half as many as there are processors, unless configured: librdkafka's threads need the other half.
fn start_mappers(context: &Context) -> Result<Vec<LetterBox>, Failure> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let count = if context.config.threads == 0 { processors.div_ceil(2) } else { context.config.threads };
    let start = |index: usize| {
        let (sender, letters) = mpsc::channel();
        let (introduce, introduced) = mpsc::channel();
        context.service.tasks.spawn_thread(&format!("map-{index}"), MAPPER_LIMIT, move |heartbeat| {
            drop(introduce.send(std::thread::current()));
            Mapper::new(letters).run(&heartbeat)
        })?;
        let thread = introduced.recv().map_err(|_| Failure::Runtime("a mapper's thread ended at once".to_owned()))?;
        Ok((sender, thread))
    };
    (0..count).map(start).collect()
}

fn send((letters, thread): &LetterBox, letter: Letter) {
    // A mapper that ended has ended the service already.
    drop(letters.send(letter));
    thread.unpark();
}

impl Assignment {
    /// Answers rebalances until shutdown.
    fn follow(&mut self, context: &Context, heartbeat: &Heartbeat) -> Result<(), Failure> {
        context.readiness.ok("standing by");
        while !context.service.shutdown.is_cancelled() {
            heartbeat.beat();
            let polled = context.member.poll(TURN);
            if let Polled::Failed(error) = &polled
                && let Some(sentence) = kafka::group::fatal(error)
            {
                return Err(Failure::Runtime(sentence));
            }
            let Polled::Rebalance(rebalance) = polled else { continue };
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

    fn mapper(&self, at: &TopicPartition) -> &LetterBox {
        let index = usize::try_from(at.partition).unwrap_or(0) % self.mappers.len();
        &self.mappers[index]
    }

    /// Gives each partition to its mapper, waits until all know their position, and takes them on from there.
    fn begin(&mut self, context: &Context, partitions: &[TopicPartition]) -> Result<(), Failure> {
        let (starts, positions) = mpsc::channel();
        for at in partitions {
            self.stays += 1;
            let mapper = self.mapper(at).clone();
            let queue = context
                .member
                .queue(at, mapper.1.clone())
                .ok_or_else(|| Failure::Runtime(format!("no queue for {} partition {}", at.topic, at.partition)))?;
            let stay = (at.clone(), self.stays);
            let committer = Committer::start(context, stay, mapper.clone(), starts.clone())?;
            let lane = Lane::new(context, at.clone(), self.stays, queue, committer);
            send(&mapper, Letter::Begin(Box::new(lane)));
            self.owned.insert(at.clone());
        }
        drop(starts);
        // Ends when each committer has told its position or has ended.
        let starts: Vec<(TopicPartition, i64)> = positions.iter().collect();
        answered(context.member.assign(&starts));
        Ok(())
    }

    /// Gives partitions back: what is open is committed if that goes quickly, else left to the successor.
    fn end(&mut self, partitions: &[TopicPartition]) {
        let (told, ends) = mpsc::channel();
        for at in partitions {
            send(self.mapper(at), Letter::End(at.clone(), told.clone()));
        }
        drop(told);
        let deadline = Instant::now() + LEAVE_LIMIT;
        let mut waiting: BTreeSet<&TopicPartition> = partitions.iter().collect();
        while let Ok(at) = ends.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            waiting.remove(&at);
        }
        let late: Vec<TopicPartition> = waiting.into_iter().cloned().collect();
        if !late.is_empty() {
            tracing::warn!(partitions = late.len(), "left without their last commit: the next owner decides on it");
        }
        self.forget(&late);
        self.owned.retain(|at| !partitions.contains(at));
    }

    fn forget(&mut self, partitions: &[TopicPartition]) {
        for at in partitions {
            send(self.mapper(at), Letter::Forget(at.clone()));
            self.owned.remove(at);
        }
    }
}
