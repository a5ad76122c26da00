//! A reader that follows partitions without a consumer group, and may be given more while it reads.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};

use crate::context::Context;
use crate::record::{BorrowedRecord, Record};
use crate::{ClientError, Error, TopicPartition, ffi};

/// Where a partition is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// Its first record.
    Beginning,
    /// What comes from now on.
    End,
    /// So many offsets before its end.
    Last(i64),
    /// An offset.
    At(i64),
}

/// A follower; every call blocks.
pub struct Follower {
    consumer: BaseConsumer<Context>,
}

impl std::fmt::Debug for Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Follower")
    }
}

impl Follower {
    pub(crate) const fn new(consumer: BaseConsumer<Context>) -> Self {
        Self { consumer }
    }

    /// Events that wait for the next poll.
    #[must_use]
    pub fn unserved(&self) -> i32 {
        ffi::unserved(&self.consumer)
    }

    /// Reads these partitions; one that is read already continues where it is.
    ///
    /// # Errors
    /// [`Error::Doubt`] where the client refuses.
    pub fn follow(&self, partitions: impl IntoIterator<Item = (TopicPartition, From)>) -> Result<(), Error> {
        let failed = || Error::doubt("follow partitions");
        let mut starts = TopicPartitionList::new();
        for (TopicPartition { topic, partition }, from) in partitions {
            let offset = match from {
                From::Beginning => Offset::Beginning,
                From::End => Offset::End,
                From::Last(count) => Offset::OffsetTail(count),
                From::At(offset) => Offset::Offset(offset),
            };
            starts.add_partition_offset(&topic, partition, offset).map_err(failed())?;
        }
        for read in self.consumer.position().map_err(failed())?.elements() {
            if let (Offset::Offset(next), Some(mut start)) =
                (read.offset(), starts.find_partition(read.topic(), read.partition()))
            {
                start.set_offset(Offset::Offset(next)).map_err(failed())?;
            }
        }
        self.consumer.assign(&starts).map_err(failed())
    }

    /// The next record, within `limit`.
    ///
    /// # Errors
    /// [`ClientError`]: the client continues by itself.
    pub fn poll(&self, limit: Duration) -> Result<Option<BorrowedRecord<'_>>, ClientError> {
        self.consumer.poll(limit).transpose().map(|message| message.map(Record)).map_err(ClientError)
    }
}
