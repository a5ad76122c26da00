//! Made, raw, enriched and stored, compared: the judge of every story. What was made counts, sent or not.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message, OwnedMessage};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use rusqlite::Connection;

use crate::http;
use crate::target::Target;

/// How long reading a topic may take.
const READ_LIMIT: Duration = Duration::from_secs(60);

/// What the checker found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Edits that the simulator made.
    pub made: usize,
    /// Rows in the table.
    pub stored: usize,
    /// Made and not in the table.
    pub missing: usize,
    /// In the table and never made.
    pub extra: usize,
    /// Ids that stand twice in a topic, among the dead letters of one, or in the table.
    pub double: usize,
    /// Open entries of the gap ledger.
    pub gaps: usize,
    /// Places where a sequence is not dense.
    pub loose: Vec<String>,
}

impl Verdict {
    /// Nothing is wrong.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.missing + self.extra + self.double + self.gaps == 0 && self.loose.is_empty()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { made, stored, missing, extra, double, gaps, loose } = self;
        let dense = if loose.is_empty() { "dense".to_owned() } else { loose.join("; ") };
        write!(
            f,
            "made {made}, stored {stored}: missing {missing}, extra {extra}, double {double}, gaps {gaps}; sequences {dense}"
        )
    }
}

/// The ids of a kind that a simulator made, sent or not.
///
/// # Panics
/// Where it does not answer, or made more than it can list.
#[must_use]
pub fn made(simulator: SocketAddr, kind: &str) -> BTreeSet<String> {
    listed(simulator, "/made", kind)
}

/// The ids of a kind that a simulator sent, once each.
///
/// # Panics
/// Where it does not answer.
#[must_use]
pub fn served(simulator: SocketAddr, kind: &str) -> BTreeSet<String> {
    listed(simulator, "/served", kind)
}

fn listed(simulator: SocketAddr, path: &str, kind: &str) -> BTreeSet<String> {
    let ledger = http::get(simulator, path).expect("the simulator answers");
    let lines = ledger.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines.filter(|line| line["kind"] == kind).map(|line| line["id"].as_str().unwrap().to_owned()).collect()
}

/// The latest state of each gap in the ledger.
///
/// # Panics
/// Where it cannot be read.
#[must_use]
pub fn gaps(target: &Target) -> Vec<serde_json::Value> {
    let mut latest: BTreeMap<String, serde_json::Value> = BTreeMap::new();
    for_each_record(target, "wikipedia-gaps", |record| {
        let gap: serde_json::Value = serde_json::from_slice(record.payload().unwrap_or_default()).unwrap_or_default();
        // A request of `wiki backfill` is no gap.
        if gap["id"].is_string() {
            latest.insert(gap["id"].to_string(), gap);
        }
    });
    latest.into_values().collect()
}

/// What the raw topic holds, compared with what was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Raw {
    /// Edits that were made.
    pub made: usize,
    /// Raw records.
    pub raw: usize,
    /// Made and not in the topic.
    pub missing: usize,
    /// In the topic and never made.
    pub extra: usize,
    /// Ids that stand there twice.
    pub double: usize,
    /// Open entries of the gap ledger.
    pub gaps: usize,
    /// Places where a sequence is not dense.
    pub loose: usize,
}

impl Raw {
    /// Nothing is wrong.
    #[must_use]
    pub const fn is_exact(&self) -> bool {
        self.missing + self.extra + self.double + self.gaps + self.loose == 0
    }
}

impl fmt::Display for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { made, raw, missing, extra, double, gaps, loose } = self;
        write!(
            f,
            "made {made}, raw {raw}: missing {missing}, extra {extra}, double {double}, gaps {gaps}, not dense {loose}"
        )
    }
}

/// Compares the raw topic with what was made.
///
/// # Panics
/// Where something cannot be read.
#[must_use]
pub fn raw(target: &Target, made: &BTreeSet<String>) -> Raw {
    let mut ids: BTreeSet<String> = BTreeSet::new();
    let mut due: BTreeMap<i32, u64> = BTreeMap::new();
    let mut found = Raw { made: made.len(), ..Raw::default() };
    for_each_record(target, "wikipedia-raw", |record| {
        found.raw += 1;
        found.double += usize::from(!ids.insert(header(record, "ce_id")));
        let seq: u64 = header(record, "seq").parse().unwrap_or(u64::MAX);
        let expected = due.entry(record.partition()).or_default();
        found.loose += usize::from(seq != *expected);
        *expected = seq.saturating_add(1);
    });
    found.missing = made.difference(&ids).count();
    found.extra = ids.difference(made).count();
    found.gaps = gaps(target).iter().filter(|gap| gap["status"] == "open").count();
    found
}

/// How many records the raw topic holds.
///
/// # Panics
/// Where it cannot be read.
#[must_use]
pub fn raw_records(target: &Target) -> usize {
    let mut records = 0;
    for_each_record(target, "wikipedia-raw", |_| records += 1);
    records
}

/// While it lives no sink can write.
#[derive(Debug)]
pub struct TableLock {
    _connection: Connection,
}

/// Locks the table against writes.
///
/// # Panics
/// Where others hold it for a minute.
#[must_use]
pub fn lock(table: &Path) -> TableLock {
    let connection = Connection::open(table).unwrap();
    connection.busy_timeout(Duration::from_secs(60)).unwrap();
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    TableLock { _connection: connection }
}

/// Number of rows in the table; 0 before there is one.
#[must_use]
pub fn rows(table: &Path) -> usize {
    let count = || -> rusqlite::Result<usize> {
        let connection = Connection::open(table)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection
            .query_row("SELECT count(*) FROM edits", [], |row| row.get::<_, i64>(0))
            .map(|n| n.try_into().unwrap())
    };
    if table.exists() { count().unwrap_or(0) } else { 0 }
}

/// The ids in the table.
///
/// # Panics
/// Where it cannot be read.
#[must_use]
pub fn ids(table: &Path) -> BTreeSet<String> {
    let connection = Connection::open(table).unwrap();
    connection.busy_timeout(Duration::from_secs(5)).unwrap();
    let mut query = connection.prepare("SELECT event_id FROM edits").unwrap();
    let ids = query.query_map([], |row| row.get(0)).unwrap();
    ids.map(Result::unwrap).collect()
}

/// How many edits the sinks have dealt with; as [`rows`], without counting each.
#[must_use]
pub fn progress(table: &Path) -> usize {
    let sum = || -> rusqlite::Result<i64> {
        let connection = Connection::open(table)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.query_row("SELECT coalesce(sum(next_seq - base_seq), 0) FROM sink_progress", [], |row| row.get(0))
    };
    if table.exists() { sum().map_or(0, |sum| sum.try_into().unwrap()) } else { 0 }
}

/// Whom the table names as the owner of each partition: who claimed it last, and so may write.
#[must_use]
pub fn owners(table: &Path) -> BTreeMap<i32, String> {
    let owners = || -> rusqlite::Result<BTreeMap<i32, String>> {
        let connection = Connection::open(table)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        let mut query = connection.prepare("SELECT partition, owner FROM sink_progress")?;
        query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    };
    if table.exists() { owners().unwrap_or_default() } else { BTreeMap::new() }
}

/// Compares everything, with a reading of both topics as a `read_committed` reader sees them.
///
/// # Panics
/// Where something cannot be read.
#[must_use]
pub fn check(simulator: SocketAddr, target: &Target, table: &Path) -> Verdict {
    let made = made(simulator, "edit");
    let mut verdict = Verdict { made: made.len(), ..Verdict::default() };
    verdict.gaps = gaps(target).iter().filter(|gap| gap["status"] == "open").count();
    for topic in ["dlq.wikipedia-raw", "dlq.wikipedia-events"] {
        let mut ids: BTreeSet<String> = BTreeSet::new();
        for_each_record(target, topic, |record| {
            let id = header(record, "ce_id");
            verdict.double += usize::from(!id.is_empty() && !ids.insert(id));
        });
    }
    for topic in ["wikipedia-raw", "wikipedia-events"] {
        let mut times: HashMap<String, usize> = HashMap::new();
        let mut due: BTreeMap<i32, u64> = BTreeMap::new();
        for_each_record(target, topic, |record| {
            *times.entry(header(record, "ce_id")).or_default() += 1;
            let (partition, seq) = (record.partition(), header(record, "seq"));
            let expected = due.entry(partition).or_default();
            if seq != expected.to_string() {
                verdict.loose.push(format!("{topic}/{partition}: seq {seq} where {expected} is due"));
            }
            *expected = seq.parse().unwrap_or(u64::MAX).saturating_add(1);
        });
        verdict.double += times.values().map(|count| count - 1).sum::<usize>();
    }
    let connection = Connection::open(table).unwrap();
    let mut query = connection.prepare("SELECT event_id, partition, seq FROM edits ORDER BY partition, seq").unwrap();
    let stored: Vec<(String, i32, i64)> =
        query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap().map(Result::unwrap).collect();
    let mut due: BTreeMap<i32, i64> = BTreeMap::new();
    for (_, partition, seq) in &stored {
        let expected = due.entry(*partition).or_default();
        if seq != expected {
            verdict.loose.push(format!("table/{partition}: seq {seq} where {expected} is due"));
        }
        *expected = seq + 1;
    }
    let ids: BTreeSet<&String> = stored.iter().map(|(id, ..)| id).collect();
    verdict.stored = stored.len();
    verdict.double += stored.len() - ids.len();
    verdict.missing = made.iter().filter(|id| !ids.contains(id)).count();
    verdict.extra = ids.iter().filter(|id| !made.contains(**id)).count();
    verdict
}

/// The text of a header; empty where it is absent.
#[must_use]
pub fn header(record: &impl Message<Headers: Headers>, name: &str) -> String {
    let found = record.headers().and_then(|headers| headers.iter().find(|header| header.key == name)?.value);
    String::from_utf8_lossy(found.unwrap_or_default()).into_owned()
}

/// All committed records of a topic, by partition.
///
/// # Panics
/// Where it cannot be read in time.
#[must_use]
pub fn read_topic(target: &Target, topic: &str) -> BTreeMap<i32, Vec<OwnedMessage>> {
    let mut records: BTreeMap<i32, Vec<OwnedMessage>> = BTreeMap::new();
    for_each_record(target, topic, |record| records.entry(record.partition()).or_default().push(record.detach()));
    records
}

/// The first offset of a partition, and the one behind its last record.
///
/// # Panics
/// Where the cluster does not answer.
#[must_use]
pub fn bounds(target: &Target, topic: &str, partition: i32) -> (i64, i64) {
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", &target.bootstrap).create().unwrap();
    consumer.fetch_watermarks(&target.topic(topic), partition, Duration::from_secs(10)).unwrap()
}

/// Sees which partitions of a topic hold records of a transaction that is still open.
pub struct OpenTransactions {
    committed: BaseConsumer,
    all: BaseConsumer,
    topic: String,
}

impl OpenTransactions {
    /// Of this topic.
    ///
    /// # Panics
    /// Where no client can be made.
    #[must_use]
    pub fn of(target: &Target, topic: &str) -> Self {
        let client = |isolation: &str| {
            let mut config = ClientConfig::new();
            config.set("bootstrap.servers", &target.bootstrap).set("isolation.level", isolation);
            config.create().unwrap()
        };
        let topic = target.topic(topic);
        Self { committed: client("read_committed"), all: client("read_uncommitted"), topic }
    }

    /// Partitions with an open transaction, each with the offset at which its first one begins.
    fn begun(&self) -> BTreeSet<(i32, i64)> {
        let limit = Duration::from_secs(10);
        let metadata = self.all.fetch_metadata(Some(&self.topic), limit).unwrap();
        let end = |of: &BaseConsumer, partition| of.fetch_watermarks(&self.topic, partition, limit).unwrap().1;
        assert!(metadata.topics()[0].error().is_none(), "there is no topic {}", self.topic);
        let partitions = metadata.topics()[0].partitions().iter().map(rdkafka::metadata::MetadataPartition::id);
        let stable = partitions.map(|partition| (partition, end(&self.committed, partition)));
        stable.filter(|(partition, stable)| *stable < end(&self.all, *partition)).collect()
    }

    /// Whether one transaction stays open for so long.
    ///
    /// # Panics
    /// Where the cluster does not answer.
    #[must_use]
    pub fn last_for(&self, wait: Duration) -> bool {
        let first = self.begun();
        if first.is_empty() {
            return false;
        }
        std::thread::park_timeout(wait);
        !first.is_disjoint(&self.begun())
    }
}

/// Hands over each committed record of a topic, in order within its partition.
///
/// # Panics
/// Where it cannot be read in time.
pub fn for_each_record(target: &Target, topic: &str, mut on: impl FnMut(&BorrowedMessage<'_>)) {
    let topic = target.topic(topic);
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &target.bootstrap)
        .set("group.id", "story-reader")
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("fetch.wait.max.ms", "10")
        .set("fetch.queue.backoff.ms", "2")
        .create()
        .unwrap();
    let metadata = consumer.fetch_metadata(Some(&topic), Duration::from_secs(10)).unwrap();
    let count = i32::try_from(metadata.topics()[0].partitions().len()).unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..count {
        list.add_partition_offset(&topic, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    let mut unfinished: BTreeSet<i32> = (0..count).collect();
    let deadline = Instant::now() + READ_LIMIT;
    while !unfinished.is_empty() {
        assert!(Instant::now() < deadline, "{topic} cannot be read to its end");
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(record)) => on(&record),
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                unfinished.remove(&partition);
            }
            // A broker may just have gone: the client finds the others by itself, within the limit.
            Some(Err(error)) => drop(error),
            None => {}
        }
    }
}
