//! Produce, offsets by time, and deleting records.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{
    DeleteRecordsRequest, DeleteRecordsResponse, ListOffsetsRequest, ListOffsetsResponse, ProduceRequest,
    ProduceResponse, TransactionalId,
    delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult},
    list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse},
    produce_request::PartitionProduceData,
    produce_response::{PartitionProduceResponse, TopicProduceResponse},
};
use kafka_protocol::protocol::StrBytes;

use crate::batch::{self, BadBatch};
use crate::catalog::Topic;
use crate::limits::Refused;
use crate::log::Appended;
use crate::requests::transactions;
use crate::state::{Shared, State};
use crate::time::now_ms;

/// The isolation level of a reader that sees no open and no aborted transaction.
pub(crate) const READ_COMMITTED: i8 = 1;
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const GREATEST_TIME: i64 = -3;
/// How far a producer's time may be ahead of the broker's, as Apache Kafka has it since version 4.
const MOST_AHEAD_MS: i64 = 3_600_000;

/// Appends; `None` where the client wants no answer (`acks=0`).
pub(crate) fn produce(shared: &Shared, request: ProduceRequest) -> Option<ProduceResponse> {
    let mut response = ProduceResponse::default();
    let mut state = shared.lock();
    for topic in request.topic_data {
        let mut answer = TopicProduceResponse::default().with_name(topic.name.clone());
        for data in topic.partition_data {
            let result = append(&mut state, request.transactional_id.as_ref(), &topic.name, &data);
            answer.partition_responses.push(produced(data.index, result));
        }
        while !state.topics.enforce_retention(&topic.name, shared.config.max_bytes) {
            // What a transaction keeps open cannot be dropped, however much that is.
            if !transactions::abort_oldest(&mut state) {
                break;
            }
            shared.refused.add(Refused::OpenTransactions);
        }
        response.responses.push(answer);
    }
    drop(state);
    shared.wake();
    (request.acks != 0).then_some(response)
}

/// The base offset, the time of appending (−1 where the producer stamps), and the log's start.
type AppendResult = Result<(i64, i64, i64), ResponseError>;

fn produced(index: i32, result: AppendResult) -> PartitionProduceResponse {
    let answer = PartitionProduceResponse::default().with_index(index);
    match result {
        Ok((base_offset, time, start)) => {
            answer.with_base_offset(base_offset).with_log_append_time_ms(time).with_log_start_offset(start)
        }
        Err(error) => answer
            .with_error_code(error.code())
            .with_base_offset(-1)
            .with_log_append_time_ms(-1)
            .with_log_start_offset(-1),
    }
}

fn append(
    state: &mut State,
    transactional_id: Option<&TransactionalId>,
    topic: &StrBytes,
    data: &PartitionProduceData,
) -> AppendResult {
    let records = data.records.as_ref().ok_or(ResponseError::CorruptMessage)?;
    let batches = batch::split(records).ok_or(ResponseError::CorruptMessage)?;
    let most_bytes = state.topics.get(topic).map_or(usize::MAX, Topic::most_batch_bytes);
    let append_time = state.topics.get(topic).is_some_and(|topic| topic.uses_append_time()).then(now_ms);
    let mut first = None;
    // Checked before the first is appended: a request is taken whole or not at all.
    let mut checked = Vec::with_capacity(batches.len());
    for bytes in batches {
        if bytes.len() > most_bytes {
            return Err(ResponseError::MessageTooLarge);
        }
        let header = batch::check(&bytes).map_err(|bad| match bad {
            BadBatch::Corrupt => ResponseError::CorruptMessage,
            BadBatch::OldFormat => ResponseError::UnsupportedForMessageFormat,
            BadBatch::Invalid => ResponseError::InvalidRecord,
        })?;
        state.topics.log(topic, data.index)?;
        if append_time.is_none() && header.max_timestamp > now_ms() + MOST_AHEAD_MS {
            return Err(ResponseError::InvalidTimestamp);
        }
        if header.is_transactional() {
            state.transactions.check_produce(transactional_id, &header, topic, data.index)?;
        }
        checked.push((bytes, header));
    }
    for (bytes, header) in checked {
        let stamp = state.topics.next_stamp();
        let log = state.topics.log_mut(topic, data.index)?;
        let (Appended::New { base_offset } | Appended::Repeat { base_offset }) =
            log.append(&bytes, header, stamp, append_time)?;
        first.get_or_insert(base_offset);
    }
    let start = state.topics.log(topic, data.index)?.start();
    Ok((first.ok_or(ResponseError::CorruptMessage)?, append_time.unwrap_or(-1), start))
}

/// Offsets by time: the first of that time or later, the earliest, the latest.
pub(crate) fn list_offsets(shared: &Shared, request: ListOffsetsRequest, version: i16) -> ListOffsetsResponse {
    let state = shared.lock();
    let committed = request.isolation_level == READ_COMMITTED;
    // Before version 4 there is no such field, and a value for it cannot be written.
    let leader_epoch = if version >= 4 { 0 } else { -1 };
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|wanted| {
            let answer = ListOffsetsPartitionResponse::default().with_partition_index(wanted.partition_index);
            let found = state.topics.log(&topic.name, wanted.partition_index).map(|log| match wanted.timestamp {
                LATEST => (if committed { log.last_stable() } else { log.end() }, -1),
                EARLIEST => (log.start(), -1),
                GREATEST_TIME => log.greatest_time().unwrap_or((-1, -1)),
                time => log.offset_for_time(time).unwrap_or((-1, -1)),
            });
            match found {
                Ok((offset, timestamp)) => {
                    answer.with_offset(offset).with_timestamp(timestamp).with_leader_epoch(leader_epoch)
                }
                Err(error) => answer.with_error_code(error.code()).with_offset(-1).with_timestamp(-1),
            }
        });
        ListOffsetsTopicResponse::default().with_partitions(partitions.collect()).with_name(topic.name.clone())
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}

/// Moves logs' starts.
pub(crate) fn delete_records(shared: &Shared, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let mut state = shared.lock();
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|wanted| {
            let answer = DeleteRecordsPartitionResult::default().with_partition_index(wanted.partition_index);
            let deleted = state.topics.log_mut(&topic.name, wanted.partition_index).and_then(|log| {
                let offset = if wanted.offset == -1 { log.end() } else { wanted.offset };
                if offset < 0 || offset > log.end() {
                    return Err(ResponseError::OffsetOutOfRange);
                }
                log.delete_below(offset);
                Ok(log.start())
            });
            match deleted {
                Ok(start) => answer.with_low_watermark(start),
                Err(error) => answer.with_error_code(error.code()).with_low_watermark(-1),
            }
        });
        DeleteRecordsTopicResult::default().with_partitions(partitions.collect()).with_name(topic.name.clone())
    });
    DeleteRecordsResponse::default().with_topics(topics.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    use bytes::BytesMut;
    use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
    use kafka_protocol::messages::{ApiKey, TopicName};
    use kafka_protocol::protocol::Encodable as _;

    use crate::frame::APIS;

    /// kcat of some distributions asks in version 2, others in 1 or 7.
    #[test]
    fn offsets_are_answered_in_every_version_that_is_offered() {
        let shared = Shared::new(([127, 0, 0, 1], 1).into(), crate::Config::default());
        let name = StrBytes::from_static_str("t");
        shared.lock().topics.insert(name.clone(), Topic::new(1, HashMap::new()));
        let offered = APIS.iter().find(|api| api.key == ApiKey::ListOffsets).unwrap();
        for version in offered.min..=offered.max {
            for timestamp in [LATEST, EARLIEST, GREATEST_TIME, 5] {
                let partition = ListOffsetsPartition::default().with_timestamp(timestamp);
                let topic =
                    ListOffsetsTopic::default().with_name(TopicName(name.clone())).with_partitions(vec![partition]);
                let request = ListOffsetsRequest::default().with_topics(vec![topic]);
                let response = list_offsets(&shared, request, version);
                let encoded = response.encode(&mut BytesMut::new(), version);
                assert!(encoded.is_ok(), "version {version}, {timestamp}: {encoded:?}");
            }
        }
    }
}
