//! The last records of partitions: where a writer that takes over learns how far its predecessor came.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::MetadataTopic;
use rdkafka::{Offset, TopicPartitionList};
use uuid::Uuid;

use crate::context::Context;
use crate::error::{is_moving, is_passing, lacks_rights, refused};
use crate::limits::ANSWER_LIMIT;
use crate::record::{BorrowedRecord, OwnedRecord, Record};
use crate::{Error, ffi};

/// How far the first step back goes, in offsets.
const FIRST_STEP: i64 = 16;
/// How long one pass over the tails may take, or a topic to be known to every broker.
const PASS_LIMIT: Duration = Duration::from_secs(30);
/// How long nothing may come after a broker went away: another one takes over.
const PASSING_LIMIT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(100);

/// A reader of tails; every call blocks.
pub struct Tail {
    consumer: BaseConsumer<Context>,
}

impl std::fmt::Debug for Tail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tail")
    }
}

/// Where a partition begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// First offset that is still there.
    pub start: i64,
    /// Offset behind the last committed record or marker.
    pub end: i64,
}

impl Bounds {
    /// Asks a partition's leader; while another one takes over, again until `limit`.
    pub(crate) fn of(
        consumer: &BaseConsumer<Context>,
        topic: &str,
        partition: i32,
        limit: Duration,
    ) -> Result<Self, Error> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match consumer.fetch_watermarks(topic, partition, left) {
                Ok((start, end)) => return Ok(Self { start, end }),
                Err(error) if is_moving(&error) && !left.is_zero() => std::thread::park_timeout(POLL),
                Err(error) => {
                    return Err(Error::doubt(format!("look up the end of {topic} partition {partition}"))(error));
                }
            }
        }
    }
}

/// A transaction that is neither committed nor aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenTransaction {
    /// Offset of its first record: nothing behind it is read.
    pub offset: i64,
    /// When that record was written, Unix milliseconds.
    pub since_ms: i64,
}

/// A topic's partitions, each from its start to its end.
#[derive(Clone, Debug)]
pub struct Extent {
    topic: String,
    partitions: BTreeMap<i32, Bounds>,
}

impl Extent {
    /// Offsets in all partitions together. Markers of transactions are among them: there may be fewer records.
    #[must_use]
    pub fn offsets(&self) -> u64 {
        self.partitions.values().map(|bounds| u64::try_from(bounds.end - bounds.start).unwrap_or(0)).sum()
    }
}

/// What one step of a [`Pass`] gave.
enum Step<'a> {
    Record(BorrowedRecord<'a>),
    /// This partition's end is reached.
    End(i32),
}

/// One pass over partitions, each from an offset. While nothing comes there is a limit, shorter where a broker went away.
struct Pass<'a> {
    consumer: &'a BaseConsumer<Context>,
    doing: String,
    begun: Instant,
    deadline: Instant,
}

impl<'a> Pass<'a> {
    fn begin(
        consumer: &'a BaseConsumer<Context>,
        topic: &str,
        starts: &BTreeMap<i32, i64>,
        doing: String,
    ) -> Result<Self, Error> {
        let mut assignment = TopicPartitionList::new();
        for (partition, offset) in starts {
            assignment
                .add_partition_offset(topic, *partition, Offset::Offset(*offset))
                .map_err(Error::doubt(doing.as_str()))?;
        }
        consumer.assign(&assignment).map_err(Error::doubt(doing.as_str()))?;
        let begun = Instant::now();
        Ok(Self { consumer, doing, begun, deadline: begun + PASS_LIMIT })
    }

    fn next(&mut self) -> Result<Step<'a>, Error> {
        loop {
            match self.consumer.poll(POLL) {
                Some(Ok(message)) => {
                    self.deadline = Instant::now() + PASS_LIMIT;
                    return Ok(Step::Record(Record(message)));
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => return Ok(Step::End(partition)),
                Some(Err(source)) if is_passing(&source) => {
                    self.deadline = self.deadline.min(Instant::now() + PASSING_LIMIT);
                }
                Some(Err(source)) => return Err(Error::Doubt { doing: self.doing.clone(), source }),
                None if Instant::now() > self.deadline => {
                    let seconds = self.begun.elapsed().as_secs();
                    return Err(Error::TimedOut { doing: self.doing.clone(), seconds });
                }
                None => {}
            }
        }
    }

    fn end(self) -> Result<(), Error> {
        self.consumer.unassign().map_err(Error::doubt(self.doing))
    }
}

impl Tail {
    pub(crate) const fn new(consumer: BaseConsumer<Context>) -> Self {
        Self { consumer }
    }

    /// Events that nobody has served: none, or it would grow without end.
    #[must_use]
    pub fn unserved(&self) -> i32 {
        ffi::unserved(&self.consumer)
    }

    /// The number of partitions of a topic; `None` where there is no such topic.
    ///
    /// # Errors
    /// [`Error::Doubt`] where the cluster does not answer.
    pub fn partitions(&self, topic: &str) -> Result<Option<i32>, Error> {
        let doing = || format!("look up topic {topic}");
        // Errors of connections come as events: while no broker is there they would pile up.
        while self.consumer.poll(Duration::ZERO).is_some() {}
        let metadata = self.consumer.fetch_metadata(Some(topic), ANSWER_LIMIT).map_err(Error::doubt(doing()))?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        if let Some(code) = found.and_then(MetadataTopic::error).map(RDKafkaErrorCode::from) {
            let error = KafkaError::MetadataFetch(code);
            if lacks_rights(&error) {
                return Err(refused(&doing(), &error));
            }
        }
        let count = found.map(|found| found.partitions().len());
        Ok(count.filter(|count| *count > 0).and_then(|count| i32::try_from(count).ok()))
    }

    /// The topic's id. A topic that was made a moment ago may be unknown to the broker that is asked: it is asked again.
    ///
    /// # Errors
    /// [`Error::Doubt`] where the cluster does not answer or does not know the topic.
    pub fn topic_id(&self, topic: &str) -> Result<Uuid, Error> {
        let deadline = Instant::now() + PASS_LIMIT;
        loop {
            match ffi::topic_id(&self.consumer, topic, ANSWER_LIMIT) {
                Err(KafkaError::AdminOp(RDKafkaErrorCode::UnknownTopicOrPartition)) if Instant::now() < deadline => {
                    std::thread::park_timeout(POLL);
                }
                answer => return answer.map_err(Error::doubt(format!("look up the id of {topic}"))),
            }
        }
    }

    /// Where a partition begins and ends for a `read_committed` reader.
    ///
    /// # Errors
    /// [`Error::Doubt`] where the cluster does not answer.
    pub fn bounds(&self, topic: &str, partition: i32) -> Result<Bounds, Error> {
        Bounds::of(&self.consumer, topic, partition, ANSWER_LIMIT)
    }

    /// The first offset of each partition whose record is not older than this, Unix milliseconds; `None` where there is
    /// none.
    ///
    /// # Errors
    /// [`Error::Doubt`] where the cluster does not answer.
    pub fn offsets_since(&self, topic: &str, partitions: i32, ms: i64) -> Result<BTreeMap<i32, Option<i64>>, Error> {
        let doing = || format!("look up a time in {topic}");
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(topic, partition, Offset::Offset(ms)).map_err(Error::doubt(doing()))?;
        }
        let found = self.consumer.offsets_for_times(list, ANSWER_LIMIT).map_err(Error::doubt(doing()))?;
        let mut offsets = BTreeMap::new();
        for at in found.elements() {
            at.error().map_err(Error::doubt(doing()))?;
            let offset = if let Offset::Offset(offset) = at.offset() { Some(offset) } else { None };
            offsets.insert(at.partition(), offset);
        }
        Ok(offsets)
    }

    /// Where each partition of a topic begins and ends now; no partitions where there is no such topic.
    ///
    /// # Errors
    /// [`Error::Doubt`] where the cluster does not answer.
    pub fn extent(&self, topic: &str) -> Result<Extent, Error> {
        let mut partitions = BTreeMap::new();
        for partition in 0..self.partitions(topic)?.unwrap_or(0) {
            partitions.insert(partition, self.bounds(topic, partition)?);
        }
        Ok(Extent { topic: topic.to_owned(), partitions })
    }

    /// The transaction that keeps a partition from being read to its end, if there is one; `all` reads uncommitted
    /// records too ([`crate::Kafka::tail_of_all`]).
    ///
    /// # Errors
    /// [`Error::Doubt`] where the cluster does not answer.
    pub fn open_transaction(&self, all: &Self, topic: &str, partition: i32) -> Result<Option<OpenTransaction>, Error> {
        let stable = self.bounds(topic, partition)?.end;
        if all.bounds(topic, partition)?.end <= stable {
            return Ok(None);
        }
        let starts = BTreeMap::from([(partition, stable)]);
        let mut pass = Pass::begin(&all.consumer, topic, &starts, format!("read behind the end of {topic}"))?;
        let first = match pass.next()? {
            Step::Record(record) => record.timestamp_ms(),
            Step::End(_) => None,
        };
        pass.end()?;
        Ok(first.map(|since_ms| OpenTransaction { offset: stable, since_ms }))
    }

    /// The last committed record of each partition; none where the log holds none.
    ///
    /// # Errors
    /// [`Error::Doubt`] where the cluster does not answer.
    pub fn last_records(&self, topic: &str, partitions: &[i32]) -> Result<BTreeMap<i32, OwnedRecord>, Error> {
        let tails = self.back_to(topic, partitions, |records| !records.is_empty())?;
        Ok(tails.into_iter().filter_map(|(partition, mut records)| Some((partition, records.pop()?))).collect())
    }

    /// The last committed record of each partition that `is_own`: others are stepped over. None where there is none.
    ///
    /// # Errors
    /// [`Error::Doubt`] where the cluster does not answer.
    pub fn last_own_records(
        &self,
        topic: &str,
        partitions: &[i32],
        is_own: impl Fn(&OwnedRecord) -> bool,
    ) -> Result<BTreeMap<i32, OwnedRecord>, Error> {
        let tails = self.back_to(topic, partitions, |records| records.iter().any(&is_own))?;
        let last = |records: Vec<OwnedRecord>| records.into_iter().rfind(&is_own);
        Ok(tails.into_iter().filter_map(|(partition, records)| Some((partition, last(records)?))).collect())
    }

    /// The records at the end of each partition, as far back as `enough` asks: it sees a partition's records in
    /// order and says whether they reach back far enough. A log's start is always enough.
    ///
    /// Steps back from the end, doubling, over control records and whatever else shows nothing.
    ///
    /// # Errors
    /// [`Error::Doubt`] where the cluster does not answer.
    pub fn back_to(
        &self,
        topic: &str,
        partitions: &[i32],
        enough: impl Fn(&[OwnedRecord]) -> bool,
    ) -> Result<BTreeMap<i32, Vec<OwnedRecord>>, Error> {
        let mut found = BTreeMap::new();
        let mut step = FIRST_STEP;
        let mut left: BTreeMap<i32, Bounds> = BTreeMap::new();
        for partition in partitions {
            left.insert(*partition, self.bounds(topic, *partition)?);
        }
        while !left.is_empty() {
            let starts: BTreeMap<i32, i64> = left
                .iter()
                .map(|(partition, bounds)| (*partition, bounds.end.saturating_sub(step).max(bounds.start)))
                .collect();
            for (partition, records) in self.read_to_end(topic, &starts)? {
                let at_start =
                    left.get(&partition).is_none_or(|bounds| bounds.end.saturating_sub(step) <= bounds.start);
                if at_start || enough(&records) {
                    left.remove(&partition);
                    found.insert(partition, records);
                }
            }
            step = step.saturating_mul(4);
        }
        Ok(found)
    }

    /// The records from each start to the partition's present end.
    ///
    /// # Errors
    /// [`Error::Doubt`] where the cluster does not answer, [`Error::TimedOut`] where the end is not reached.
    pub fn read_to_end(
        &self,
        topic: &str,
        starts: &BTreeMap<i32, i64>,
    ) -> Result<BTreeMap<i32, Vec<OwnedRecord>>, Error> {
        let mut records: BTreeMap<i32, Vec<OwnedRecord>> = starts.keys().map(|at| (*at, Vec::new())).collect();
        self.scan_from(topic, starts, |record| {
            if let Some(list) = records.get_mut(&record.partition()) {
                list.push(record.detach());
            }
        })?;
        Ok(records)
    }

    /// Shows every record of a topic, partition by partition in order; nothing where there is no such topic.
    ///
    /// # Errors
    /// [`Error::Doubt`] where the cluster does not answer, [`Error::TimedOut`] where the end is not reached.
    pub fn scan(&self, topic: &str, each: impl FnMut(&BorrowedRecord<'_>)) -> Result<(), Error> {
        self.scan_extent(&self.extent(topic)?, each)
    }

    /// The same, where the extent is known.
    ///
    /// # Errors
    /// As [`Tail::scan`].
    pub fn scan_extent(&self, extent: &Extent, each: impl FnMut(&BorrowedRecord<'_>)) -> Result<(), Error> {
        let starts = extent.partitions.iter().map(|(partition, bounds)| (*partition, bounds.start)).collect();
        self.scan_from(&extent.topic, &starts, each)
    }

    /// Shows every record from each start to the partition's present end.
    ///
    /// # Errors
    /// As [`Tail::scan`].
    pub fn scan_from(
        &self,
        topic: &str,
        starts: &BTreeMap<i32, i64>,
        mut each: impl FnMut(&BorrowedRecord<'_>),
    ) -> Result<(), Error> {
        let mut pass = Pass::begin(&self.consumer, topic, starts, format!("read the end of {topic}"))?;
        let mut unfinished: Vec<i32> = starts.keys().copied().collect();
        while !unfinished.is_empty() {
            match pass.next()? {
                Step::Record(record) => each(&record),
                Step::End(partition) => unfinished.retain(|left| *left != partition),
            }
        }
        pass.end()
    }

    /// The first record at or behind `from` that `is_own`; `None` where there is none yet.
    ///
    /// # Errors
    /// [`Error::Doubt`] where the cluster does not answer, [`Error::TimedOut`] where neither record nor end comes.
    pub fn first_own_record(
        &self,
        topic: &str,
        partition: i32,
        from: i64,
        is_own: impl Fn(&OwnedRecord) -> bool,
    ) -> Result<Option<OwnedRecord>, Error> {
        let found = self.range(topic, partition, from, |records| records.last().is_some_and(&is_own))?;
        Ok(found.into_iter().next_back().filter(is_own))
    }

    /// The first record at or behind `from`; `None` where there is none yet.
    ///
    /// # Errors
    /// [`Error::Doubt`] where the cluster does not answer, [`Error::TimedOut`] where neither record nor end comes.
    pub fn first_record(&self, topic: &str, partition: i32, from: i64) -> Result<Option<OwnedRecord>, Error> {
        Ok(self.range(topic, partition, from, |records| !records.is_empty())?.into_iter().next())
    }

    /// The records from offset `from` up to, not including, `until`.
    ///
    /// # Errors
    /// [`Error::Doubt`] where the cluster does not answer, [`Error::TimedOut`] where neither record nor end comes.
    pub fn records_between(
        &self,
        topic: &str,
        partition: i32,
        from: i64,
        until: i64,
    ) -> Result<Vec<OwnedRecord>, Error> {
        let passed = |records: &[OwnedRecord]| records.last().is_some_and(|last| last.offset() + 1 >= until);
        let mut records = self.range(topic, partition, from, passed)?;
        records.retain(|record| record.offset() < until);
        Ok(records)
    }

    /// Shows the records from offset `from` up to, not including, `until`; none is kept.
    ///
    /// # Errors
    /// [`Error::Doubt`] where the cluster does not answer, [`Error::TimedOut`] where neither record nor end comes.
    pub fn scan_between(
        &self,
        topic: &str,
        partition: i32,
        from: i64,
        until: i64,
        mut each: impl FnMut(&BorrowedRecord<'_>),
    ) -> Result<(), Error> {
        if from >= until {
            return Ok(());
        }
        let starts = BTreeMap::from([(partition, from)]);
        let mut pass = Pass::begin(&self.consumer, topic, &starts, format!("read {topic} partition {partition}"))?;
        while let Step::Record(record) = pass.next()? {
            if record.offset() >= until {
                break;
            }
            each(&record);
            if record.offset() + 1 >= until {
                break;
            }
        }
        pass.end()
    }

    /// Records from an offset until `enough`, or the partition's end.
    fn range(
        &self,
        topic: &str,
        partition: i32,
        from: i64,
        enough: impl Fn(&[OwnedRecord]) -> bool,
    ) -> Result<Vec<OwnedRecord>, Error> {
        let starts = BTreeMap::from([(partition, from)]);
        let mut pass = Pass::begin(&self.consumer, topic, &starts, format!("read {topic} partition {partition}"))?;
        let mut records = Vec::new();
        while !enough(&records) {
            match pass.next()? {
                Step::Record(record) => records.push(record.detach()),
                Step::End(_) => break,
            }
        }
        pass.end()?;
        Ok(records)
    }
}
