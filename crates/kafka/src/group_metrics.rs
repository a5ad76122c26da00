//! What a member of a consumer group shows: one set for the enricher and the sink, with their own prefix.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prometheus::{GaugeVec, Histogram, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec};
use service::Metrics;

use crate::{Rebalance, Rebalancing, TopicPartition};

const PAUSE_BUCKETS: [f64; 12] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];

/// Ownership, flow and lag of one member. Series of a partition are there only while it is owned.
#[derive(Debug)]
pub struct GroupMetrics {
    rebalancing: Rebalancing,
    assigned: IntGaugeVec,
    assigned_partitions: IntGauge,
    rebalances: IntCounterVec,
    moved: IntCounterVec,
    rebalance_seconds: Histogram,
    pause_seconds: HistogramVec,
    records: IntCounterVec,
    bytes: IntCounterVec,
    lag: IntGaugeVec,
    time_lag: GaugeVec,
    owned: BTreeSet<TopicPartition>,
    epoch: u64,
    began: Option<Instant>,
    last_record: BTreeMap<TopicPartition, Instant>,
    paused_since: BTreeMap<TopicPartition, Instant>,
}

impl GroupMetrics {
    /// Registers the set as `wiki_<service>_…`.
    #[must_use]
    pub fn new(metrics: &Metrics, service: &str, rebalancing: Rebalancing) -> Self {
        let name = |rest: &str| format!("wiki_{service}_{rest}");
        let partition = ["topic", "partition"];
        let shown = Self {
            rebalancing,
            assigned: metrics.int_gauges(
                &name("partition_assigned"),
                "1 for each partition that is owned.",
                &partition,
            ),
            assigned_partitions: metrics.int_gauge(&name("assigned_partitions"), "Partitions owned; 0 is a standby."),
            rebalances: metrics.counters(
                &name("rebalances_total"),
                "Rebalances seen.",
                "event",
                &["assigned", "revoked", "lost"],
            ),
            moved: metrics.counters(
                &name("partitions_moved_total"),
                "Partitions gained and lost.",
                "direction",
                &["gained", "lost"],
            ),
            rebalance_seconds: metrics.histogram(
                &name("rebalance_duration_seconds"),
                "From the first sign of a rebalance to the new assignment, in seconds.",
                &PAUSE_BUCKETS,
            ),
            pause_seconds: metrics.histograms(
                &name("partition_pause_seconds"),
                "Per partition, from the last record before a rebalance to the first after it, in seconds.",
                &["protocol"],
                &PAUSE_BUCKETS,
            ),
            records: metrics.open_counters(&name("records_consumed_total"), "Records read.", &partition),
            bytes: metrics.open_counters(&name("bytes_consumed_total"), "Bytes of values read.", &partition),
            lag: metrics.int_gauges(&name("partition_lag"), "Records between the next one and the end.", &partition),
            time_lag: metrics.gauges(
                &name("partition_time_lag_seconds"),
                "Age of the next unprocessed record in seconds; 0 where there is none.",
                &partition,
            ),
            owned: BTreeSet::new(),
            epoch: 0,
            began: None,
            last_record: BTreeMap::new(),
            paused_since: BTreeMap::new(),
        };
        // There from the start, so that the first pause is an increase.
        let _ = shown.pause_seconds.with_label_values(&[rebalancing.as_str()]);
        shown
    }

    /// Notes a rebalance, once it has been answered; `took` is how long the answer took.
    pub fn rebalanced(&mut self, rebalance: &Rebalance, took: Duration) {
        let now = Instant::now();
        let began = *self.began.get_or_insert(now.checked_sub(took).unwrap_or(now));
        let event = match rebalance {
            Rebalance::Assigned(_) => "assigned",
            Rebalance::Revoked(_) => "revoked",
            Rebalance::Lost(_) => "lost",
        };
        self.rebalances.with_label_values(&[event]).inc();
        self.paused_since.extend(self.last_record.iter().map(|(at, last)| (at.clone(), *last)));
        let before = self.owned.clone();
        match rebalance {
            Rebalance::Assigned(partitions) => {
                self.gain(partitions);
                // What was revoked and did not come back is another member's pause.
                self.paused_since.retain(|at, _| self.owned.contains(at));
                self.epoch += 1;
                self.rebalance_seconds.observe(began.elapsed().as_secs_f64());
                self.began = None;
            }
            Rebalance::Revoked(partitions) | Rebalance::Lost(partitions) => self.lose(partitions),
        }
        let list = |set: &mut dyn Iterator<Item = &TopicPartition>| {
            set.map(|at| at.partition.to_string()).collect::<Vec<_>>().join(",")
        };
        tracing::info!(
            protocol = self.rebalancing.as_str(),
            event,
            epoch = self.epoch,
            gained = list(&mut self.owned.difference(&before)),
            lost = list(&mut before.difference(&self.owned)),
            kept = list(&mut before.intersection(&self.owned)),
            duration_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            "rebalance"
        );
    }

    fn gain(&mut self, partitions: &[TopicPartition]) {
        for at in partitions {
            let labels = [at.topic.as_str(), &at.partition.to_string()];
            if self.owned.insert(at.clone()) {
                self.moved.with_label_values(&["gained"]).inc();
            }
            self.assigned.with_label_values(&labels).set(1);
            self.lag.with_label_values(&labels).set(0);
            self.time_lag.with_label_values(&labels).set(0.0);
        }
        self.assigned_partitions.set(i64::try_from(self.owned.len()).unwrap_or(i64::MAX));
    }

    fn lose(&mut self, partitions: &[TopicPartition]) {
        for at in partitions {
            let labels = [at.topic.as_str(), &at.partition.to_string()];
            if self.owned.remove(at) {
                self.moved.with_label_values(&["lost"]).inc();
            }
            self.last_record.remove(at);
            // A series that is gone already is what is wanted.
            let _ = self.assigned.remove_label_values(&labels);
            let _ = self.lag.remove_label_values(&labels);
            let _ = self.time_lag.remove_label_values(&labels);
        }
        self.assigned_partitions.set(i64::try_from(self.owned.len()).unwrap_or(i64::MAX));
    }

    /// Notes records read from a partition.
    pub fn read(&mut self, at: &TopicPartition, records: u64, bytes: u64) {
        let labels = [at.topic.as_str(), &at.partition.to_string()];
        self.records.with_label_values(&labels).inc_by(records);
        self.bytes.with_label_values(&labels).inc_by(bytes);
        let now = Instant::now();
        if let Some(since) = self.paused_since.remove(at) {
            let pause = now.duration_since(since).as_secs_f64();
            self.pause_seconds.with_label_values(&[self.rebalancing.as_str()]).observe(pause);
            tracing::info!(partition = at.partition, pause_seconds = pause, "partition resumed");
        }
        self.last_record.insert(at.clone(), now);
    }

    /// Shows how far a partition is behind: `records` left, the next of them appended at `next_at_ms`.
    pub fn lagging(&self, at: &TopicPartition, records: i64, next_at_ms: Option<i64>) {
        if !self.owned.contains(at) {
            return;
        }
        let labels = [at.topic.as_str(), &at.partition.to_string()];
        self.lag.with_label_values(&labels).set(records.max(0));
        let age = next_at_ms.filter(|_| records > 0).map_or(0.0, seconds_since);
        self.time_lag.with_label_values(&labels).set(age);
    }

    /// The partitions that are owned now.
    #[must_use]
    pub const fn owned(&self) -> &BTreeSet<TopicPartition> {
        &self.owned
    }
}

/// Seconds from a Unix time in milliseconds to now; 0 for the future.
#[must_use]
pub fn seconds_since(unix_ms: i64) -> f64 {
    seconds_between(unix_ms, SystemTime::now())
}

fn seconds_between(unix_ms: i64, now: SystemTime) -> f64 {
    let then = Duration::from_millis(u64::try_from(unix_ms).unwrap_or(0));
    now.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(then).as_secs_f64()
}

/// Observes how long ago each of these times was, Unix milliseconds: the clock is read once for all of them.
pub fn observe_since(histogram: &Histogram, unix_ms: impl Iterator<Item = i64>) {
    let (local, now) = (histogram.local(), SystemTime::now());
    unix_ms.for_each(|then| local.observe(seconds_between(then, now)));
    local.flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_that_is_revoked_and_comes_back_shows_its_pause() {
        let metrics = Metrics::new("test");
        let mut group = GroupMetrics::new(&metrics, "sink", Rebalancing::Eager);
        let at = |partition| TopicPartition { topic: "t".to_owned(), partition };
        let both = vec![at(0), at(1)];
        group.rebalanced(&Rebalance::Assigned(both.clone()), Duration::ZERO);
        for partition in &both {
            group.read(partition, 1, 1);
        }
        // Eager: everything is revoked, and one of the two comes back.
        group.rebalanced(&Rebalance::Revoked(both), Duration::ZERO);
        group.rebalanced(&Rebalance::Assigned(vec![at(0)]), Duration::ZERO);
        group.read(&at(0), 1, 1);
        group.rebalanced(&Rebalance::Assigned(vec![at(1)]), Duration::ZERO);
        group.read(&at(1), 1, 1);
        let shown = metrics.render();
        assert!(shown.contains("wiki_sink_partition_pause_seconds_count{protocol=\"eager\"} 1"), "{shown}");
    }
}
