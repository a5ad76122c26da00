//! A consumer group seen from outside: who is in it, who owns what, and how far it has committed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use crate::context::Context;
use crate::ffi::{self, Asked, GroupDescription};
use crate::tail::Bounds;
use crate::{Error, Kafka, TopicPartition};

/// A question that is open for longer is asked anew, by a new client: nothing else may wake it up.
const ASK_ANEW: Duration = Duration::from_secs(5);

/// A topic, and the cluster that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicView {
    /// Its partitions.
    pub partitions: Vec<TopicPartition>,
    /// Brokers that are there.
    pub brokers_up: usize,
    /// Brokers that should be: they are there, or hold copies of the topic.
    pub brokers_known: usize,
}

/// Asks about one group; every call blocks, at most the given limit.
pub struct GroupView {
    group: String,
    kafka: Kafka,
    /// The description that has been asked for and has not come. Dropped before the client.
    asked: Option<Asked>,
    consumer: BaseConsumer<Context>,
}

impl std::fmt::Debug for GroupView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupView").field("group", &self.group).finish_non_exhaustive()
    }
}

impl GroupView {
    pub(crate) fn new(group: String, kafka: Kafka) -> Result<Self, Error> {
        let consumer = kafka.view_client(&group)?;
        Ok(Self { group, kafka, asked: None, consumer })
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

    /// The group as its coordinator describes it now.
    ///
    /// # Errors
    /// [`Error::TimedOut`] where the coordinator does not answer, [`Error::Doubt`] where it refuses for now.
    pub fn describe(&mut self, limit: Duration) -> Result<GroupDescription, Error> {
        let doing = format!("describe the consumer group {}", self.group);
        let deadline = Instant::now() + limit;
        if self.asked.as_ref().is_some_and(|asked| asked.since().elapsed() > ASK_ANEW) {
            self.asked = None;
            self.consumer = self.kafka.view_client(&self.group)?;
        }
        // An answer that comes late tells of then; only when it has come may the next question be asked.
        let is_open = self.asked.as_ref().is_some_and(|asked| asked.answer(limit).is_none());
        if !is_open {
            let asked = Asked::about(&self.consumer, &self.group).map_err(Error::doubt(doing.clone()))?;
            let left = deadline.saturating_duration_since(Instant::now());
            if let Some(described) = self.asked.insert(asked).answer(left) {
                self.asked = None;
                // librdkafka remembers for minutes who coordinates, and goes on asking him after he says that he does not.
                if matches!(described, Err(KafkaError::AdminOp(RDKafkaErrorCode::NotCoordinator))) {
                    self.consumer = self.kafka.view_client(&self.group)?;
                }
                return described.map_err(Error::doubt(doing));
            }
        }
        Err(self.judge(Error::TimedOut { doing: doing.clone(), seconds: limit.as_secs() }, &doing))
    }

    /// Where a right to the group is missing librdkafka says so in an event, and its calls only wait.
    fn judge(&self, error: Error, doing: &str) -> Error {
        while self.consumer.poll(Duration::ZERO).is_some() {}
        self.consumer.context().refusal().map_or(error, |reason| {
            Error::Stop(format!("{doing}: Kafka refuses it: {reason} Give this service's principal the right (an ACL)"))
        })
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
        let committed = self.consumer.committed_offsets(list, limit);
        let committed = committed.map_err(|error| self.judge(Error::doubt(doing.clone())(error), &doing))?;
        let offsets = committed.elements().into_iter().filter_map(|element| match element.offset() {
            Offset::Offset(offset) => {
                let at = TopicPartition { topic: element.topic().to_owned(), partition: element.partition() };
                Some((at, offset))
            }
            _ => None,
        });
        Ok(offsets.collect())
    }

    /// A topic and the cluster that holds it; no partitions where there is no such topic.
    ///
    /// # Errors
    /// [`Error::Doubt`] where the cluster does not answer.
    pub fn topic(&self, topic: &str, limit: Duration) -> Result<TopicView, Error> {
        let doing = format!("look up topic {topic}");
        // Errors of connections come as events, and nobody else serves them.
        while self.consumer.poll(Duration::ZERO).is_some() {}
        let metadata = self.consumer.fetch_metadata(Some(topic), limit).map_err(Error::doubt(doing))?;
        let found =
            || metadata.topics().iter().filter(|found| found.name() == topic).flat_map(|found| found.partitions());
        let up: BTreeSet<i32> = metadata.brokers().iter().map(|broker| broker.id()).collect();
        let known = found().flat_map(|partition| partition.replicas()).chain(&up).collect::<BTreeSet<_>>().len();
        let partitions = found().map(|partition| TopicPartition { topic: topic.to_owned(), partition: partition.id() });
        Ok(TopicView { partitions: partitions.collect(), brokers_up: up.len(), brokers_known: known })
    }

    /// Where a partition begins and ends.
    ///
    /// # Errors
    /// [`Error::Doubt`] where its leader does not answer.
    pub fn bounds(&self, at: &TopicPartition, limit: Duration) -> Result<Bounds, Error> {
        Bounds::of(&self.consumer, &at.topic, at.partition, limit)
    }
}
