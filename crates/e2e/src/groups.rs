//! A consumer group as the broker describes it, by the classic protocol's own request.

use std::collections::BTreeMap;
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
