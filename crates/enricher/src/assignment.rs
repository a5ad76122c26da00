//! The consumer group of the raw topic: partitions come and go, each with a thread of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kafka::{Error, GroupMember, Kafka, Polled, Rebalance, TopicPartition};
use service::health::Readiness;
use service::{CancellationToken, Failure, Heartbeat, Service};

use crate::Config;
use crate::metrics::EnricherMetrics;
use crate::partition;

/// One turn of the loop.
const TURN: Duration = Duration::from_millis(100);

/// What all partitions share.
#[derive(Clone, Debug)]
pub struct Context {
    /// Flags.
    pub config: Config,
    /// Clients.
    pub kafka: Kafka,
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
        match self.stopped.load(Ordering::SeqCst) {
            0 => self.readiness.ok("partitions are worked on"),
            stopped => self.readiness.failing(&format!("a hole in the input stopped {stopped} partitions")),
        }
    }
}

/// A partition on its thread.
struct Running {
    stop: CancellationToken,
    thread: JoinHandle<Result<(), Failure>>,
}

type Partitions = BTreeMap<TopicPartition, Running>;

/// Follows the group until shutdown. Blocks.
///
/// # Errors
/// What ended a partition for good.
pub fn follow(context: &Context, heartbeat: &Heartbeat) -> Result<(), Failure> {
    let topics = context.config.kafka.topics();
    let group = context.config.kafka.prefixed("wiki-enricher");
    let member = context
        .kafka
        .member(&group, &[topics.raw.as_str()], context.config.rebalance)
        .map_err(|error| Failure::Config(error.sentence()))?;
    let member = Arc::new(member);
    let mut running = Partitions::new();
    context.readiness.ok("standing by");
    while !context.service.shutdown.is_cancelled() {
        heartbeat.beat();
        let polled = member.poll(TURN);
        if let Polled::Failed(error) = &polled
            && let Some(sentence) = kafka::group::fatal(error)
        {
            return Err(Failure::Runtime(sentence));
        }
        if let Polled::Rebalance(rebalance) = polled {
            let started = Instant::now();
            match &rebalance {
                Rebalance::Assigned(partitions) => begin(context, &member, partitions, &mut running)?,
                Rebalance::Revoked(partitions) | Rebalance::Lost(partitions) => {
                    end(partitions, &mut running)?;
                    answered(member.release(partitions));
                }
            }
            context.metrics.group().rebalanced(&rebalance, started.elapsed());
            context.show_readiness();
        }
        let ended: Vec<TopicPartition> =
            running.iter().filter(|(_, task)| task.thread.is_finished()).map(|(at, _)| at.clone()).collect();
        end(&ended, &mut running)?;
    }
    let all: Vec<TopicPartition> = running.keys().cloned().collect();
    end(&all, &mut running)
}

fn answered(answer: Result<(), Error>) {
    if let Err(error) = answer {
        tracing::warn!(error = error.sentence(), "rebalance not answered; the group asks again");
    }
}

/// Starts a thread for each partition, waits until all know their position, and takes them on from there.
fn begin(
    context: &Context,
    member: &Arc<GroupMember>,
    partitions: &[TopicPartition],
    running: &mut Partitions,
) -> Result<(), Failure> {
    let (starts, positions) = mpsc::channel();
    for at in partitions {
        let queue = member
            .queue(at)
            .ok_or_else(|| Failure::Runtime(format!("no queue for {} partition {}", at.topic, at.partition)))?;
        let stop = context.service.shutdown.child_token();
        let task = partition::Task::new(context, member, at.clone(), queue, stop.clone());
        let starts = starts.clone();
        let thread = std::thread::Builder::new()
            .name(format!("enrich-{}", at.partition))
            .spawn(move || task.run(starts))
            .map_err(|error| Failure::Runtime(format!("cannot start a thread: {error}")))?;
        running.insert(at.clone(), Running { stop, thread });
    }
    drop(starts);
    // Ends when each thread has told its position or has ended.
    let starts: Vec<(TopicPartition, i64)> = positions.iter().collect();
    answered(member.assign(&starts));
    Ok(())
}

/// Stops threads: what is open is committed if that goes quickly, else left to the successor.
fn end(partitions: &[TopicPartition], running: &mut Partitions) -> Result<(), Failure> {
    let stopped: Vec<Running> = partitions.iter().filter_map(|at| running.remove(at)).collect();
    for task in &stopped {
        task.stop.cancel();
    }
    let mut result = Ok(());
    for task in stopped {
        let ended =
            task.thread.join().unwrap_or_else(|_| Err(Failure::Runtime("a partition's thread panicked".to_owned())));
        result = result.and(ended);
    }
    result
}
