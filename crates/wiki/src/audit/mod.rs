//! Compares what was made, published, enriched and stored.

mod ids;
mod table;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use kafka::{BorrowedRecord, Kafka, KafkaConfig, Tail};
use schema::Topics;
use schema::gap::GapStatus;
use schema::record::{CE_ID, EventHeaders, HeaderSource as _, SEQ, SeqBase};
use serde::Serialize;
use serde_json::json;
use service::{Failure, Metrics};
use sink::config::WriterKind;
use sink::writers::postgres::connection::DatabaseConfig;

use ids::{Found, Ids, Place, Seen};
pub(crate) use table::Table;

use crate::gaps;
use crate::out::{self, line};
use crate::progress;

const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// What was published within this may still be on its way into the table.
const UNDER_WAY: Duration = Duration::from_secs(15);
/// Places of a sequence that is not dense, at most.
const MOST_LOOSE: usize = 5;
const DEAD_LETTER_ORIGIN: &str = "__connect.errors.topic";

/// Options of `wiki audit`.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    kafka: KafkaConfig,
    /// The simulator that served the stream, such as http://127.0.0.1:8090: it knows every event that it made.
    #[arg(long, value_name = "URL")]
    simulator: Option<String>,
    /// Where the sinks store edits: postgres or sqlite.
    #[arg(long, env = "WIKI_WRITER", value_enum, default_value = "postgres")]
    writer: WriterKind,
    #[command(flatten)]
    database: DatabaseConfig,
    /// The sinks' SQLite file.
    #[arg(long, env = "WIKI_SQLITE_FILE", value_name = "FILE", default_value = "edits.db")]
    sqlite_file: PathBuf,
    /// Types of changes that are published.
    #[arg(long, env = "WIKI_EVENT_TYPES", value_delimiter = ',', default_value = "edit")]
    event_types: Vec<String>,
    /// JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the audit and prints it.
pub(crate) fn main(options: &Options) -> Result<ExitCode, Failure> {
    let table = match options.writer {
        WriterKind::Postgres => Table::Postgres(Box::new(options.database.target()?)),
        WriterKind::Sqlite => Table::Sqlite(options.sqlite_file.clone()),
        WriterKind::Stdout => {
            return Err(Failure::Config(
                "standard output keeps nothing that could be audited: --writer postgres or sqlite".to_owned(),
            ));
        }
    };
    let kafka = Kafka::new(options.kafka.clone(), &Metrics::new("wiki"));
    kafka.check_reachable(ANSWER_LIMIT)?;
    let made = match &options.simulator {
        None => None,
        Some(url) => Some(service::block_on(ask(url, &options.event_types))?),
    };
    let report = take(&kafka, &table, made.as_ref())?;
    if options.json {
        line(json!(report))
    } else {
        line(&report)
    }
    Ok(if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// What the audit found.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    made: Option<usize>,
    raw: usize,
    enriched: usize,
    stored: usize,
    dead_letters: usize,
    /// Published a moment ago, and not stored yet.
    under_way: usize,
    missing: usize,
    /// Stored from records that the topic no longer holds.
    aged: usize,
    /// Published, and before the first row of their partition in the table: it was pruned.
    pruned: usize,
    /// The first sequence number of each partition in the table, where that is not 0.
    begins: BTreeMap<i32, i64>,
    /// Records in our topics that others wrote.
    foreign: usize,
    /// Records that were deleted before they were mapped.
    lost: i64,
    /// Missing within a gap whose loss an operator accepted.
    accepted: usize,
    double: usize,
    extra: usize,
    gaps: usize,
    /// Where a sequence is not dense.
    loose: Vec<String>,
}

impl Report {
    /// Nothing is missing, double, extra or open, and every sequence is dense.
    pub(crate) fn is_clean(&self) -> bool {
        self.missing + self.double + self.extra + self.gaps == 0 && self.loose.is_empty()
    }
}

impl Report {
    /// Counts one id, with all that was found of it.
    fn count(&mut self, seen: &Seen, knows_made: bool, is_accepted: impl Fn(&Place) -> bool) {
        self.raw += usize::from(seen.raw > 0);
        self.enriched += usize::from(seen.enriched > 0);
        self.stored += usize::from(seen.stored > 0);
        self.aged += usize::from(seen.is_aged);
        self.double += seen.repeats();
        let is_expected = if knows_made { seen.made.is_some() } else { seen.raw > 0 };
        if is_expected && seen.stored == 0 && !seen.is_set_aside {
            // A server that is asked what it made makes no more: nothing is under way.
            if seen.is_before {
                self.pruned += 1;
            } else if !knows_made && seen.is_young {
                self.under_way += 1;
            } else if seen.raw == 0 && seen.made.as_ref().is_some_and(is_accepted) {
                self.accepted += 1;
            } else {
                self.missing += 1;
            }
        }
        let is_known = is_expected || (!knows_made && (seen.is_aged || seen.enriched > 0));
        self.extra += usize::from(seen.stored > 0 && !is_known);
    }

    /// Grows as long as anything gets further.
    pub(crate) fn moved(&self) -> usize {
        self.raw + self.enriched + self.stored + self.dead_letters
    }

    /// Clean, and nothing is on its way any more.
    pub(crate) fn is_settled(&self) -> bool {
        self.is_clean() && self.under_way == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.made {
            Some(made) => writeln!(f, "made          {made:>9}")?,
            None => writeln!(f, "made            unknown (only a simulator can be asked)")?,
        }
        writeln!(f, "raw           {:>9}", self.raw)?;
        writeln!(f, "enriched      {:>9}", self.enriched)?;
        writeln!(f, "stored        {:>9}", self.stored)?;
        writeln!(f, "dead letters  {:>9}", self.dead_letters)?;
        if self.under_way > 0 {
            writeln!(f, "under way     {:>9}  (published within the last {} s)", self.under_way, UNDER_WAY.as_secs())?;
        }
        if self.aged > 0 {
            writeln!(f, "aged          {:>9}  (stored, and older than the topic's start)", self.aged)?;
        }
        if self.pruned > 0 {
            let begins: Vec<String> = self.begins.iter().map(|(partition, seq)| format!("{partition}@{seq}")).collect();
            let begins = begins.join(" ");
            writeln!(f, "pruned        {:>9}  (older than the table, which begins at {begins})", self.pruned)?;
        }
        if self.foreign > 0 {
            writeln!(f, "foreign       {:>9}  (records that others wrote into the topics)", self.foreign)?;
        }
        if self.lost > 0 {
            writeln!(f, "lost          {:>9}  (deleted from the topics before they were read)", self.lost)?;
        }
        if self.accepted > 0 {
            writeln!(f, "accepted      {:>9}  (missing in gaps whose loss was accepted)", self.accepted)?;
        }
        if self.loose.is_empty() {
            writeln!(f, "sequences         dense")?;
        } else {
            writeln!(f, "sequences     NOT DENSE: {}", self.loose.join("; "))?;
        }
        let Self { missing, double, extra, gaps, .. } = self;
        write!(f, "missing {missing}, double {double}, extra {extra}, gaps {gaps}")
    }
}

/// What was read of a topic, beside its ids.
#[derive(Default)]
struct Scanned {
    /// Where its sequences are not dense.
    loose: Vec<String>,
    /// Records that our services did not write.
    foreign: usize,
    /// Records that were deleted before somebody read them: a sequence continues behind a log that was emptied.
    lost: i64,
}

impl Scanned {
    fn topic(tail: &Tail, topic: &str, mut found: impl FnMut(&BorrowedRecord<'_>, &str, i64)) -> Result<Self, Failure> {
        let mut scanned = Self::default();
        let mut expected: HashMap<i32, i64> = HashMap::new();
        scan(tail, topic, |record| {
            let seq = text(record, SEQ).and_then(|seq| seq.parse::<i64>().ok());
            let (Some(seq), Some(id)) = (seq, text(record, CE_ID)) else {
                // The service that reads it sets it aside.
                scanned.foreign += 1;
                return;
            };
            found(record, id, seq);
            match expected.insert(record.partition(), seq + 1) {
                Some(due) if seq > due && SeqBase::of(record) == Some(SeqBase::Emptied) => scanned.lost += seq - due,
                // How much was lost is not known.
                Some(due) if seq > due && SeqBase::of(record).is_some() => {}
                Some(due) if seq != due && scanned.loose.len() < MOST_LOOSE => {
                    scanned.loose.push(format!("{topic} partition {} offset {}", record.partition(), record.offset()));
                }
                _ => {}
            }
        })?;
        Ok(scanned)
    }
}

/// The sequence number of the first record that each partition still holds; the greatest number where it holds none.
fn starts(tail: &Tail, topic: &str) -> Result<BTreeMap<i32, i64>, Failure> {
    let failed = |error: kafka::Error| Failure::Runtime(error.sentence());
    let mut starts = BTreeMap::new();
    for partition in 0..tail.partitions(topic).map_err(failed)?.unwrap_or(0) {
        let start = tail.bounds(topic, partition).map_err(failed)?.start;
        if start == 0 {
            continue;
        }
        let first = tail.first_own_record(topic, partition, start, EventHeaders::is_on).map_err(failed)?;
        let seq = first.as_ref().and_then(|first| EventHeaders::read(first).ok()).map(|headers| headers.seq);
        starts.insert(partition, seq.unwrap_or(i64::MAX));
    }
    Ok(starts)
}

fn text<'a>(record: &'a BorrowedRecord<'_>, name: &str) -> Option<&'a str> {
    record.header(name).and_then(|value| std::str::from_utf8(value).ok())
}

fn scan(tail: &Tail, topic: &str, mut each: impl FnMut(&BorrowedRecord<'_>)) -> Result<(), Failure> {
    let failed = |error: kafka::Error| Failure::Runtime(error.sentence());
    let extent = tail.extent(topic).map_err(failed)?;
    let bar = progress::bar(extent.offsets(), "reading");
    let scanned = tail.scan_extent(&extent, |record| {
        bar.inc(1);
        each(record);
    });
    bar.finish_and_clear();
    scanned.map_err(failed)
}

/// Takes the audit; `made` is what the stream's server says it made. Memory stays the same whatever there is.
pub(crate) fn take(kafka: &Kafka, table: &Table, made: Option<&Made>) -> Result<Report, Failure> {
    let topics = kafka.config().topics();
    let tail = kafka.tail().map_err(|error| Failure::Runtime(error.sentence()))?;
    let mut ids = Ids::new()?;
    let young_ms = jiff::Timestamp::now().as_millisecond() - i64::try_from(UNDER_WAY.as_millis()).unwrap_or(0);
    // Against the stream: what is found here was there already in what is read next.
    let starts = starts(&tail, &topics.events)?;
    let stored = table.read(|row| {
        let is_aged = starts.get(&row.partition).is_some_and(|start| row.seq < *start);
        ids.note(row.id, Found::Stored { is_aged });
    })?;
    expect_same_topic(&tail, &topics.events, &stored.topics)?;
    let enriched = Scanned::topic(&tail, &topics.events, |record, id, seq| {
        let is_before = stored.begins.get(&record.partition()).is_some_and(|begin| seq < *begin);
        ids.note(id, Found::Enriched { is_before });
    })?;
    let raw = Scanned::topic(&tail, &topics.raw, |record, id, _| {
        let is_young = record.timestamp_ms().is_some_and(|at_ms| at_ms >= young_ms);
        ids.note(id, Found::Raw { is_young });
    })?;
    let mut report = Report {
        dead_letters: dead_letters(&tail, &topics, &mut ids)?,
        loose: raw.loose.iter().chain(&enriched.loose).take(MOST_LOOSE).cloned().collect(),
        foreign: raw.foreign + enriched.foreign,
        lost: raw.lost + enriched.lost,
        ..Report::default()
    };
    report.loose.extend(stored.loose);
    report.begins = stored.begins;
    report.begins.retain(|_, begin| *begin > 0);
    let gaps = gaps::read(&tail, &topics.gaps)?;
    report.gaps = gaps.values().filter(|gap| gap.status == GapStatus::Open).count();
    let source_topics = made.map(|made| note_made(made, &mut ids)).unwrap_or_default();
    let is_accepted = |place: &Place| {
        let topic = source_topics.get(place.topic as usize).map_or("", String::as_str);
        let mut accepted = gaps.values().filter(|gap| gap.status == GapStatus::Accepted);
        accepted.any(|gap| gap.holds(topic, place.offset, place.time_ms))
    };
    report.made = made.map(HashMap::len);
    ids.each(|seen| report.count(seen, made.is_some(), is_accepted))?;
    Ok(report)
}

/// Notes what was set aside, and counts all dead letters.
fn dead_letters(tail: &Tail, topics: &Topics, ids: &mut Ids) -> Result<usize, Failure> {
    let mut count = 0;
    for source in [&topics.raw, &topics.events] {
        scan(tail, &topics.dead_letters_of(source), |record| {
            count += 1;
            // What ingest set aside never was a record of the raw topic.
            if text(record, DEAD_LETTER_ORIGIN) == Some(source)
                && let Some(id) = text(record, CE_ID)
            {
                ids.note(id, Found::SetAside);
            }
        })?;
    }
    Ok(count)
}

/// Notes what was made; gives the source topics by their numbers.
fn note_made(made: &Made, ids: &mut Ids) -> Vec<String> {
    let mut topics: Vec<String> = Vec::new();
    for (id, made) in made {
        let known = topics.iter().position(|topic| *topic == made.topic);
        let topic = known.unwrap_or_else(|| {
            topics.push(made.topic.clone());
            topics.len() - 1
        });
        let place =
            Place { topic: u32::try_from(topic).unwrap_or(u32::MAX), offset: made.offset, time_ms: made.log_time_ms };
        ids.note(id, Found::Made(place));
    }
    topics
}

/// The simulator gives the same ids again, and a table of yesterday's would look like today's.
fn expect_same_topic(tail: &Tail, events: &str, stored: &[String]) -> Result<(), Failure> {
    let failed = |error: kafka::Error| Failure::Runtime(error.sentence());
    if stored.is_empty() || tail.partitions(events).map_err(failed)?.is_none() {
        return Ok(());
    }
    let present = tail.topic_id(events).map_err(failed)?.to_string();
    match stored.iter().find(|id| **id != present) {
        None => Ok(()),
        Some(other) => Err(Failure::Config(format!(
            "the table holds edits of another topic {events} (id {other}; the present one has {present}): name the table \
             that the sinks store into now"
        ))),
    }
}

/// What a simulator made, by id.
pub(crate) type Made = HashMap<String, simulator::log::Made>;

/// Asks a simulator which ids it made, sent or not.
pub(crate) async fn ask(url: &str, types: &[String]) -> Result<Made, Failure> {
    let failed = |error: reqwest::Error| {
        Failure::Unavailable(format!("the simulator at {url} does not answer: {error}; check --simulator"))
    };
    // Another part of the process may have chosen the same provider already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = out::client(url).build().map_err(failed)?;
    let response = client.get(format!("{}/made", url.trim_end_matches('/'))).send().await.map_err(failed)?;
    let body = response.error_for_status().map_err(failed)?.text().await.map_err(failed)?;
    let lines = body.lines().filter_map(|line| serde_json::from_str::<simulator::log::Made>(line).ok());
    Ok(lines.filter(|line| types.contains(&line.kind)).map(|line| (line.id.clone(), line)).collect())
}
