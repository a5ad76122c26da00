//! The board as JSON: what the page, `wiki top` and scripts read.

use serde::{Deserialize, Serialize};

use super::rebalances::{Pause, Rebalance};
use super::replica::{End, Hearing, Replica};
use super::tile::TileState;
use super::timeline::{LENGTH_MS, Span};
use super::{Board, FLAPPING_MOVES};

/// Rebalances shown.
const REBALANCES: usize = 50;

/// The board at one moment.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct BoardView {
    /// The sinks' consumer group.
    pub group: GroupView,
    /// Sinks, by letter.
    pub replicas: Vec<ReplicaView>,
    /// Partitions, by number.
    pub partitions: Vec<PartitionView>,
    /// The last rebalances, the oldest first; the last may go on.
    pub rebalances: Vec<RebalanceView>,
    /// Ten minutes of ownership.
    pub timeline: Vec<TimelineView>,
}

/// The consumer group.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct GroupView {
    /// The coordinator's word: `stable`, `preparing_rebalance`, `assigning`, …; `unknown` before the first look.
    pub state: String,
    /// `cooperative`, `eager` or `consumer`; empty where no sink said so.
    pub protocol: String,
    /// The generation that the sinks know; negative before there is one.
    pub generation: i32,
    /// Members that the broker lists.
    pub members: usize,
    /// The topic whose partitions these are.
    pub topic: String,
    /// When the broker was asked last, Unix milliseconds.
    pub looked_ms: Option<i64>,
    /// When a sink was heard last, Unix milliseconds.
    pub heard_ms: Option<i64>,
}

/// What a sink's card says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplicaState {
    /// Not in the group yet.
    Joining,
    /// It owns partitions, or is about to.
    Stable,
    /// In the group, with nothing to do: more sinks than partitions.
    Standby,
    /// It owns partitions and is slowed on purpose.
    Slow,
    /// Not heard of for seconds; the group still counts on it.
    Silent,
    /// It ended in order.
    Left,
    /// It ended without a word.
    Lost,
    /// The broker lists it, and it says nothing to us.
    Unheard,
}

/// A sink.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ReplicaView {
    /// Its name.
    pub name: String,
    /// Its letter.
    pub letter: String,
    /// What its card says.
    pub state: ReplicaState,
    /// When it started, Unix milliseconds of its own clock; 0 where it does not say.
    pub started_ms: i64,
    /// When it was heard last.
    pub heard_ms: i64,
    /// Edits stored a second.
    pub rate: f64,
    /// Edits stored since its start.
    pub stored: u64,
    /// Edits waiting for their write, and how many may.
    pub buffered: u64,
    /// See `buffered`.
    pub buffer_limit: u64,
    /// What keeps it from storing; empty where nothing does.
    pub trouble: String,
    /// Where it connects from, as the broker sees it.
    pub host: String,
}

/// A partition.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct PartitionView {
    /// Its number.
    pub partition: i32,
    /// What its tile shows.
    pub state: TileState,
    /// Everybody who is said to own it: one, unless it is disputed or nobody does.
    pub owners: Vec<String>,
    /// Who is to own it next, where that is known.
    pub target: Option<String>,
    /// Since when it shows this, Unix milliseconds.
    pub since_ms: i64,
    /// Since when it stands still; null where it does not.
    pub still_since_ms: Option<i64>,
    /// Records behind the end, as its owner sees it.
    pub lag: i64,
    /// First offset that is there.
    pub start: i64,
    /// Offset behind the last.
    pub end: i64,
    /// What the group committed; null where it never did.
    pub committed: Option<i64>,
    /// It moved more than three times within five minutes.
    pub is_flapping: bool,
}

/// A rebalance of the log.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct RebalanceView {
    /// What was logged.
    #[serde(flatten)]
    pub rebalance: Rebalance,
    /// Milliseconds from the first change to the last.
    pub duration_ms: i64,
    /// The longest pause; null where nothing stood still.
    pub longest: Option<Pause>,
}

impl From<&Rebalance> for RebalanceView {
    fn from(rebalance: &Rebalance) -> Self {
        Self {
            duration_ms: rebalance.ended_ms - rebalance.began_ms,
            longest: rebalance.longest(),
            rebalance: rebalance.clone(),
        }
    }
}

/// A partition's timeline.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct TimelineView {
    /// The partition.
    pub partition: i32,
    /// Stretches, the oldest first; each lasts until the next.
    pub spans: Vec<Span>,
}

impl Board {
    /// The board as it stands.
    #[must_use]
    pub fn view(&self, now_ms: i64) -> BoardView {
        let skipped = self.log.all().count().saturating_sub(REBALANCES);
        BoardView {
            group: self.group_view(),
            replicas: self.replica_views(now_ms),
            partitions: self.tiles.keys().map(|partition| self.partition_view(*partition)).collect(),
            rebalances: self.log.all().skip(skipped).map(RebalanceView::from).collect(),
            timeline: self.timeline_views(now_ms),
        }
    }

    /// Every rebalance that is known, the oldest first.
    pub fn rebalances(&self) -> impl Iterator<Item = RebalanceView> {
        self.log.all().map(RebalanceView::from)
    }

    fn group_view(&self) -> GroupView {
        GroupView {
            state: self.look.as_ref().map_or("unknown", |_| self.picture.state()).to_owned(),
            protocol: self.protocol.clone(),
            generation: self.generation(),
            members: self.look.as_ref().map_or(0, |look| look.described.members.len()),
            topic: self.topic.clone(),
            looked_ms: self.look.as_ref().map(|look| look.at_ms),
            heard_ms: self.replicas.values().map(|replica| replica.heard_ms).max(),
        }
    }

    fn replica_views(&self, now_ms: i64) -> Vec<ReplicaView> {
        let shown = self.replicas.iter().filter(|(_, replica)| replica.is_shown(now_ms));
        let mut views: Vec<ReplicaView> =
            shown.map(|(name, replica)| self.replica_view(name, replica, now_ms)).collect();
        let members = self.look.iter().flat_map(|look| &look.described.members);
        for member in members {
            let name = self.name_of(&member.id, &member.client_id);
            if !views.iter().any(|view| view.name == name) && !self.former.contains_key(&member.id) {
                views.push(ReplicaView {
                    state: ReplicaState::Unheard,
                    host: member.host.clone(),
                    ..self.unheard_view(name)
                });
            }
        }
        views.sort_by_cached_key(|view| (view.letter.len(), view.letter.clone(), view.name.clone()));
        views
    }

    fn unheard_view(&self, name: &str) -> ReplicaView {
        ReplicaView {
            name: name.to_owned(),
            letter: self.letters.of(name).unwrap_or_default(),
            state: ReplicaState::Unheard,
            started_ms: 0,
            heard_ms: 0,
            rate: 0.0,
            stored: 0,
            buffered: 0,
            buffer_limit: 0,
            trouble: String::new(),
            host: String::new(),
        }
    }

    fn replica_view(&self, name: &str, replica: &Replica, now_ms: i64) -> ReplicaView {
        let member = self.look.iter().flat_map(|look| &look.described.members);
        let host = member.clone().find(|member| member.id == replica.status.member);
        let status = &replica.status;
        ReplicaView {
            state: self.replica_state(replica, self.hearing(now_ms)),
            started_ms: status.started_at_ms,
            heard_ms: replica.heard_ms,
            rate: replica.rate(self.hearing(now_ms)),
            stored: status.stored,
            buffered: status.buffered,
            buffer_limit: status.buffer_limit,
            trouble: status.trouble.clone(),
            host: host.map(|member| member.host.clone()).unwrap_or_default(),
            ..self.unheard_view(name)
        }
    }

    fn replica_state(&self, replica: &Replica, hearing: Hearing) -> ReplicaState {
        match replica.ended {
            Some((End::Left, _)) => return ReplicaState::Left,
            Some((End::Lost, _)) => return ReplicaState::Lost,
            None if !replica.is_speaking(hearing) => return ReplicaState::Silent,
            None => {}
        }
        let is_listed = self.look.as_ref().is_some_and(|look| look.lists(&replica.status.member));
        let owns = !replica.status.owned.is_empty();
        match (owns, is_listed) {
            (true, _) if replica.status.is_slowed => ReplicaState::Slow,
            (true, _) => ReplicaState::Stable,
            (false, true) if !self.log.is_going_on() => ReplicaState::Standby,
            (false, _) => ReplicaState::Joining,
        }
    }

    fn partition_view(&self, partition: i32) -> PartitionView {
        let tile = self.tiles.get(&partition).cloned().unwrap_or_default();
        let progress = self.picture.partitions.iter().find(|(at, _)| at.partition == partition);
        let progress = progress.map(|(_, progress)| *progress).unwrap_or_default();
        let owner = tile.ownership.owners.first().and_then(|owner| self.replicas.get(owner));
        let told = owner.and_then(|owner| owner.status.owned.iter().find(|owned| owned.partition == partition));
        PartitionView {
            partition,
            state: tile.ownership.state,
            owners: tile.ownership.owners,
            target: tile.ownership.target,
            since_ms: tile.since_ms,
            still_since_ms: tile.still_since_ms,
            // Nobody counts for a partition without an owner: what is not committed is behind.
            lag: told.map_or_else(|| progress.lag(), |told| told.lag),
            start: progress.start,
            end: progress.end,
            committed: progress.committed,
            is_flapping: tile.moves.len() > FLAPPING_MOVES,
        }
    }

    fn timeline_views(&self, now_ms: i64) -> Vec<TimelineView> {
        let horizon = now_ms - LENGTH_MS;
        let timelines = self.timeline.all().map(|(partition, spans)| {
            let first = spans.iter().rposition(|span| span.from_ms <= horizon).unwrap_or(0);
            TimelineView { partition, spans: spans.iter().skip(first).cloned().collect() }
        });
        timelines.collect()
    }
}
