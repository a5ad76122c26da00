//! Who may work: the partitions that the group assigned, claimed in the destination or waiting for that.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use kafka::Tail;

use crate::context::Context;
use crate::destination::{Destination, Pending};
use crate::error::WriteError;
use crate::position::Owned;
use crate::recovery::{ClaimError, Request};
use crate::writer::Position;

/// A partition that was dropped, for another owner or in doubt, is claimed again after this, if the group still
/// assigns it to us: by then a sink that lost it has heard of it.
const CLAIM_AGAIN: Duration = Duration::from_secs(2);

/// A claim that is under way.
#[derive(Debug)]
struct Claiming {
    request: Request,
    positions: Pending<Result<Vec<Position>, WriteError>>,
}

/// The offset from which each claimed partition is read.
pub type Starts = BTreeMap<i32, i64>;

/// The partitions that the group assigned.
#[derive(Debug, Default)]
pub struct Partitions {
    owned: BTreeMap<i32, Owned>,
    /// Those that have to be claimed, and since when they wait.
    unclaimed: BTreeMap<i32, Instant>,
    claiming: Option<Claiming>,
    /// The last claim has to be tried again.
    is_failing: bool,
}

impl Partitions {
    /// A claimed partition.
    #[must_use]
    pub fn get(&self, partition: i32) -> Option<&Owned> {
        self.owned.get(&partition)
    }

    /// A claimed partition, to be changed.
    pub fn get_mut(&mut self, partition: i32) -> Option<&mut Owned> {
        self.owned.get_mut(&partition)
    }

    /// All claimed partitions.
    pub fn owned(&self) -> impl Iterator<Item = (i32, &Owned)> {
        self.owned.iter().map(|(partition, owned)| (*partition, owned))
    }

    /// Their numbers.
    #[must_use]
    pub fn numbers(&self) -> Vec<i32> {
        self.owned.keys().copied().collect()
    }

    /// Those that wait for their claim.
    pub fn unclaimed(&self) -> impl Iterator<Item = i32> {
        self.unclaimed.keys().copied().filter(|partition| !self.owned.contains_key(partition))
    }

    /// Whether partitions wait because a claim failed.
    #[must_use]
    pub const fn is_failing(&self) -> bool {
        self.is_failing
    }

    /// How many a person must act for.
    #[must_use]
    pub fn halted(&self) -> usize {
        self.owned.values().filter(|owned| owned.is_halted).count()
    }

    /// They were revoked or lost.
    pub fn forget(&mut self, partitions: &[i32]) {
        self.owned.retain(|partition, _| !partitions.contains(partition));
        self.unclaimed.retain(|partition, _| !partitions.contains(partition));
        self.is_failing &= !self.unclaimed.is_empty();
    }

    /// A partition is claimed again a little later, if it is still assigned to us: a write may be refused after its
    /// partition was revoked, and a claim would take it from its owner.
    pub fn drop_until_claimed(&mut self, partition: i32) {
        let was_owned = self.owned.remove(&partition).is_some();
        if was_owned || self.unclaimed.contains_key(&partition) {
            self.unclaimed.insert(partition, Instant::now());
        }
    }

    /// A partition that was claimed is read from its start now.
    pub fn is_read(&mut self, partition: i32) {
        self.unclaimed.remove(&partition);
    }

    /// Claims partitions, and waits for the answer up to `limit`; it may come later.
    ///
    /// # Errors
    /// [`ClaimError`]; they wait for their claim.
    pub fn claim(
        &mut self,
        partitions: &[i32],
        context: &Context,
        tail: &Tail,
        destination: &Destination,
        limit: Duration,
    ) -> Result<Option<Starts>, ClaimError> {
        let now = Instant::now();
        self.unclaimed.extend(partitions.iter().map(|partition| (*partition, now)));
        // One at a time: what is not claimed now is claimed when it is over.
        if self.claiming.is_none() {
            let request =
                Request::prepare(&context.source, partitions, tail).inspect_err(|_| self.is_failing = true)?;
            let made = request.clone();
            let positions = destination.ask(move |writer| made.make(writer));
            self.claiming = Some(Claiming { request, positions });
            return self.claimed(context, tail, limit);
        }
        Ok(None)
    }

    /// The answer to the claim that is under way, if it comes within `limit`. Partitions that were revoked meanwhile are
    /// not in it.
    ///
    /// # Errors
    /// [`ClaimError`]; they wait for their next claim.
    pub fn claimed(&mut self, context: &Context, tail: &Tail, limit: Duration) -> Result<Option<Starts>, ClaimError> {
        let Some(positions) = self.claiming.as_ref().and_then(|claiming| claiming.positions.wait(limit)) else {
            return Ok(None);
        };
        let Some(Claiming { request, .. }) = self.claiming.take() else { return Ok(None) };
        let begun =
            positions.map_err(ClaimError::from).and_then(|positions| request.begin(&positions, tail, &context.member));
        self.is_failing = begun.is_err();
        let now = Instant::now();
        self.unclaimed.values_mut().for_each(|since| *since = now);
        let mut begun = begun?;
        begun.retain(|partition, _| self.unclaimed.contains_key(partition));
        let starts = begun.iter().map(|(partition, (_, start))| (*partition, *start)).collect();
        self.owned.extend(begun.into_iter().map(|(partition, (owned, _))| (partition, owned)));
        Ok(Some(starts))
    }

    /// Whether a claim is under way.
    #[must_use]
    pub const fn is_claiming(&self) -> bool {
        self.claiming.is_some()
    }

    /// Those whose claim is due.
    #[must_use]
    pub fn due(&self) -> Vec<i32> {
        let due = self.unclaimed.iter().filter(|(_, since)| since.elapsed() >= CLAIM_AGAIN);
        due.map(|(partition, _)| *partition).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owning(partitions: &[i32]) -> Partitions {
        let position = Position { epoch: 1, next_seq: Some(0), next_offset: 0, last_raw_offset: -1 };
        let owned = partitions.iter().map(|partition| (*partition, Owned::at(&position))).collect();
        Partitions { owned, ..Partitions::default() }
    }

    #[test]
    fn a_partition_whose_write_is_refused_is_claimed_again_only_while_it_is_assigned() {
        let mut partitions = owning(&[1, 2]);
        partitions.forget(&[2]);
        for partition in [1, 2] {
            partitions.drop_until_claimed(partition);
        }
        assert_eq!(partitions.unclaimed().collect::<Vec<_>>(), [1], "2 was revoked: it has another owner");
        partitions.drop_until_claimed(1);
        assert_eq!(partitions.unclaimed().collect::<Vec<_>>(), [1], "it waits for its claim still");
    }
}
