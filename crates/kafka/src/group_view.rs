//! A consumer group seen from outside: who is in it, who owns what, and how far it has committed.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};

use crate::context::Context;
use crate::ffi::{self, GroupDescription};
use crate::tail::Bounds;
use crate::{Error, TopicPartition};

/// Asks about one group; every call blocks, at most the given limit.
pub struct GroupView {
    group: String,
    consumer: BaseConsumer<Context>,
}

impl std::fmt::Debug for GroupView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupView").field("group", &self.group).finish_non_exhaustive()
    }
}

impl GroupView {
    pub(crate) const fn new(group: String, consumer: BaseConsumer<Context>) -> Self {
        Self { group, consumer }
    }

    /// The group's name.
    #[must_use]
    pub fn group(&self) -> &str {
        &self.group
    }

    /// Events that nobody has served: none, or it would grow without end.
    #[must_use]
    pub fn unserved(&self) -> i32 {
        ffi::unserved(&self.consumer)
    }

    /// The group as its coordinator describes it.
    ///
    /// # Errors
    /// [`Error::Doubt`] where the coordinator does not answer, [`Error::Stop`] where a right is missing; so below.
    pub fn describe(&self, limit: Duration) -> Result<GroupDescription, Error> {
        let doing = format!("describe the consumer group {}", self.group);
        let described = ffi::describe_groups(&self.consumer, &[self.group.as_str()], limit);
        let mut described = described.map_err(Error::doubt(doing))?;
        Ok(described.pop().unwrap_or_default())
    }

    /// Committed offsets, of the partitions that have one.
    ///
    /// # Errors
    /// [`Error::Doubt`] where the coordinator does not answer.
    pub fn committed(
        &self,
        partitions: &[TopicPartition],
        limit: Duration,
    ) -> Result<BTreeMap<TopicPartition, i64>, Error> {
        let mut list = TopicPartitionList::new();
        for at in partitions {
            list.add_partition(&at.topic, at.partition);
        }
        let doing = format!("read the offsets of the consumer group {}", self.group);
        let committed = self.consumer.committed_offsets(list, limit).map_err(Error::doubt(doing))?;
        let offsets = committed.elements().into_iter().filter_map(|element| match element.offset() {
            Offset::Offset(offset) => {
                let at = TopicPartition { topic: element.topic().to_owned(), partition: element.partition() };
                Some((at, offset))
            }
            _ => None,
        });
        Ok(offsets.collect())
    }

    /// Number of partitions of a topic; 0 where there is no such topic.
    ///
    /// # Errors
    /// [`Error::Doubt`] where the cluster does not answer.
    pub fn partitions(&self, topic: &str, limit: Duration) -> Result<Vec<TopicPartition>, Error> {
        let doing = format!("look up topic {topic}");
        // Errors of connections come as events, and nobody else serves them.
        while self.consumer.poll(Duration::ZERO).is_some() {}
        let metadata = self.consumer.fetch_metadata(Some(topic), limit).map_err(Error::doubt(doing))?;
        let found = metadata.topics().iter().filter(|found| found.name() == topic);
        Ok(found
            .flat_map(|found| found.partitions())
            .map(|partition| TopicPartition { topic: topic.to_owned(), partition: partition.id() })
            .collect())
    }

    /// Where a partition begins and ends.
    ///
    /// # Errors
    /// [`Error::Doubt`] where its leader does not answer.
    pub fn bounds(&self, at: &TopicPartition, limit: Duration) -> Result<Bounds, Error> {
        let doing = format!("look up the end of {} partition {}", at.topic, at.partition);
        let (start, end) =
            self.consumer.fetch_watermarks(&at.topic, at.partition, limit).map_err(Error::doubt(doing))?;
        Ok(Bounds { start, end })
    }
}
