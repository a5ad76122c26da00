//! One look at a group, and what it means. Pure.

use std::collections::{BTreeMap, BTreeSet};

use kafka::{GroupDescription, TopicPartition};
use serde::{Deserialize, Serialize};

/// Every state a coordinator may tell, and one for what we do not know: a closed set, a label.
pub const STATES: [&str; 8] =
    ["empty", "assigning", "reconciling", "stable", "preparing_rebalance", "completing_rebalance", "dead", "unknown"];

/// Offsets of one partition, as a group stands to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// First offset that is there.
    pub start: i64,
    /// Offset behind the last.
    pub end: i64,
    /// What the group committed, if it did; read before `end`, so that the difference is never negative.
    pub committed: Option<i64>,
}

impl Progress {
    /// Records the group has not committed yet; without a commit, all that are there. Markers of transactions count.
    #[must_use]
    pub fn lag(&self) -> i64 {
        (self.end - self.committed.unwrap_or(self.start).max(self.start)).max(0)
    }

    /// Records between what retention took and what the group committed; below 0 it took some that were never read.
    #[must_use]
    pub fn retention_margin(&self) -> Option<i64> {
        self.committed.map(|committed| committed - self.start)
    }
}

/// Brokers of the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Brokers {
    /// Those that are there.
    pub up: usize,
    /// Those that should be: they are there, or hold copies of the topic.
    pub known: usize,
}

/// A group and its topic at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picture {
    /// The group as its coordinator describes it.
    pub described: GroupDescription,
    /// Every partition of the topic.
    pub partitions: BTreeMap<TopicPartition, Progress>,
    /// The cluster's brokers.
    pub brokers: Brokers,
}

/// What changed between two pictures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Members that were not there before.
    pub joined: usize,
    /// Members that are there no more.
    pub departed: usize,
    /// Whether anybody owns something else than before.
    pub is_reassigned: bool,
}

impl Picture {
    /// The coordinator's state as a label.
    #[must_use]
    pub fn state(&self) -> &'static str {
        let told = self.described.state.to_lowercase().replace([' ', '-', '_'], "");
        STATES.into_iter().find(|state| state.replace('_', "") == told).unwrap_or("unknown")
    }

    /// Members that own nothing.
    #[must_use]
    pub fn idle(&self) -> usize {
        self.described.members.iter().filter(|member| member.owned.is_empty()).count()
    }

    /// Partitions that nobody owns.
    #[must_use]
    pub fn unowned(&self) -> usize {
        let owned: BTreeSet<&TopicPartition> = self.described.members.iter().flat_map(|member| &member.owned).collect();
        self.partitions.keys().filter(|at| !owned.contains(at)).count()
    }

    /// Partitions whose owner is to be another (KIP-848 only; elsewhere nobody knows).
    #[must_use]
    pub fn pending_moves(&self) -> usize {
        let members = self.described.members.iter();
        members.filter_map(|member| Some(member.target.as_ref()?.difference(&member.owned).count())).sum()
    }

    /// What became different since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Change {
        let (now, then) = (self.owners(), before.owners());
        Change {
            joined: now.keys().filter(|id| !then.contains_key(*id)).count(),
            departed: then.keys().filter(|id| !now.contains_key(*id)).count(),
            is_reassigned: now != then,
        }
    }

    fn owners(&self) -> BTreeMap<&str, &BTreeSet<TopicPartition>> {
        self.described.members.iter().map(|member| (member.id.as_str(), &member.owned)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kafka::MemberDescription;

    fn at(partition: i32) -> TopicPartition {
        TopicPartition { topic: "t".to_owned(), partition }
    }

    /// Who, what is owned, what is to be owned.
    type Told<'a> = (&'a str, &'a [i32], Option<&'a [i32]>);

    fn picture(state: &str, members: &[Told<'_>]) -> Picture {
        let set = |numbers: &[i32]| numbers.iter().copied().map(at).collect::<BTreeSet<_>>();
        let members = members
            .iter()
            .map(|(id, owned, target)| MemberDescription {
                id: (*id).to_owned(),
                owned: set(owned),
                target: target.map(set),
                ..MemberDescription::default()
            })
            .collect();
        Picture {
            described: GroupDescription { state: state.to_owned(), members, ..GroupDescription::default() },
            partitions: (0..4).map(|partition| (at(partition), Progress::default())).collect(),
            ..Picture::default()
        }
    }

    #[test]
    fn states_are_a_closed_set_however_they_are_spelled() {
        for (told, label) in [
            ("Stable", "stable"),
            ("PreparingRebalance", "preparing_rebalance"),
            ("COMPLETING_REBALANCE", "completing_rebalance"),
            ("NotReady", "unknown"),
            ("", "unknown"),
        ] {
            assert_eq!(picture(told, &[]).state(), label);
        }
    }

    #[test]
    fn standbys_unowned_partitions_and_moves_are_counted() {
        let picture = picture("Stable", &[("a", &[0, 1], Some(&[0])), ("b", &[], Some(&[1, 2])), ("c", &[], None)]);
        assert_eq!((picture.idle(), picture.unowned(), picture.pending_moves()), (2, 2, 2));
    }

    #[test]
    fn a_change_names_who_came_and_who_went() {
        let before = picture("Stable", &[("a", &[0, 1], None), ("b", &[2], None)]);
        let after = picture("Stable", &[("a", &[0, 1], None), ("c", &[2], None)]);
        assert_eq!(after.since(&before), Change { joined: 1, departed: 1, is_reassigned: true });
        assert_eq!(before.since(&before), Change::default());
    }

    #[test]
    fn lag_counts_from_the_commit_or_from_what_is_left_and_is_never_negative() {
        let progress = |start, end, committed| Progress { start, end, committed };
        assert_eq!(progress(0, 10, Some(4)).lag(), 6);
        assert_eq!(progress(3, 10, None).lag(), 7);
        assert_eq!(progress(5, 10, Some(2)).lag(), 5, "what retention took is not behind us but lost");
        assert_eq!(progress(5, 10, Some(2)).retention_margin(), Some(-3));
        assert_eq!(progress(0, 10, Some(11)).lag(), 0);
    }
}
