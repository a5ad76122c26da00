//! Fetch: waits for records, and reads them within what an answer may hold.

use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{
    BrokerId, FetchRequest, FetchResponse, ProducerId,
    fetch_request::FetchPartition,
    fetch_response::{AbortedTransaction, FetchableTopicResponse, PartitionData},
};

use super::records::READ_COMMITTED;
use crate::limits;
use crate::log::Log;
use crate::state::{Shared, State};
use crate::time::millis;

/// A fetch of more partitions than this is not waited for long: it is large.
const MOST_WAITING_PARTITIONS: usize = 100;
/// How long it is, and how long any is.
const WAITS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];
/// Records are in memory twice until an answer is encoded.
const COPIES: usize = 2;

/// Waits for records up to the request's time-out, and reads them once there is room for an answer of so many bytes.
pub(crate) fn fetch<R>(
    shared: &Shared,
    request: &FetchRequest,
    room: impl FnOnce(usize) -> io::Result<R>,
) -> io::Result<(FetchResponse, R)> {
    let partitions: usize = request.topics.iter().map(|topic| topic.partitions.len()).sum();
    let [long, any] = WAITS;
    let longest = if partitions > MOST_WAITING_PARTITIONS { long } else { any };
    let deadline = Instant::now() + millis(request.max_wait_ms).min(longest);
    let min_bytes = usize::try_from(request.min_bytes).unwrap_or(0);
    let mut state = shared.lock();
    let bytes = loop {
        let (bytes, failed) = size(&state, request);
        if bytes >= min_bytes || failed {
            break bytes;
        }
        let (next, changed) = shared.wait(state, deadline);
        state = next;
        if !changed {
            break bytes;
        }
    };
    drop(state);
    let room = room(bytes * COPIES)?;
    Ok((read(&shared.lock(), request, bytes), room))
}

/// Bytes of the records that an answer would have, and whether a partition cannot be read.
fn size(state: &State, request: &FetchRequest) -> (usize, bool) {
    let mut left = usize::try_from(request.max_bytes).unwrap_or(0).min(limits::FETCH_BYTES);
    let (mut total, mut failed) = (0, false);
    for topic in &request.topics {
        for partition in &topic.partitions {
            let log = state.topics.log(&topic.topic, partition.partition);
            match log.and_then(|log| Wanted::of(log, partition, request.isolation_level, left)) {
                Ok(wanted) => {
                    total += wanted.size();
                    left = left.saturating_sub(wanted.size());
                }
                Err(_) => failed = true,
            }
        }
    }
    (total, failed)
}

fn read(state: &State, request: &FetchRequest, max_bytes: usize) -> FetchResponse {
    let mut left = max_bytes;
    let mut response = FetchResponse::default();
    for topic in &request.topics {
        let mut answer = FetchableTopicResponse::default().with_topic(topic.topic.clone());
        for partition in &topic.partitions {
            let log = state.topics.log(&topic.topic, partition.partition);
            let wanted = log.and_then(|log| Wanted::of(log, partition, request.isolation_level, left));
            let data = match wanted {
                Ok(wanted) => wanted.read(),
                Err(error) => PartitionData::default().with_error_code(error.code()).with_high_watermark(-1),
            };
            left = left.saturating_sub(data.records.as_ref().map_or(0, Bytes::len));
            answer
                .partitions
                .push(data.with_partition_index(partition.partition).with_preferred_read_replica(BrokerId(-1)));
        }
        response.responses.push(answer);
    }
    response
}

/// What a fetch wants of one partition.
struct Wanted<'a> {
    log: &'a Log,
    offset: i64,
    is_committed: bool,
    max_bytes: usize,
}

impl<'a> Wanted<'a> {
    fn of(log: &'a Log, wanted: &FetchPartition, isolation: i8, left: usize) -> Result<Self, ResponseError> {
        let offset = wanted.fetch_offset;
        if offset < log.start() || offset > log.end() {
            return Err(ResponseError::OffsetOutOfRange);
        }
        let partition_max = usize::try_from(wanted.partition_max_bytes).unwrap_or(0);
        // One batch always goes through, or a record longer than the limit would stop its reader; once the whole
        // answer is full, later partitions wait for their turn.
        let max_bytes = if left == 0 { 0 } else { left.min(partition_max).max(1) };
        Ok(Self { log, offset, is_committed: isolation == READ_COMMITTED, max_bytes })
    }

    fn limit(&self) -> i64 {
        if self.is_committed { self.log.last_stable() } else { self.log.end() }
    }

    fn size(&self) -> usize {
        if self.max_bytes == 0 { 0 } else { self.log.size(self.offset, self.limit(), self.max_bytes) }
    }

    fn read(&self) -> PartitionData {
        let (records, end) = if self.max_bytes == 0 {
            (Bytes::new(), self.offset)
        } else {
            self.log.read(self.offset, self.limit(), self.max_bytes)
        };
        // Of no use without records.
        let aborted = (self.is_committed && !records.is_empty()).then(|| {
            let aborted = self.log.aborted_between(self.offset, end);
            let aborted = aborted.map(|aborted| {
                AbortedTransaction::default()
                    .with_producer_id(ProducerId(aborted.producer_id))
                    .with_first_offset(aborted.first_offset)
            });
            aborted.collect()
        });
        PartitionData::default()
            .with_high_watermark(self.log.end())
            .with_last_stable_offset(self.log.last_stable())
            .with_log_start_offset(self.log.start())
            .with_aborted_transactions(aborted)
            .with_records(Some(records))
    }
}
