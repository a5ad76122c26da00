//! Who may work: the replica that holds the one partition of `wikipedia-ingest`. Only liveness hangs on it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use kafka::group::answered;
use kafka::{GroupMember, Polled, Rebalance, Rebalancing};
use service::{CancellationToken, Failure, Heartbeat};

use crate::context::{Context, GROUP, TURN_LIMIT};
use crate::error::TermEnd;
use crate::worker;

/// Longest wait for the group's next answer.
const POLL_TIMEOUT: Duration = Duration::from_millis(100);
/// Wait before the next term: a replica that lost its place learns of it meanwhile, and does not fence the
/// one that has it.
const AFTER_DOUBT: Duration = Duration::from_millis(1500);

/// The acting term, on a thread of its own.
struct Acting {
    stop: CancellationToken,
    /// Closed when the term is over.
    over: Receiver<()>,
}

impl Acting {
    fn is_over(&self) -> bool {
        matches!(self.over.try_recv(), Err(std::sync::mpsc::TryRecvError::Disconnected))
    }

    /// Stops the term and waits for it; the group is not polled meanwhile.
    fn end(self, heartbeat: &Heartbeat) {
        self.stop.cancel();
        while self.over.recv_timeout(POLL_TIMEOUT) == Err(RecvTimeoutError::Timeout) {
            heartbeat.beat();
        }
    }
}

/// Holds a place in the group, and runs terms while it has the partition. Blocks until shutdown.
///
/// # Errors
/// What the group refuses for good. A term that fails ends the service itself.
pub fn lead(context: &Context, heartbeat: &Heartbeat) -> Result<(), Failure> {
    let group = context.config.kafka.prefixed(GROUP);
    let topics = context.config.kafka.topics();
    let member = context
        .kafka
        .member(&group, &[topics.ingest.as_str()], Rebalancing::Eager)
        .map_err(|error| Failure::Config(error.sentence()))?;
    let member = Arc::new(member);
    let mut acting: Option<Acting> = None;
    context.readiness.ok("standing by");
    while !context.service.shutdown.is_cancelled() {
        heartbeat.beat();
        match member.poll(POLL_TIMEOUT) {
            Polled::Rebalance(Rebalance::Assigned(partitions)) => {
                // The topic holds nothing to be read: its one partition says who acts.
                answered(member.assign_paused(&partitions));
                if !partitions.is_empty() && acting.as_ref().is_none_or(Acting::is_over) {
                    acting = Some(begin(context, &member)?);
                }
            }
            Polled::Rebalance(Rebalance::Revoked(partitions) | Rebalance::Lost(partitions)) => {
                if let Some(term) = acting.take() {
                    term.end(heartbeat);
                }
                context.readiness.ok("standing by");
                answered(member.release(&partitions));
            }
            Polled::Failed(error) => {
                if let Some(sentence) = error.fatal() {
                    return Err(Failure::Runtime(sentence));
                }
            }
            Polled::Record(_) | Polled::Nothing => {}
        }
    }
    if let Some(term) = acting {
        term.end(heartbeat);
    }
    Ok(())
}

fn begin(context: &Context, member: &Arc<GroupMember>) -> Result<Acting, Failure> {
    let stop = context.service.shutdown.child_token();
    let (alive, over) = channel::<()>();
    let (parts, member, stopped) = (context.clone(), Arc::clone(member), stop.clone());
    context.service.tasks.spawn_thread("ingest-term", TURN_LIMIT, move |heartbeat| {
        // Dropped with the thread, however it ends.
        let _alive = alive;
        parts.metrics.acting.set(1);
        let result = terms(&parts, &member, &stopped, &heartbeat);
        parts.metrics.acting.set(0);
        result
    })?;
    Ok(Acting { stop, over })
}

/// Runs term after term while this replica holds the partition: doubt ends one, the next reads what is committed.
fn terms(
    context: &Context,
    member: &Arc<GroupMember>,
    stop: &CancellationToken,
    heartbeat: &Heartbeat,
) -> Result<(), Failure> {
    loop {
        heartbeat.beat();
        match worker::act(context, member, stop, heartbeat) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Rig, Stream, on_thread, wait_until};

    #[tokio::test(flavor = "multi_thread")]
    async fn one_replica_acts_and_the_other_continues_when_it_ends() {
        let stream = Stream::start(&["--rate", "max", "--edits", "2000", "--seed", "6"]).await;
        let url = stream.url();
        let rig = Rig::start(&["--stream-url", &url, "--start", "earliest"]).await;
        let [first, second] = ["a", "b"].map(|name| rig.replica(name));
        let lead_on = |context: &Context| {
            let parts = context.clone();
            let context = context.clone();
            tokio::spawn(async move { on_thread(&context, move |heartbeat| lead(&parts, heartbeat)).await })
        };
        let leading = [lead_on(&first), lead_on(&second)];
        // Also where something panics: neither would end.
        let _stops = [&first, &second].map(|context| context.service.shutdown.clone().drop_guard());
        let acting = |context: &Context| context.metrics.acting.get();
        tokio::task::block_in_place(|| wait_until("one acts", || acting(&first) + acting(&second) == 1));
        let (ends, stays) = if acting(&first) == 1 { (&first, &second) } else { (&second, &first) };
        assert_eq!(acting(stays), 0);
        ends.service.shutdown.cancel();
        tokio::task::block_in_place(|| wait_until("the other acts", || acting(stays) == 1 && acting(ends) == 0));
        tokio::task::block_in_place(|| wait_until("every edit is there", || rig.raw_ids().len() == 2000));
        stays.service.shutdown.cancel();
        for lead in leading {
            lead.await.unwrap().unwrap();
        }
        assert_eq!(tokio::task::block_in_place(|| rig.raw_ids()), stream.made());
    }
}
