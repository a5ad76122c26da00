//! Who acts: the replica that holds the one partition of `wikipedia-ingest`. Only liveness hangs on it.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use kafka::group::answered;
use kafka::{GroupMember, Kafka, Polled, Rebalance, Rebalancing};
use service::health::Readiness;
use service::{CancellationToken, Failure, Heartbeat, Service};
use tokio::runtime::Handle;

use crate::error::TermEnd;
use crate::metrics::IngestMetrics;
use crate::{Config, GROUP, term};

/// One turn of the loop.
const TURN: Duration = Duration::from_millis(100);
/// Wait before a term begins anew: a replica that lost its place hears of it meanwhile, and does not fence the
/// one that has it.
const AFTER_DOUBT: Duration = Duration::from_millis(1500);

/// What leader and term share.
#[derive(Clone, Debug)]
pub struct Context {
    /// Flags.
    pub config: Config,
    /// Clients.
    pub kafka: Kafka,
    /// Metrics.
    pub metrics: Arc<IngestMetrics>,
    /// The frame.
    pub service: Service,
    /// Where connections run.
    pub runtime: Handle,
    /// Whether the stream flows, or this replica stands by.
    pub readiness: Readiness,
}

/// A term on its thread.
struct Running {
    stop: CancellationToken,
    thread: JoinHandle<Result<(), Failure>>,
}

impl Running {
    fn end(self) -> Result<(), Failure> {
        self.stop.cancel();
        self.thread.join().unwrap_or_else(|_| Err(Failure::Runtime("the acting term panicked".to_owned())))
    }
}

/// Holds a place in the group, and runs a term while it has the partition. Blocks until shutdown.
///
/// # Errors
/// What ended a term for good.
pub fn lead(context: &Context, heartbeat: &Heartbeat) -> Result<(), Failure> {
    let group = context.config.kafka.prefixed(GROUP);
    let topics = context.config.kafka.topics();
    let member = context
        .kafka
        .member(&group, &[topics.ingest.as_str()], Rebalancing::Eager)
        .map_err(|error| Failure::Config(error.sentence()))?;
    let member = Arc::new(member);
    let mut running: Option<Running> = None;
    context.readiness.ok("standing by");
    while !context.service.shutdown.is_cancelled() {
        heartbeat.beat();
        match member.poll(TURN) {
            Polled::Rebalance(Rebalance::Assigned(partitions)) => {
                let starts: Vec<_> = partitions.iter().map(|at| (at.clone(), 0)).collect();
                answered(member.assign(&starts));
                if !partitions.is_empty() && running.is_none() {
                    running = Some(begin(context, &member)?);
                }
            }
            Polled::Rebalance(Rebalance::Revoked(partitions) | Rebalance::Lost(partitions)) => {
                if let Some(term) = running.take() {
                    term.end()?;
                }
                context.readiness.ok("standing by");
                answered(member.release(&partitions));
            }
            Polled::Failed(error) => {
                if let Some(sentence) = kafka::group::fatal(&error) {
                    return Err(Failure::Runtime(sentence));
                }
            }
            Polled::Record(_) | Polled::Nothing => {}
        }
        if running.as_ref().is_some_and(|term| term.thread.is_finished())
            && let Some(term) = running.take()
        {
            term.end()?;
        }
    }
    running.map_or(Ok(()), Running::end)
}

fn begin(context: &Context, member: &Arc<GroupMember>) -> Result<Running, Failure> {
    let stop = context.service.shutdown.child_token();
    let (context, member, stopped) = (context.clone(), Arc::clone(member), stop.clone());
    let thread = std::thread::Builder::new()
        .name("ingest-term".to_owned())
        .spawn(move || {
            context.metrics.acting.set(1);
            let result = terms(&context, &member, &stopped);
            context.metrics.acting.set(0);
            result
        })
        .map_err(|error| Failure::Runtime(format!("cannot start a thread: {error}")))?;
    Ok(Running { stop, thread })
}

/// Runs term after term while this replica holds the partition: doubt ends one, the next reads what stands.
fn terms(context: &Context, member: &Arc<GroupMember>, stop: &CancellationToken) -> Result<(), Failure> {
    loop {
        match term::act(context, member, stop) {
            TermEnd::Stopped => return Ok(()),
            TermEnd::Failed(failure) => return Err(failure),
            TermEnd::Doubt(error) => {
                tracing::warn!(error = error.sentence(), "in doubt about a write: initialising again");
                context.service.tasks.restarted("ingest-term");
                context.readiness.failing("in doubt about a write");
                let waited = context
                    .runtime
                    .block_on(async { tokio::time::timeout(AFTER_DOUBT, stop.cancelled()).await.is_err() });
                if !waited {
                    return Ok(());
                }
            }
        }
    }
}
