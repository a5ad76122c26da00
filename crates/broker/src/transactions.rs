//! Producer ids, fencing, and the end of a transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{ProducerId, TransactionalId};
use kafka_protocol::protocol::StrBytes;

use crate::batch::BatchHeader;
use crate::group::offsets::CommittedOffset;
use crate::limits::ENTRY_BYTES;
use crate::text::own;

/// The last epoch before a producer gets a new id.
pub(crate) const LAST_EPOCH: i16 = i16::MAX - 1;

/// All producers.
#[derive(Debug, Default)]
pub(crate) struct Transactions {
    pub(crate) by_id: BTreeMap<StrBytes, Transaction>,
    pub(crate) last_producer_id: i64,
}

/// The state of one transactional id.
#[derive(Debug)]
pub(crate) struct Transaction {
    pub(crate) producer_id: i64,
    pub(crate) epoch: i16,
    pub(crate) timeout: Duration,
    pub(crate) open: Option<Open>,
}

/// What a transaction has touched so far.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) since: Instant,
    pub(crate) partitions: BTreeSet<(StrBytes, i32)>,
    pub(crate) offsets: BTreeMap<StrBytes, Vec<(StrBytes, i32, CommittedOffset)>>,
    /// What that costs.
    bytes: usize,
}

impl Open {
    pub(crate) fn new() -> Self {
        Self { since: Instant::now(), partitions: BTreeSet::new(), offsets: BTreeMap::new(), bytes: 0 }
    }

    /// Notes that it writes to a partition.
    pub(crate) fn add_partition(&mut self, topic: &StrBytes, partition: i32) {
        let at = (own(topic), partition);
        if !self.partitions.contains(&at) {
            self.bytes += ENTRY_BYTES + topic.len();
            self.partitions.insert(at);
        }
    }

    /// Notes that it will commit offsets of a group.
    pub(crate) fn add_group(&mut self, group: &StrBytes) {
        if !self.offsets.contains_key(group) {
            self.bytes += ENTRY_BYTES + group.len();
            self.offsets.insert(own(group), Vec::new());
        }
    }

    /// Holds an offset of a group that was added; false where it was not.
    pub(crate) fn hold(&mut self, group: &StrBytes, topic: &StrBytes, partition: i32, offset: CommittedOffset) -> bool {
        let Some(held) = self.offsets.get_mut(group) else { return false };
        self.bytes += offset.bytes(topic);
        held.push((own(topic), partition, offset.owned()));
        true
    }
}

impl Transactions {
    /// What the open ones cost.
    pub(crate) fn held_bytes(&self) -> usize {
        self.by_id.values().filter_map(|transaction| transaction.open.as_ref()).map(|open| open.bytes).sum()
    }

    /// The one that has been open longest.
    pub(crate) fn oldest_open(&self) -> Option<StrBytes> {
        let open = self.by_id.iter().filter_map(|(id, transaction)| Some((transaction.open.as_ref()?.since, id)));
        open.min().map(|(_, id)| id.clone())
    }

    pub(crate) fn next_producer_id(&mut self) -> i64 {
        self.last_producer_id += 1;
        self.last_producer_id
    }

    /// The transaction of a request, unless another producer has taken its id over.
    pub(crate) fn of(
        &mut self,
        id: &StrBytes,
        producer: ProducerId,
        epoch: i16,
    ) -> Result<&mut Transaction, ResponseError> {
        let transaction = self.by_id.get_mut(id).ok_or(ResponseError::InvalidProducerIdMapping)?;
        if transaction.producer_id != producer.0 {
            return Err(ResponseError::InvalidProducerIdMapping);
        }
        if transaction.epoch != epoch {
            return Err(ResponseError::ProducerFenced);
        }
        Ok(transaction)
    }

    /// Whether an open transaction holds a group's offset of this partition.
    pub(crate) fn holds_offset(&self, group: &StrBytes, topic: &StrBytes, partition: i32) -> bool {
        let open = self.by_id.values().filter_map(|transaction| transaction.open.as_ref());
        open.filter_map(|open| open.offsets.get(group))
            .flatten()
            .any(|(held_topic, held_partition, _)| held_topic == topic && *held_partition == partition)
    }

    /// Whether a transactional batch may be appended: its producer is the current one and has named the partition.
    pub(crate) fn check_produce(
        &mut self,
        id: Option<&TransactionalId>,
        header: &BatchHeader,
        topic: &StrBytes,
        partition: i32,
    ) -> Result<(), ResponseError> {
        let id = id.ok_or(ResponseError::InvalidTxnState)?;
        let producer = ProducerId(header.producer_id);
        // Produce has a code of its own for a fenced producer.
        let transaction = self.of(id, producer, header.producer_epoch).map_err(|error| {
            if error == ResponseError::ProducerFenced { ResponseError::InvalidProducerEpoch } else { error }
        })?;
        let named = transaction.open.as_ref().is_some_and(|open| open.partitions.contains(&(topic.clone(), partition)));
        if named { Ok(()) } else { Err(ResponseError::InvalidTxnState) }
    }
}
