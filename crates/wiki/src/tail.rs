//! The console consumer.

use std::io::Write as _;
use std::time::{Duration, Instant};

use kafka::{Kafka, KafkaConfig};
use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use schema::Edit;
use service::{Failure, Metrics};

/// Longest wait for the cluster's first answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(100);

/// How records are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// An edit a line, for people.
    Pretty,
    /// The value.
    Json,
    /// `topic:partition:offset: key= value=`.
    Offsets,
}

/// Options of `wiki tail`.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    #[command(flatten)]
    kafka: KafkaConfig,
    /// Topic; the enriched edits if not given.
    #[arg(long)]
    topic: Option<String>,
    /// Begin with the oldest record instead of the next one; with a group that has committed, there.
    #[arg(long)]
    from_beginning: bool,
    /// Join this consumer group: its members share the partitions, and go on where it left off.
    #[arg(long)]
    group: Option<String>,
    /// How records are printed.
    #[arg(long, value_enum, default_value = "pretty")]
    format: Format,
    /// End after this many records.
    #[arg(long, value_name = "N")]
    max: Option<u64>,
    /// End when nothing came for this long, in milliseconds.
    #[arg(long, value_name = "MS")]
    idle_ms: Option<u64>,
}

/// Prints records until enough, idle for long enough, or the reader of the output is gone.
pub(crate) fn main(options: &Options) -> Result<(), Failure> {
    let kafka = Kafka::new(options.kafka.clone(), &Metrics::new("wiki"));
    kafka.check_reachable(ANSWER_LIMIT)?;
    let topic = options.topic.clone().unwrap_or_else(|| options.kafka.topics().events);
    let failed = |error: kafka::Error| Failure::Runtime(error.sentence());
    let tail = kafka.tail().map_err(failed)?;
    let partitions = tail.partitions(&topic).map_err(failed)?.ok_or_else(|| {
        Failure::Config(format!(
            "there is no topic {topic}; start ingest, which makes the topics, or give another --topic"
        ))
    })?;
    let consumer = kafka.console(options.group.as_deref(), options.from_beginning).map_err(failed)?;
    let unreadable = |error: KafkaError| Failure::Runtime(format!("{topic} cannot be read: {error}"));
    if options.group.is_some() {
        consumer.subscribe(&[&topic]).map_err(unreadable)?;
    } else {
        let begin = if options.from_beginning { Offset::Beginning } else { Offset::End };
        let mut assignment = TopicPartitionList::new();
        for partition in 0..partitions {
            assignment.add_partition_offset(&topic, partition, begin).map_err(unreadable)?;
        }
        consumer.assign(&assignment).map_err(unreadable)?;
    }
    let mut out = std::io::stdout().lock();
    let (mut printed, mut last) = (0, Instant::now());
    while options.max.is_none_or(|max| printed < max) {
        match consumer.poll(POLL) {
            Some(Ok(record)) => {
                let written = writeln!(out, "{}", line(&record, options.format)).and_then(|()| out.flush());
                if written.is_err() {
                    // Whoever read this has seen enough.
                    break;
                }
                if options.group.is_some() {
                    consumer.store_offset_from_message(&record).map_err(unreadable)?;
                }
                printed += 1;
                last = Instant::now();
            }
            Some(Err(KafkaError::PartitionEOF(_))) | None => {}
            Some(Err(error)) => return Err(unreadable(error)),
        }
        if options.idle_ms.is_some_and(|limit| last.elapsed() >= Duration::from_millis(limit)) {
            break;
        }
    }
    if options.group.is_some() {
        // A group that is left with nothing read has nothing to commit.
        let _ = consumer.commit_consumer_state(rdkafka::consumer::CommitMode::Sync);
    }
    Ok(())
}

fn line(record: &BorrowedMessage<'_>, format: Format) -> String {
    let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
    match format {
        Format::Json => text(record.payload()),
        Format::Offsets => format!(
            "{}:{}:{}: key={} value={}",
            record.topic(),
            record.partition(),
            record.offset(),
            text(record.key()),
            text(record.payload())
        ),
        Format::Pretty => record
            .payload()
            .and_then(|value| Edit::from_json(value).ok())
            .map_or_else(|| text(record.payload()), |edit| pretty(&edit, record.partition())),
    }
}

/// An edit as one line for people.
pub(crate) fn pretty(edit: &Edit<'_>, partition: i32) -> String {
    let time = edit.timestamp.get(11..19).unwrap_or(&edit.timestamp);
    let change = match (edit.old_length, edit.new_length) {
        (Some(old), Some(new)) => format!(" ({:+})", new - old),
        _ => String::new(),
    };
    let user = edit.user_name.as_deref().unwrap_or("(hidden)");
    let title = printable(&edit.title);
    format!("{time} p{partition} {:<14} {title}{change} · {} {}", edit.wiki, edit.user_kind.as_str(), printable(user))
}

/// Names of pages and people cannot move the cursor or change colours.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_cannot_steer_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb"), "a\u{fffd}[2Jb");
    }
}
