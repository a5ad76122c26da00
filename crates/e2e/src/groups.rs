//! A consumer group as the broker describes it, by the classic protocol's own request.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};

const ANSWER: Duration = Duration::from_secs(5);

/// Partitions of a topic by their owner's client id, members without one included; `None` where the group is not at
/// rest.
#[must_use]
pub fn owners(bootstrap: &str, group: &str, topic: &str) -> Option<BTreeMap<String, Vec<i32>>> {
    let reader: BaseConsumer = ClientConfig::new().set("bootstrap.servers", bootstrap).create().ok()?;
    let listed = reader.fetch_group_list(Some(group), ANSWER).ok()?;
    let found = listed.groups().iter().find(|found| found.name() == group && found.state() == "Stable")?;
    let members = found.members().iter();
    Some(
        members
            .map(|member| (member.client_id().to_owned(), partitions(member.assignment().unwrap_or_default(), topic)))
            .collect(),
    )
}

/// Partitions of a topic in a consumer's assignment: version, then topics with their partitions, big-endian.
fn partitions(assignment: &[u8], topic: &str) -> Vec<i32> {
    let mut at = 2;
    let mut take = |length: usize| {
        let bytes = assignment.get(at..at + length)?;
        at += length;
        Some(bytes)
    };
    let number = |bytes: &[u8]| bytes.iter().fold(0_i32, |number, byte| (number << 8) | i32::from(*byte));
    let mut found = Vec::new();
    for _ in 0..take(4).map_or(0, number) {
        let length = take(2).map_or(0, number);
        let name = take(usize::try_from(length).unwrap_or(0)).unwrap_or_default().to_vec();
        for _ in 0..take(4).map_or(0, number) {
            let partition = take(4).map_or(-1, number);
            if name == topic.as_bytes() {
                found.push(partition);
            }
        }
    }
    found.sort_unstable();
    found
}

/// Others in the sinks' group, by the eager protocol, who store nothing; the group's order has them before `sink-1`.
pub struct Strangers(pub Vec<BaseConsumer>);

impl Strangers {
    /// They ask to be let in.
    ///
    /// # Panics
    /// Where they cannot.
    #[must_use]
    pub fn join(bootstrap: &str, numbers: Range<usize>) -> Self {
        let stranger = |number: usize| {
            let consumer: BaseConsumer = ClientConfig::new()
                .set("bootstrap.servers", bootstrap)
                .set("group.id", "wiki-sink")
                .set("client.id", format!("a-stranger-{number}"))
                .set("partition.assignment.strategy", "range")
                .set("heartbeat.interval.ms", "300")
                .create()
                .unwrap();
            consumer.subscribe(&["wikipedia-events"]).unwrap();
            consumer
        };
        Self(numbers.map(stranger).collect())
    }

    /// They take part; how many partitions are left to `sink-1`, once the group is at rest with all of them in it.
    #[must_use]
    pub fn left_to_the_sink(&self, bootstrap: &str) -> Option<usize> {
        self.0.iter().for_each(|stranger| drop(stranger.poll(Duration::from_millis(5))));
        let owners = owners(bootstrap, "wiki-sink", "wikipedia-events")?;
        (owners.len() > self.0.len()).then(|| owners.get("sink-1").map_or(0, Vec::len))
    }
}
