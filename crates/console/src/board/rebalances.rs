//! The log of rebalances: who caused each, what moved, and how long each partition stood still.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

/// A rebalance is over when nothing has changed for this long.
const SETTLED_MS: i64 = 1_500;
/// Rebalances kept.
const KEPT: usize = 200;

/// Why partitions moved.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case", tag = "what", content = "who")]
pub enum Cause {
    /// A sink came.
    Joined(String),
    /// A sink ended in order.
    Left(String),
    /// A sink was not heard of any more, and the group gave it up.
    Lost(String),
    /// The sinks go by another protocol.
    ProtocolChanged(String),
    /// The topic has another number of partitions.
    TopicChanged(usize),
}

/// How long one partition stood still.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Pause {
    /// The partition.
    pub partition: i32,
    /// Milliseconds from its release, or its owner's last word, to its new owner's word.
    pub milliseconds: i64,
}

/// One rebalance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Rebalance {
    /// Counts from 1.
    pub id: u64,
    /// When the first thing changed, Unix milliseconds.
    pub began_ms: i64,
    /// When the last thing changed; of one that goes on, so far.
    pub ended_ms: i64,
    /// Whether everything has come to rest.
    pub is_over: bool,
    /// Why.
    pub causes: BTreeSet<Cause>,
    /// `cooperative`, `eager` or `consumer`.
    pub protocol: String,
    /// The group's generation, as the sinks know it.
    pub generation: i32,
    /// Partitions that have another owner than before.
    pub moved: Vec<i32>,
    /// Partitions that have the same owner as before.
    pub kept: Vec<i32>,
    /// How long partitions stood still, those that did.
    pub pauses: Vec<Pause>,
}

impl Rebalance {
    /// The longest pause.
    #[must_use]
    pub fn longest(&self) -> Option<Pause> {
        self.pauses.iter().copied().max_by_key(|pause| pause.milliseconds)
    }
}

/// Owner of each partition, where it has one.
pub type Owners = BTreeMap<i32, Option<String>>;

#[derive(Clone, Debug)]
struct Open {
    rebalance: Rebalance,
    before: Owners,
}

/// The log: rebalances that are over, and the one that goes on.
#[derive(Clone, Debug, Default)]
pub struct RebalanceLog {
    over: VecDeque<Rebalance>,
    open: Option<Open>,
    count: u64,
}

/// Where the group stands when something changes.
#[derive(Clone, Debug)]
pub struct Standing<'a> {
    /// When, Unix milliseconds.
    pub at_ms: i64,
    /// Owners before the change.
    pub before: &'a Owners,
    /// The protocol.
    pub protocol: &'a str,
    /// The generation.
    pub generation: i32,
}

impl RebalanceLog {
    /// Something changed: the rebalance that goes on, or a new one.
    fn going_on(&mut self, standing: &Standing<'_>) -> &mut Open {
        let count = &mut self.count;
        let open = self.open.get_or_insert_with(|| {
            *count += 1;
            let rebalance = Rebalance {
                id: *count,
                began_ms: standing.at_ms,
                ended_ms: standing.at_ms,
                is_over: false,
                causes: BTreeSet::new(),
                protocol: standing.protocol.to_owned(),
                generation: standing.generation,
                moved: Vec::new(),
                kept: Vec::new(),
                pauses: Vec::new(),
            };
            Open { rebalance, before: standing.before.clone() }
        });
        let rebalance = &mut open.rebalance;
        rebalance.began_ms = rebalance.began_ms.min(standing.at_ms);
        rebalance.ended_ms = rebalance.ended_ms.max(standing.at_ms);
        rebalance.generation = rebalance.generation.max(standing.generation);
        if !standing.protocol.is_empty() {
            standing.protocol.clone_into(&mut rebalance.protocol);
        }
        open
    }

    /// Notes why.
    pub fn caused(&mut self, cause: Cause, standing: &Standing<'_>) {
        self.going_on(standing).rebalance.causes.insert(cause);
    }

    /// Notes that a partition changed hands, or stands still.
    pub fn changed(&mut self, standing: &Standing<'_>) {
        self.going_on(standing);
    }

    /// Notes how long a partition stood still.
    pub fn paused(&mut self, pause: Pause, standing: &Standing<'_>) {
        let pauses = &mut self.going_on(standing).rebalance.pauses;
        match pauses.iter_mut().find(|known| known.partition == pause.partition) {
            Some(known) => known.milliseconds += pause.milliseconds,
            None => pauses.push(pause),
        }
    }

    /// Ends the rebalance that goes on, if all is at rest and has been for a while; gives it then.
    pub fn settle(&mut self, now: &Owners, is_at_rest: bool, now_ms: i64) -> Option<Rebalance> {
        let open = self.open.as_mut()?;
        open.compare(now);
        if !is_at_rest || now_ms - open.rebalance.ended_ms < SETTLED_MS {
            return None;
        }
        let mut rebalance = self.open.take()?.rebalance;
        rebalance.is_over = true;
        // A client that reconnects without any change is no rebalance.
        if rebalance.causes.is_empty() && rebalance.moved.is_empty() && rebalance.pauses.is_empty() {
            self.count -= 1;
            return None;
        }
        self.over.push_back(rebalance.clone());
        if self.over.len() > KEPT {
            self.over.pop_front();
        }
        Some(rebalance)
    }

    /// All of them, the oldest first; the last may go on.
    pub fn all(&self) -> impl Iterator<Item = &Rebalance> {
        self.over.iter().chain(self.open.iter().map(|open| &open.rebalance))
    }

    /// Whether one goes on.
    #[must_use]
    pub const fn is_going_on(&self) -> bool {
        self.open.is_some()
    }
}

impl Open {
    fn compare(&mut self, now: &Owners) {
        let same = |partition: &i32| now.get(partition) == self.before.get(partition);
        let (kept, moved) = now.keys().copied().partition(same);
        (self.rebalance.kept, self.rebalance.moved) = (kept, moved);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owners(names: &[Option<&str>]) -> Owners {
        (0..).zip(names.iter().map(|name| name.map(str::to_owned))).collect()
    }

    fn standing(at_ms: i64, before: &Owners) -> Standing<'_> {
        Standing { at_ms, before, protocol: "cooperative", generation: 3 }
    }

    #[test]
    fn a_rebalance_ends_when_all_is_at_rest_and_names_what_moved_and_what_stayed() {
        let before = owners(&[Some("a"), Some("a"), Some("b")]);
        let after = owners(&[Some("a"), Some("c"), Some("b")]);
        let mut log = RebalanceLog::default();
        log.caused(Cause::Joined("c".to_owned()), &standing(1_000, &before));
        log.changed(&standing(1_100, &before));
        log.paused(Pause { partition: 1, milliseconds: 250 }, &standing(1_350, &before));
        assert_eq!(log.settle(&after, false, 9_000), None, "not at rest");
        assert_eq!(log.settle(&after, true, 2_000), None, "not long enough");
        let over = log.settle(&after, true, 3_000).expect("it is over");
        assert_eq!((over.began_ms, over.ended_ms, over.is_over), (1_000, 1_350, true));
        assert_eq!((over.moved.as_slice(), over.kept.as_slice()), ([1].as_slice(), [0, 2].as_slice()));
        assert_eq!(over.longest(), Some(Pause { partition: 1, milliseconds: 250 }));
        assert_eq!(log.all().count(), 1);
    }

    #[test]
    fn a_change_that_leads_to_nothing_is_not_logged() {
        let same = owners(&[Some("a")]);
        let mut log = RebalanceLog::default();
        log.changed(&standing(0, &same));
        assert_eq!(log.settle(&same, true, 9_000), None);
        assert_eq!(log.all().count(), 0);
    }
}
