//! Where a partition continues: fence the predecessor, then read how far it came. Blocks.

use kafka::{Error, FencedWriter, TopicPartition};
use schema::record::EventHeaders;
use uuid::Uuid;

use crate::context::Context;
use crate::position::{Logs, Position};

/// Everything that a partition begins with.
pub struct Recovered {
    /// The predecessor is fenced.
    pub writer: FencedWriter,
    /// Where it ended.
    pub position: Position,
    /// The id of the raw topic.
    pub topic_id: Uuid,
}

/// Fences the predecessor of a partition, and gives the writer and the position.
///
/// # Errors
/// [`Error::Doubt`] where the cluster does not answer: try again. [`Error::Stop`] where a person must act.
pub fn recover(context: &Context, at: &TopicPartition) -> Result<Recovered, Error> {
    let TopicPartition { topic, partition } = at;
    let events_topic = &context.topics.events;
    let id = context.config.kafka.prefixed(&format!("wiki-enricher-{topic}-{partition}"));
    // In this order: what the predecessor still sends can no longer be committed.
    let writer = context.kafka.fenced_writer(&id)?;
    let tail = context.kafka.tail()?;
    let (raw, events) = (tail.partitions(topic)?, tail.partitions(events_topic)?);
    if raw != events {
        return Err(Error::Stop(format!(
            "{topic} has {raw:?} partitions and {events_topic} has {events:?}: give both the same number"
        )));
    }
    // What others wrote there is stepped over.
    let last = tail.last_own_records(events_topic, &[*partition], EventHeaders::is_on)?.remove(partition);
    let last = last.as_ref().and_then(|record| EventHeaders::read(record).ok());
    let committed = context.member.committed(std::slice::from_ref(at))?;
    let committed = committed.first().map(|(_, offset, metadata)| (*offset, metadata.as_str()));
    let topic_id = tail.topic_id(topic)?;
    if let Some(before) = committed.and_then(|(_, metadata)| Position::topic_of(metadata)).filter(|id| *id != topic_id)
    {
        return Err(Error::Stop(format!(
            "{topic} was deleted and created again (its id was {before}, and is {topic_id}): its offsets mean other records; \
             give the pipeline a fresh WIKI_TOPIC_PREFIX, or delete {events_topic} and the group {} as well",
            context.member.group()
        )));
    }
    let bounds = tail.bounds(topic, *partition)?;
    let output_end = tail.bounds(events_topic, *partition)?.end;
    let position = Position::recover(last.as_ref(), committed, Logs { input_start: bounds.start, output_end });
    if position.next_input > bounds.end {
        return Err(Error::Stop(format!(
            "{topic} partition {partition} ends at offset {}, and the next one to map is {}: the topic was cut or created \
             again; restore it, or give the pipeline a fresh WIKI_TOPIC_PREFIX",
            bounds.end, position.next_input
        )));
    }
    if position.is_base {
        tracing::warn!(
            partition,
            seq = position.next_seq,
            "{events_topic} was emptied and no record says where its sequence ended: it continues at the log's end, and \
             what the raw topic holds is mapped again"
        );
    }
    if position.expected_raw_seq.is_none() {
        tracing::info!(partition, offset = position.next_input, "no position on an aged topic: begins at its start");
    }
    Ok(Recovered { writer, position, topic_id })
}
