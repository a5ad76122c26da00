//! Rebalances: partitions are claimed, released, and claimed again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kafka::group::answered;
use kafka::{CommitMode, Rebalance, TopicPartition};
use schema::control::Moment;
use service::Failure;

use super::{SETTLE_LIMIT, Worker};
use crate::ownership::Starts;
use crate::recovery::ClaimError;

/// A claim is waited for so long while the group waits for us; after that it is taken when it comes.
const CLAIM_LIMIT: Duration = Duration::from_secs(1);

impl Worker {
    pub(super) fn rebalance(&mut self, rebalance: &Rebalance) -> Result<(), Failure> {
        let started = Instant::now();
        match rebalance {
            Rebalance::Assigned(partitions) => {
                self.assigned(partitions)?;
                self.report(Moment::Assigned, partitions);
            }
            Rebalance::Revoked(partitions) => {
                self.report(Moment::Revoking, partitions);
                // What is read is stored before the next owner begins: less is read twice.
                let settled = self.settle(SETTLE_LIMIT);
                self.commit_offsets(CommitMode::Send);
                self.release(partitions);
                self.report(Moment::Revoked, partitions);
                if !settled? {
                    tracing::warn!("released before everything was stored: the next owner reads it again");
                }
            }
            Rebalance::Lost(partitions) => {
                self.release(partitions);
                self.report(Moment::Lost, partitions);
            }
        }
        self.context.metrics.group().rebalanced(rebalance, started.elapsed());
        self.show_readiness();
        Ok(())
    }

    fn release(&mut self, partitions: &[TopicPartition]) {
        let numbers: Vec<i32> = partitions.iter().map(|at| at.partition).collect();
        // The client remembers a pause, also for a partition that comes back later.
        answered(self.context.member.set_paused(partitions, false));
        self.partitions.forget(&numbers);
        self.output.forget(&numbers);
        answered(self.context.member.release(partitions));
        self.pause_if_blocked();
    }

    /// Claims what the group assigned. What cannot be claimed yet is assigned paused, and claimed while polling continues:
    /// the group must not lose us because the destination does not answer.
    fn assigned(&mut self, partitions: &[TopicPartition]) -> Result<(), Failure> {
        let numbers: Vec<i32> = partitions.iter().map(|at| at.partition).collect();
        // A rebalance that brings nothing asks nothing of the destination.
        let claimed = if numbers.is_empty() { Some(Starts::new()) } else { self.claim(&numbers, CLAIM_LIMIT)? };
        match claimed {
            Some(claimed) => {
                let starts: Vec<(TopicPartition, i64)> =
                    claimed.iter().map(|(partition, start)| (self.context.at(*partition), *start)).collect();
                answered(self.context.member.assign(&starts));
                claimed.into_keys().for_each(|partition| self.partitions.is_read(partition));
                if self.is_paused {
                    answered(self.context.member.set_paused(partitions, true));
                }
            }
            None => answered(self.context.member.assign_paused(partitions)),
        }
        Ok(())
    }

    /// Claims partitions; `None` where the answer did not come, or the claim has to be tried again.
    fn claim(&mut self, partitions: &[i32], limit: Duration) -> Result<Option<Starts>, Failure> {
        let claimed = self.partitions.claim(partitions, &self.context, &self.tail, &self.destination, limit);
        self.judge_claim(claimed)
    }

    fn judge_claim(&mut self, claimed: Result<Option<Starts>, ClaimError>) -> Result<Option<Starts>, Failure> {
        match claimed {
            Ok(starts) => {
                if starts.is_some() {
                    self.dead_letters.due();
                }
                Ok(starts)
            }
            Err(ClaimError::Stop(failure)) => Err(failure),
            Err(ClaimError::Again(why)) => {
                tracing::warn!(why, "partitions not claimed yet; trying again");
                // A reader that missed a change of leaders would miss it for minutes.
                self.tail = self.context.kafka.tail().map_err(|error| Failure::Runtime(error.sentence()))?;
                Ok(None)
            }
        }
    }

    /// Claims what was dropped and is still assigned to us, and takes the answer of an earlier claim.
    pub(super) fn claim_what_waits(&mut self) -> Result<(), Failure> {
        let starts = if self.partitions.is_claiming() {
            let claimed = self.partitions.claimed(&self.context, &self.tail, Duration::ZERO);
            self.judge_claim(claimed)?
        } else {
            let due = self.partitions.due();
            if due.is_empty() {
                return Ok(());
            }
            self.claim(&due, Duration::ZERO)?
        };
        if let Some(starts) = starts {
            self.read_from(starts);
            self.show_readiness();
        }
        Ok(())
    }

    /// Reads partitions that were claimed while polling continued, each from where the table stands.
    fn read_from(&mut self, starts: BTreeMap<i32, i64>) {
        for (partition, start) in starts {
            let at = self.context.at(partition);
            let member = &self.context.member;
            let sought = member.seek(&at, start);
            match sought.and_then(|()| member.set_paused(std::slice::from_ref(&at), self.is_paused)) {
                Ok(()) => self.partitions.is_read(partition),
                Err(error) => {
                    // The client still has to take it on, or has given it up and is about to say so.
                    tracing::warn!(partition, error = error.sentence(), "not set to its place yet; claiming it again");
                    self.drop_until_claimed(partition);
                }
            }
        }
    }

    /// Forgets what is in memory of a partition; it is claimed again, and read from where the table stands.
    pub(super) fn drop_until_claimed(&mut self, partition: i32) {
        self.output.forget(&[partition]);
        self.partitions.drop_until_claimed(partition);
    }

    /// Takes nothing more of a partition: a person must act.
    pub(super) fn halt(&mut self, partition: i32) {
        if let Some(owned) = self.partitions.get_mut(partition) {
            owned.is_halted = true;
        }
        self.show_readiness();
    }
}
