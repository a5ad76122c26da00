//! The topics, and retention over all of them.

use std::collections::{BTreeMap, HashMap};

use kafka_protocol::ResponseError;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::limits;
use crate::log::Log;
use crate::settings::DEFAULT_MOST_BATCH_BYTES;

/// The topics, and what bounds them together.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    by_name: BTreeMap<StrBytes, Topic>,
    stamps: u64,
}

/// One topic.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) id: Uuid,
    pub(crate) partitions: Vec<Log>,
    pub(crate) settings: HashMap<StrBytes, StrBytes>,
}

impl Topic {
    pub(crate) fn new(partitions: usize, settings: HashMap<StrBytes, StrBytes>) -> Self {
        Self {
            id: Uuid::new_v4(),
            partitions: std::iter::repeat_with(Log::default).take(partitions).collect(),
            settings,
        }
    }

    /// Whether the broker stamps records, instead of the producer.
    pub(crate) fn uses_append_time(&self) -> bool {
        self.setting("message.timestamp.type") == Some("LogAppendTime")
    }

    /// Bytes of one batch at most.
    pub(crate) fn most_batch_bytes(&self) -> usize {
        let limit = self.setting("max.message.bytes").unwrap_or(DEFAULT_MOST_BATCH_BYTES);
        limit.parse().unwrap_or(usize::MAX)
    }

    fn retention_bytes(&self) -> Option<usize> {
        self.setting("retention.bytes")?.parse().ok()
    }

    fn setting(&self, name: &str) -> Option<&str> {
        self.settings.get(&StrBytes::from_string(name.to_owned())).map(StrBytes::as_str)
    }
}

impl Topics {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&StrBytes, &Topic)> {
        self.by_name.iter()
    }

    pub(crate) fn get(&self, name: &StrBytes) -> Option<&Topic> {
        self.by_name.get(name)
    }

    pub(crate) fn get_mut(&mut self, name: &StrBytes) -> Option<&mut Topic> {
        self.by_name.get_mut(name)
    }

    pub(crate) fn by_id(&self, id: Uuid) -> Option<(&StrBytes, &Topic)> {
        self.by_name.iter().find(|(_, topic)| topic.id == id)
    }

    pub(crate) fn insert(&mut self, name: StrBytes, topic: Topic) {
        self.by_name.insert(name, topic);
    }

    pub(crate) fn remove(&mut self, name: &StrBytes) -> Option<Topic> {
        self.by_name.remove(name)
    }

    /// One partition's log.
    pub(crate) fn log(&self, name: &StrBytes, partition: i32) -> Result<&Log, ResponseError> {
        let partitions = self.get(name).map(|topic| &topic.partitions);
        let index = usize::try_from(partition).map_err(|_| ResponseError::UnknownTopicOrPartition)?;
        partitions.and_then(|logs| logs.get(index)).ok_or(ResponseError::UnknownTopicOrPartition)
    }

    /// One partition's log, to be written.
    pub(crate) fn log_mut(&mut self, name: &StrBytes, partition: i32) -> Result<&mut Log, ResponseError> {
        let index = usize::try_from(partition).map_err(|_| ResponseError::UnknownTopicOrPartition)?;
        let topic = self.get_mut(name).ok_or(ResponseError::UnknownTopicOrPartition)?;
        topic.partitions.get_mut(index).ok_or(ResponseError::UnknownTopicOrPartition)
    }

    /// The next place in the order of all appends.
    pub(crate) const fn next_stamp(&mut self) -> u64 {
        self.stamps += 1;
        self.stamps
    }

    /// Partitions of all topics.
    pub(crate) fn partitions(&self) -> usize {
        self.by_name.values().map(|topic| topic.partitions.len()).sum()
    }

    /// Forgets producers that have written nothing for long, where too many are remembered.
    fn bound_producers(&mut self) {
        let logs = || self.by_name.values().flat_map(|topic| &topic.partitions);
        let mut producers: usize = logs().map(Log::producers).sum();
        while producers > limits::PRODUCERS {
            let logs = self.by_name.values_mut().flat_map(|topic| &mut topic.partitions);
            let Some(most) = logs.max_by_key(|log| log.producers()) else { return };
            let before = most.producers();
            most.forget_producers();
            if most.producers() == before {
                return;
            }
            producers -= before - most.producers();
        }
    }

    /// Drops the oldest batches: per partition past `retention.bytes`, over all past `max_bytes`. False where open
    /// transactions keep more than that.
    pub(crate) fn enforce_retention(&mut self, name: &StrBytes, max_bytes: usize) -> bool {
        self.bound_producers();
        if let Some(topic) = self.by_name.get_mut(name)
            && let Some(limit) = topic.retention_bytes()
        {
            for log in &mut topic.partitions {
                while log.bytes() > limit && log.may_shrink() {
                    log.drop_oldest();
                }
            }
        }
        let mut total: usize = self.by_name.values().flat_map(|topic| &topic.partitions).map(Log::cost).sum();
        while total > max_bytes {
            let logs = self.by_name.values_mut().flat_map(|topic| &mut topic.partitions);
            let oldest = logs.filter_map(|log| Some((log.oldest_stamp()?, log))).min_by_key(|(stamp, _)| *stamp);
            let Some((_, log)) = oldest else { return false };
            let before = log.cost();
            log.drop_oldest();
            total -= before - log.cost();
        }
        true
    }
}
