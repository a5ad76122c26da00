//! The console consumer: `wiki consume` prints a topic's records, `wiki tail` the edits.

mod filter;
mod format;
mod start;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use kafka::context::Context;
use kafka::{Kafka, KafkaConfig, Rebalancing, is_passing};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use service::{CancellationToken, Failure};

use crate::topics::{client, failed, partitions_of};
use crate::{out, progress};
use filter::Filter;
use format::Format;
pub(crate) use format::pretty;
pub(crate) use start::Start;

/// How long the group's coordinator may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Between two words about brokers that are away.
const TOLD_AGAIN: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(100);

/// Options of `wiki consume`.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    /// The topic.
    topic: String,
    /// How records are printed.
    #[arg(long, value_enum, default_value = "offsets")]
    format: Format,
    #[command(flatten)]
    reading: Reading,
}

/// Options of `wiki tail`.
#[derive(clap::Args, Debug)]
pub(crate) struct TailOptions {
    /// Topic; the enriched edits if not given.
    #[arg(long)]
    topic: Option<String>,
    /// How records are printed.
    #[arg(long, value_enum, default_value = "pretty")]
    format: Format,
    #[command(flatten)]
    reading: Reading,
}

/// What both read, and how far.
#[derive(clap::Args, Debug)]
struct Reading {
    #[command(flatten)]
    kafka: KafkaConfig,
    /// Where to begin: earliest, latest, an offset, or a time such as 2026-07-01T12:00:00Z. A consumer group that has
    /// committed goes on there instead.
    #[arg(long, value_name = "WHERE", default_value = "latest")]
    from: Start,
    /// The same as --from earliest.
    #[arg(long, conflicts_with = "from")]
    from_beginning: bool,
    /// Join this consumer group: its members share the partitions, and go on where it left off.
    #[arg(long)]
    group: Option<String>,
    /// What this member is called, by the broker and in `wiki groups describe`.
    #[arg(long, default_value = "wiki-consume")]
    name: String,
    /// How the group's partitions move when members come and go.
    #[arg(long, value_enum, default_value = "eager", requires = "group")]
    rebalance: Rebalancing,
    /// Commit so many records at once before they are printed: what is between the two when a program dies is lost.
    #[arg(long, value_name = "RECORDS", requires = "group", value_parser = clap::value_parser!(u64).range(1..))]
    commit_before: Option<u64>,
    /// Whole records as JSON objects: the same as --format record.
    #[arg(long, conflicts_with = "format")]
    json: bool,
    #[command(flatten)]
    filter: Filter,
    /// End after this many records.
    #[arg(long, value_name = "N")]
    max: Option<u64>,
    /// End at the end of every partition.
    #[arg(long)]
    until_end: bool,
    /// Say on standard error when the end of a partition is reached, and which partitions the group gives and takes.
    #[arg(long)]
    talk: bool,
    /// End when nothing came for this long, in milliseconds.
    #[arg(long, value_name = "MS")]
    idle_ms: Option<u64>,
}

/// Runs `wiki consume`.
pub(crate) fn main(options: Options) -> Result<(), Failure> {
    consume(options.topic, options.format, options.reading)
}

/// Runs `wiki tail`.
pub(crate) fn tail(options: TailOptions) -> Result<(), Failure> {
    let topic = options.topic.unwrap_or_else(|| options.reading.kafka.topics().events);
    consume(topic, options.format, options.reading)
}

/// Prints records until enough, the end, idle for long enough, a signal, or the reader of the output is gone.
fn consume(topic: String, format: Format, reading: Reading) -> Result<(), Failure> {
    let format = if reading.json { Format::Record } else { format };
    service::block_on(async {
        let shutdown = CancellationToken::new();
        service::shutdown::on_signals(&shutdown);
        let reader = tokio::task::spawn_blocking(move || Reader::open(topic, format, reading)?.run(&shutdown));
        reader.await.unwrap_or_else(|_| Err(Failure::Runtime("the reader broke".to_owned())))
    })
}

struct Reader {
    topic: String,
    format: Format,
    reading: Reading,
    consumer: BaseConsumer<Context>,
    partitions: i32,
    ended: BTreeSet<i32>,
    owned: BTreeSet<i32>,
    bar: ProgressBar,
    /// When it was told last that no broker answers.
    told: Cell<Option<Instant>>,
}

impl Reader {
    fn open(topic: String, format: Format, reading: Reading) -> Result<Self, Failure> {
        let kafka = client(&reading.kafka)?.named(&reading.name);
        let partitions = partitions_of(&kafka, &topic)?;
        let start = if reading.from_beginning { Start::Earliest } else { reading.from };
        if reading.group.is_some() && !matches!(start, Start::Earliest | Start::Latest) {
            return Err(Failure::Usage(
                "a consumer group begins where it committed, else at --from earliest or latest; leave --group out to \
                 begin elsewhere"
                    .to_owned(),
            ));
        }
        if let Some(group) = &reading.group {
            expect_protocol(&kafka, group, reading.rebalance)?;
        }
        let group = reading.group.as_deref().map(|group| (group, reading.rebalance));
        let consumer = kafka.console(group, start == Start::Earliest).map_err(|error| failed(&error))?;
        let bar = bar(&kafka, &topic, &reading, start)?;
        let (ended, owned) = (BTreeSet::new(), BTreeSet::new());
        let reader = Self { topic, format, reading, consumer, partitions, ended, owned, bar, told: Cell::new(None) };
        let begun = match &reader.reading.group {
            Some(_) => reader.consumer.subscribe(&[&reader.topic]),
            None => start
                .assignment(&reader.consumer, &reader.topic, partitions)
                .and_then(|assignment| reader.consumer.assign(&assignment)),
        };
        begun.map_err(|error| reader.unreadable(&error))?;
        Ok(reader)
    }

    fn unreadable(&self, error: &KafkaError) -> Failure {
        Failure::Runtime(format!("{} cannot be read: {error}", self.topic))
    }

    fn run(mut self, shutdown: &CancellationToken) -> Result<(), Failure> {
        let (mut printed, mut read, mut last) = (0, 0, Instant::now());
        let mut out = std::io::stdout().lock();
        while !shutdown.is_cancelled() && self.reading.max.is_none_or(|max| printed < max) {
            let polled = self.consumer.poll(POLL);
            // An end that was reached is left by the next record.
            match &polled {
                Some(Ok(record)) => {
                    self.ended.remove(&record.partition());
                    if let Some(many) = self.reading.commit_before {
                        self.commit_ahead(record, read, many)?;
                    }
                    read += 1;
                    self.bar.inc(1);
                    if self.reading.filter.passes(record.payload().unwrap_or_default()) {
                        let line = format::line(record, self.format);
                        match writeln!(out, "{}", out::record(&line)).and_then(|()| out.flush()) {
                            Ok(()) => {}
                            // Whoever read this has seen enough.
                            Err(error) if error.kind() == ErrorKind::BrokenPipe => break,
                            Err(error) => return Err(out::unwritable(&error)),
                        }
                        printed += 1;
                    }
                    last = Instant::now();
                    self.store(record)?;
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    self.ended.insert(*partition);
                    self.say_end(*partition);
                }
                // The reader of our output held us up: the group gave the partitions to others, and gives some again.
                Some(Err(KafkaError::MessageConsumption(RDKafkaErrorCode::PollExceeded))) => {
                    crate::out::say(format_args!(
                        "wiki: held up for too long: the group took the partitions meanwhile; reading on"
                    ));
                    self.ended.clear();
                    last = Instant::now();
                }
                Some(Err(error)) if is_passing(error) => self.say_away(error),
                Some(Err(error)) => return Err(self.unreadable(error)),
                None => {}
            }
            drop(polled);
            self.look_at_group();
            let is_idle = self.reading.idle_ms.is_some_and(|limit| last.elapsed() >= Duration::from_millis(limit));
            if is_idle || (self.reading.until_end && self.is_at_end()) {
                break;
            }
        }
        self.bar.finish_and_clear();
        if self.reading.group.is_some() {
            // A consumer group that is left with nothing read has nothing to commit.
            let _ = self.consumer.commit_consumer_state(CommitMode::Sync);
        }
        Ok(())
    }

    /// Commits ahead of what is printed: every so many records, all of them at once.
    fn commit_ahead(&self, record: &BorrowedMessage<'_>, read: u64, many: u64) -> Result<(), Failure> {
        if !read.is_multiple_of(many) {
            return Ok(());
        }
        let mut ahead = TopicPartitionList::new();
        let next = Offset::Offset(record.offset() + i64::try_from(many).unwrap_or(i64::MAX));
        ahead
            .add_partition_offset(record.topic(), record.partition(), next)
            .and_then(|()| self.consumer.commit(&ahead, CommitMode::Sync))
            .map_err(|error| self.unreadable(&error))
    }

    /// What is printed is committed by and by, and at the end.
    fn store(&self, record: &BorrowedMessage<'_>) -> Result<(), Failure> {
        if self.reading.group.is_none() || self.reading.commit_before.is_some() {
            return Ok(());
        }
        match self.consumer.store_offset_from_message(record) {
            // The partition was taken in this moment: its next owner prints this record again.
            Ok(()) | Err(KafkaError::StoreOffset(RDKafkaErrorCode::State)) => Ok(()),
            Err(error) => Err(self.unreadable(&error)),
        }
    }

    fn is_at_end(&self) -> bool {
        if self.reading.group.is_some() {
            !self.owned.is_empty() && self.owned.is_subset(&self.ended)
        } else {
            self.ended.len() == usize::try_from(self.partitions).unwrap_or(usize::MAX)
        }
    }

    /// Other brokers may have what is to be read; where none answers a reader should know why nothing comes.
    fn say_away(&self, error: &KafkaError) {
        let is_all = error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown);
        if is_all && self.told.get().is_none_or(|told| told.elapsed() > TOLD_AGAIN) {
            self.told.set(Some(Instant::now()));
            crate::out::say(format_args!("wiki: no broker answers; going on when one does (Ctrl-C ends it)"));
        }
    }

    fn say_end(&self, partition: i32) {
        if self.reading.talk {
            crate::out::say(format_args!("end of {}:{partition}", self.topic));
        }
    }

    /// Says what the group gave and took.
    fn look_at_group(&mut self) {
        if self.reading.group.is_none() {
            return;
        }
        let owned: BTreeSet<i32> = self
            .consumer
            .assignment()
            .map(|list| {
                list.elements().iter().map(rdkafka::topic_partition_list::TopicPartitionListElem::partition).collect()
            })
            .unwrap_or_default();
        if owned != self.owned {
            self.ended.retain(|partition| owned.contains(partition));
            if self.reading.talk {
                crate::out::say(format_args!("partitions of {}: {}", self.topic, names(&owned)));
            }
            self.owned = owned;
        }
    }
}

/// For a whole topic that goes into a file; records that are printed here are a progress of their own.
fn bar(kafka: &Kafka, topic: &str, reading: &Reading, start: Start) -> Result<ProgressBar, Failure> {
    let is_whole = reading.until_end && reading.group.is_none() && start == Start::Earliest;
    if !is_whole || std::io::stdout().is_terminal() {
        return Ok(ProgressBar::hidden());
    }
    let extent = kafka.tail().and_then(|tail| tail.extent(topic)).map_err(|error| failed(&error))?;
    Ok(progress::bar(extent.offsets(), "reading"))
}

/// A consumer group speaks one protocol at a time; whoever speaks another waits for ever.
fn expect_protocol(kafka: &Kafka, group: &str, rebalance: Rebalancing) -> Result<(), Failure> {
    let described = kafka.group_view(group).and_then(|mut view| view.describe(ANSWER_LIMIT));
    let described = described.map_err(|error| failed(&error))?;
    let is_new = rebalance == Rebalancing::Consumer;
    if described.members.is_empty() || described.protocol.eq_ignore_ascii_case("consumer") == is_new {
        return Ok(());
    }
    let other = if is_new { "--rebalance eager or cooperative" } else { "--rebalance consumer" };
    Err(Failure::Config(format!(
        "the members of {group} speak the {} protocol: join them with {other}, or wait until they are gone",
        described.protocol.to_lowercase()
    )))
}

fn names(partitions: &BTreeSet<i32>) -> String {
    if partitions.is_empty() {
        return "none".to_owned();
    }
    partitions.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
