//! A partition's log: batches in memory, the transactions that are open on it, and those that were aborted.

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::{Bytes, BytesMut};
use kafka_protocol::ResponseError;

use crate::batch::{self, BatchHeader};

/// Batches per producer that are remembered to answer a repeated send.
const REMEMBERED_BATCHES: usize = 5;

#[derive(Debug)]
struct StoredBatch {
    bytes: Bytes,
    base_offset: i64,
    last_offset: i64,
    header: Option<BatchHeader>,
    max_timestamp: i64,
    /// Place in the order of all appends of the broker: the oldest go first.
    stamp: u64,
}

#[derive(Debug)]
pub(crate) struct AbortedTransaction {
    pub(crate) producer_id: i64,
    pub(crate) first_offset: i64,
    marker_offset: i64,
}

#[derive(Debug, Default)]
struct ProducerState {
    epoch: i16,
    recent: VecDeque<(i32, i32, i64)>,
    /// Its last batch, in the order of all appends.
    stamp: u64,
}

/// What a batch costs beside its bytes.
const BATCH_BYTES: usize = 160;

#[derive(Debug, Default)]
pub(crate) struct Log {
    batches: VecDeque<StoredBatch>,
    start: i64,
    end: i64,
    bytes: usize,
    /// Producer id → first offset of its open transaction.
    open: BTreeMap<i64, i64>,
    aborted: Vec<AbortedTransaction>,
    producers: HashMap<i64, ProducerState>,
}

/// Where an accepted batch stands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Appended {
    New { base_offset: i64 },
    Repeat { base_offset: i64 },
}

impl Log {
    pub(crate) const fn start(&self) -> i64 {
        self.start
    }

    pub(crate) const fn end(&self) -> i64 {
        self.end
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// What its batches cost in memory.
    pub(crate) fn cost(&self) -> usize {
        self.bytes + self.batches.len() * BATCH_BYTES
    }

    /// Producers whose last batches are remembered.
    pub(crate) fn producers(&self) -> usize {
        self.producers.len()
    }

    /// Forgets the half of its producers that has written nothing for longest, but for those of open transactions.
    pub(crate) fn forget_producers(&mut self) {
        let mut stamps: Vec<u64> = self.producers.values().map(|state| state.stamp).collect();
        stamps.sort_unstable();
        let median = stamps.get(stamps.len() / 2).copied().unwrap_or(0);
        let open = &self.open;
        self.producers.retain(|id, state| state.stamp > median || open.contains_key(id));
    }

    /// The offset below which no transaction is open.
    pub(crate) fn last_stable(&self) -> i64 {
        self.open.values().copied().min().unwrap_or(self.end)
    }

    pub(crate) fn append(
        &mut self,
        bytes: &[u8],
        header: BatchHeader,
        stamp: u64,
        append_time_ms: Option<i64>,
    ) -> Result<Appended, ResponseError> {
        if header.producer_id >= 0
            && let Some(base_offset) = self.check_sequence(&header)?
        {
            return Ok(Appended::Repeat { base_offset });
        }
        let base_offset = self.end;
        if header.producer_id >= 0 {
            self.remember(&header, base_offset, stamp);
        }
        if header.is_transactional() {
            self.open.entry(header.producer_id).or_insert(base_offset);
        }
        let placed = batch::place(bytes, base_offset, append_time_ms);
        let max_timestamp = append_time_ms.unwrap_or(header.max_timestamp);
        let last_offset = base_offset + i64::from(header.count) - 1;
        let header = BatchHeader { max_timestamp, ..header };
        self.push(StoredBatch { bytes: placed, base_offset, last_offset, header: Some(header), max_timestamp, stamp });
        Ok(Appended::New { base_offset })
    }

    /// The offset of an earlier identical batch, if this one is a repeat.
    fn check_sequence(&mut self, header: &BatchHeader) -> Result<Option<i64>, ResponseError> {
        let Some(state) = self.producers.get_mut(&header.producer_id) else {
            return Ok(None);
        };
        if header.producer_epoch < state.epoch {
            return Err(ResponseError::InvalidProducerEpoch);
        }
        if header.producer_epoch > state.epoch {
            if header.base_sequence != 0 {
                return Err(ResponseError::OutOfOrderSequenceNumber);
            }
            return Ok(None);
        }
        let last = header.last_sequence();
        if let Some(repeat) = state.recent.iter().find(|batch| batch.0 == header.base_sequence && batch.1 == last) {
            return Ok(Some(repeat.2));
        }
        let expected = state.recent.back().map_or(0, |batch| batch.1.wrapping_add(1) & i32::MAX);
        if header.base_sequence == expected { Ok(None) } else { Err(ResponseError::OutOfOrderSequenceNumber) }
    }

    fn remember(&mut self, header: &BatchHeader, base_offset: i64, stamp: u64) {
        let state = self.producers.entry(header.producer_id).or_default();
        state.stamp = stamp;
        if state.epoch != header.producer_epoch {
            state.epoch = header.producer_epoch;
            state.recent.clear();
        }
        if state.recent.len() == REMEMBERED_BATCHES {
            state.recent.pop_front();
        }
        state.recent.push_back((header.base_sequence, header.last_sequence(), base_offset));
    }

    /// Ends the transaction of a producer here; its epoch fences whatever an older one still sends.
    pub(crate) fn end_transaction(&mut self, producer_id: i64, epoch: i16, commit: bool, stamp: u64, now_ms: i64) {
        let offset = self.end;
        if let Some(first_offset) = self.open.remove(&producer_id)
            && !commit
        {
            self.aborted.push(AbortedTransaction { producer_id, first_offset, marker_offset: offset });
        }
        let state = self.producers.entry(producer_id).or_default();
        state.stamp = stamp;
        if epoch > state.epoch {
            state.epoch = epoch;
            state.recent.clear();
        }
        let bytes = batch::marker(offset, producer_id, epoch, commit, now_ms);
        self.push(StoredBatch {
            bytes,
            base_offset: offset,
            last_offset: offset,
            header: None,
            max_timestamp: now_ms,
            stamp,
        });
    }

    fn push(&mut self, batch: StoredBatch) {
        self.bytes += batch.bytes.len();
        self.end = batch.last_offset + 1;
        self.batches.push_back(batch);
    }

    /// The batches from `offset` on, below `limit`, at most `max_bytes` but always one whole batch.
    fn chosen(&self, offset: i64, limit: i64, max_bytes: usize) -> impl Iterator<Item = &StoredBatch> {
        let first = self.batches.partition_point(|batch| batch.last_offset < offset);
        let mut total = 0;
        self.batches.range(first..).take_while(move |batch| {
            let is_first = total == 0;
            total += batch.bytes.len();
            batch.last_offset < limit && (is_first || total <= max_bytes)
        })
    }

    /// Bytes of what [`Self::read`] gives.
    pub(crate) fn size(&self, offset: i64, limit: i64, max_bytes: usize) -> usize {
        self.chosen(offset, limit, max_bytes).map(|batch| batch.bytes.len()).sum()
    }

    /// Whole batches from `offset` on, below `limit`, at most `max_bytes` but always one; and where they end.
    pub(crate) fn read(&self, offset: i64, limit: i64, max_bytes: usize) -> (Bytes, i64) {
        let chosen: Vec<&StoredBatch> = self.chosen(offset, limit, max_bytes).collect();
        let end = chosen.last().map_or(offset, |batch| batch.last_offset + 1);
        if let [only] = chosen[..] {
            return (only.bytes.clone(), end);
        }
        let mut records = BytesMut::with_capacity(chosen.iter().map(|batch| batch.bytes.len()).sum());
        for batch in chosen {
            records.extend_from_slice(&batch.bytes);
        }
        (records.freeze(), end)
    }

    /// Aborted transactions that touch offsets from `from` up to `to`.
    pub(crate) fn aborted_between(&self, from: i64, to: i64) -> impl Iterator<Item = &AbortedTransaction> {
        self.aborted.iter().filter(move |aborted| aborted.marker_offset >= from && aborted.first_offset < to)
    }

    /// The first offset whose record is of `timestamp` or later, and that record's timestamp.
    ///
    /// Exact to the record where the batch is not compressed, else to the batch.
    pub(crate) fn offset_for_time(&self, timestamp: i64) -> Option<(i64, i64)> {
        let batch = self.batches.iter().find(|batch| batch.header.is_some() && batch.max_timestamp >= timestamp)?;
        let header = batch.header.as_ref()?;
        if header.is_compressed() {
            return Some((batch.base_offset, batch.max_timestamp));
        }
        batch::record_timestamps(&batch.bytes, header)
            .zip(batch.base_offset..)
            .find(|(time, _)| *time >= timestamp)
            .map(|(time, offset)| (offset, time))
    }

    /// The greatest timestamp and its offset.
    pub(crate) fn greatest_time(&self) -> Option<(i64, i64)> {
        let batch =
            self.batches.iter().filter(|batch| batch.header.is_some()).max_by_key(|batch| batch.max_timestamp)?;
        Some((batch.last_offset, batch.max_timestamp))
    }

    /// The stamp of the oldest batch that may be dropped: below every open transaction.
    pub(crate) fn oldest_stamp(&self) -> Option<u64> {
        let oldest = self.batches.front()?;
        (oldest.last_offset < self.last_stable()).then_some(oldest.stamp)
    }

    /// Whether retention by bytes may drop the oldest batch: the newest stays.
    pub(crate) fn may_shrink(&self) -> bool {
        self.batches.len() > 1 && self.oldest_stamp().is_some()
    }

    /// Drops the oldest batch.
    pub(crate) fn drop_oldest(&mut self) {
        if let Some(batch) = self.batches.pop_front() {
            self.bytes -= batch.bytes.len();
            self.raise_start(batch.last_offset + 1);
        }
    }

    /// Forgets what lies below `offset`; batches that it cuts stay until it passes them.
    pub(crate) fn delete_below(&mut self, offset: i64) {
        while self.batches.front().is_some_and(|batch| batch.last_offset < offset) {
            self.drop_oldest();
        }
        self.raise_start(offset);
    }

    fn raise_start(&mut self, offset: i64) {
        self.start = self.start.max(offset);
        let start = self.start;
        self.aborted.retain(|aborted| aborted.marker_offset >= start);
    }
}
