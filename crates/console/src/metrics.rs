//! What the console service shows: the groups' truth as the broker has it, which outlives every sink.

use kafka::TopicPartition;
use prometheus::{Gauge, HistogramVec, IntCounterVec, IntGaugeVec};
use service::Metrics;

use crate::picture::{Change, Picture, Progress, STATES};

const HANDOVER: [f64; 10] = [0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 8.0, 30.0];

/// The metrics of the groups.
#[derive(Clone, Debug)]
pub struct ConsoleMetrics {
    state: IntGaugeVec,
    reassignments: IntCounterVec,
    members: IntGaugeVec,
    idle: IntGaugeVec,
    unassigned: IntGaugeVec,
    pending_moves: IntGaugeVec,
    joins: IntCounterVec,
    departures: IntCounterVec,
    partitions: PartitionMetrics,
    /// Age of the oldest picture that is shown.
    pub snapshot_age: Gauge,
    /// What only the sinks' words tell.
    pub words: WordMetrics,
}

/// What only the sinks' words tell, about their group.
#[derive(Clone, Debug)]
pub struct WordMetrics {
    /// Generation of the sinks' group, by their words.
    pub generation: IntGaugeVec,
    /// Partitions on which sinks and broker disagree.
    pub conflicts: IntGaugeVec,
    /// Sinks that ended in order, and sinks that did not.
    pub leaves: IntCounterVec,
    /// See `leaves`.
    pub losses: IntCounterVec,
    /// How long partitions stood still.
    pub handover: HistogramVec,
}

#[derive(Clone, Debug)]
struct PartitionMetrics {
    lag: IntGaugeVec,
    committed: IntGaugeVec,
    end: IntGaugeVec,
    start: IntGaugeVec,
    margin: IntGaugeVec,
}

impl ConsoleMetrics {
    /// Registers them, with every series of these groups that is known beforehand.
    #[must_use]
    pub fn new(metrics: &Metrics, groups: &[&str]) -> Self {
        let shown = Self {
            state: metrics.int_gauges("wiki_group_state", "1 for the state that the group is in.", &["group", "state"]),
            reassignments: metrics.open_counters(
                "wiki_group_reassignments_total",
                "Looks at which somebody owned something else than at the look before.",
                &["group"],
            ),
            members: metrics.int_gauges("wiki_group_members", "Members of the group.", &["group"]),
            idle: metrics.int_gauges("wiki_group_idle_members", "Members that own no partition.", &["group"]),
            unassigned: metrics.int_gauges(
                "wiki_group_unassigned_partitions",
                "Partitions that no member owns.",
                &["group", "topic"],
            ),
            pending_moves: metrics.int_gauges(
                "wiki_group_pending_moves",
                "Partitions that are to have another owner (KIP-848).",
                &["group"],
            ),
            joins: metrics.open_counters("wiki_group_member_joins_total", "Members that came.", &["group"]),
            departures: metrics.open_counters(
                "wiki_group_member_departures_total",
                "Members that left or were lost.",
                &["group"],
            ),
            partitions: PartitionMetrics::new(metrics),
            snapshot_age: metrics
                .gauge("wiki_console_snapshot_age_seconds", "Age of the oldest picture that is shown, in seconds."),
            words: WordMetrics::new(metrics, groups.first().copied().unwrap_or_default()),
        };
        for group in groups {
            for counters in [&shown.reassignments, &shown.joins, &shown.departures] {
                counters.with_label_values(&[group]).inc_by(0);
            }
        }
        shown
    }

    /// Shows one group.
    pub fn show(&self, group: &str, topic: &str, picture: &Picture, change: Change) {
        for state in STATES {
            self.state.with_label_values(&[group, state]).set((picture.state() == state).into());
        }
        let set = |gauges: &IntGaugeVec, labels: &[&str], value: usize| {
            gauges.with_label_values(labels).set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        set(&self.members, &[group], picture.described.members.len());
        set(&self.idle, &[group], picture.idle());
        set(&self.unassigned, &[group, topic], picture.unowned());
        set(&self.pending_moves, &[group], picture.pending_moves());
        self.joins.with_label_values(&[group]).inc_by(change.joined as u64);
        self.departures.with_label_values(&[group]).inc_by(change.departed as u64);
        self.reassignments.with_label_values(&[group]).inc_by(change.is_reassigned.into());
        for (at, progress) in &picture.partitions {
            self.partitions.show(group, at, progress);
        }
    }
}

impl WordMetrics {
    fn new(metrics: &Metrics, group: &str) -> Self {
        let shown = Self {
            generation: metrics.int_gauges(
                "wiki_group_epoch",
                "Generation or epoch of the group, by its sinks' words; below 0 before there is one.",
                &["group"],
            ),
            conflicts: metrics.int_gauges(
                "wiki_group_ownership_conflicts",
                "Partitions on which the sinks' words and the broker's have differed for 2 s.",
                &["group"],
            ),
            leaves: metrics.open_counters(
                "wiki_group_member_leaves_total",
                "Sinks that ended in order, by their own words.",
                &["group"],
            ),
            losses: metrics.open_counters(
                "wiki_group_member_losses_total",
                "Sinks that ended without a word.",
                &["group"],
            ),
            handover: metrics.histograms(
                "wiki_group_partition_handover_seconds",
                "From a partition's release, or its owner's last word, to the next owner's word, in seconds.",
                &["protocol"],
                &HANDOVER,
            ),
        };
        for protocol in kafka::Rebalancing::ALL {
            shown.handover.with_label_values(&[protocol.as_str()]);
        }
        shown.conflicts.with_label_values(&[group]).set(0);
        for counters in [&shown.leaves, &shown.losses] {
            counters.with_label_values(&[group]).inc_by(0);
        }
        shown
    }
}

impl PartitionMetrics {
    fn new(metrics: &Metrics) -> Self {
        let gauges = |name: &str, help: &str| metrics.int_gauges(name, help, &["group", "topic", "partition"]);
        Self {
            lag: gauges(
                "wiki_group_partition_lag",
                "Records that the group has not committed; markers of transactions count.",
            ),
            committed: gauges("wiki_group_partition_committed_offset", "Offset that the group committed."),
            end: gauges("wiki_group_partition_end_offset", "Offset behind the last record."),
            start: gauges("wiki_group_partition_start_offset", "First offset that retention left."),
            margin: gauges(
                "wiki_group_retention_margin_records",
                "Records between what retention took and what the group committed; below 0 some are lost.",
            ),
        }
    }

    fn show(&self, group: &str, at: &TopicPartition, progress: &Progress) {
        let partition = at.partition.to_string();
        let labels = [group, at.topic.as_str(), partition.as_str()];
        let Progress { start, end, committed } = *progress;
        self.lag.with_label_values(&labels).set(progress.lag());
        self.start.with_label_values(&labels).set(start);
        self.end.with_label_values(&labels).set(end);
        if let (Some(committed), Some(margin)) = (committed, progress.retention_margin()) {
            self.committed.with_label_values(&labels).set(committed);
            self.margin.with_label_values(&labels).set(margin);
        }
    }
}
