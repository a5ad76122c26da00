//! The console producer: values from the command line or from standard input, and what became of each.

use std::io::{BufRead as _, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::ProgressBar;
use kafka::KafkaConfig;
use rdkafka::client::ClientContext;
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Header, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use serde_json::json;
use service::Failure;

use crate::progress;
use crate::topics::{client, name_and_value, partitions_of};

/// Wait for room in the client's queue, and for reports.
const POLL: Duration = Duration::from_millis(20);

/// Options of `wiki produce`.
#[derive(clap::Args, Debug)]
pub(crate) struct Options {
    /// The topic.
    topic: String,
    /// The value; `%n` in it is the record's number, from 0. Without it each line of standard input is one.
    #[arg(long, value_name = "TEXT")]
    value: Option<String>,
    /// How many records have that value.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "value")]
    count: u64,
    /// The key of every record: one key, one partition. `%n` as above.
    #[arg(long, value_name = "TEXT")]
    key: Option<String>,
    /// Lines of standard input hold a key, this, and the value.
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["key", "value"])]
    key_separator: Option<String>,
    /// A header of every record; repeatable.
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_and_value)]
    header: Vec<(String, String)>,
    /// The partition of every record, in the key's place.
    #[arg(long, value_name = "N")]
    partition: Option<i32>,
    /// Print what became of each record.
    #[arg(long)]
    reports: bool,
    /// The same as JSON objects.
    #[arg(long)]
    json: bool,
    /// Who has to have a record before it counts as delivered: all copies in sync, the leader, or nobody.
    #[arg(long, value_enum, default_value = "all")]
    acks: Acks,
    /// End without waiting for delivery, as a careless program does, and say how many records that loses.
    #[arg(long)]
    no_flush: bool,
    #[command(flatten)]
    kafka: KafkaConfig,
}

/// Who has to have a record before it counts as delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Acks {
    /// Every copy in sync.
    All,
    /// The leader alone: what it has and nobody else can be lost with it.
    #[value(name = "1")]
    Leader,
    /// Nobody: delivered means sent.
    #[value(name = "0")]
    Nobody,
}

/// How reports are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Printed {
    Nothing,
    Lines,
    Json,
}

#[derive(Debug, Default)]
struct Tally {
    delivered: u64,
    failed: u64,
    reason: Option<String>,
}

/// Hears of each delivery.
struct Reports {
    printed: Printed,
    bar: ProgressBar,
    tally: Mutex<Tally>,
}

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let (record, error) = match result {
            Ok(record) => (record, None),
            Err((error, record)) => (record, Some(cause(error))),
        };
        let key = record.key().map(String::from_utf8_lossy);
        let (topic, partition, offset) = (record.topic(), record.partition(), record.offset());
        let line = match (self.printed, &error) {
            (Printed::Nothing, _) => None,
            (Printed::Lines, None) => {
                Some(format!("delivered {topic}:{partition}:{offset}: key={}", key.unwrap_or_default()))
            }
            (Printed::Lines, Some(error)) => Some(format!("not delivered: key={}: {error}", key.unwrap_or_default())),
            (Printed::Json, _) => {
                let offset = error.is_none().then_some(offset);
                let report =
                    json!({ "topic": topic, "partition": partition, "offset": offset, "key": key, "error": error });
                Some(report.to_string())
            }
        };
        if let Some(line) = line {
            // Whoever read this has seen enough; what is under way is delivered all the same.
            self.bar.suspend(|| drop(writeln!(std::io::stdout(), "{line}")));
        }
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        self.bar.inc(1);
        match error {
            None => tally.delivered += 1,
            Some(error) => {
                tally.failed += 1;
                tally.reason.get_or_insert(error);
            }
        }
    }
}

/// librdkafka's words for a failure.
fn cause(error: &KafkaError) -> String {
    error.rdkafka_error_code().map_or_else(|| error.to_string(), |code| code.to_string())
}

/// Runs `wiki produce`.
pub(crate) fn main(options: &Options) -> Result<(), Failure> {
    let kafka = client(&options.kafka)?;
    partitions_of(&kafka, &options.topic)?;
    let printed = match (options.json, options.reports) {
        (true, _) => Printed::Json,
        (false, true) => Printed::Lines,
        (false, false) => Printed::Nothing,
    };
    let bar = progress::bar(if options.value.is_some() { options.count } else { 0 }, "delivering");
    let reports = Reports { printed, bar: bar.clone(), tally: Mutex::default() };
    let mut config = kafka.console_producer();
    match options.acks {
        Acks::All => {}
        Acks::Leader => {
            config.set("enable.idempotence", "false").set("acks", "1");
        }
        Acks::Nobody => {
            config.set("enable.idempotence", "false").set("acks", "0");
        }
    }
    let producer: BaseProducer<Reports> = config
        .create_with_context(reports)
        .map_err(|error| Failure::Config(format!("the producer cannot be made: {error}; check -X")))?;
    let (handed, bad) = send_all(&producer, options)?;
    while !options.no_flush && producer.in_flight_count() > 0 {
        producer.poll(POLL);
    }
    bar.finish_and_clear();
    // What stood before a bad line is delivered, and said to be.
    conclude(producer, options, handed)?;
    bad.map_or(Ok(()), Err)
}

/// Hands every record to the client, and gives their number; and why reading ended early, if it did.
fn send_all(producer: &BaseProducer<Reports>, options: &Options) -> Result<(u64, Option<Failure>), Failure> {
    let numbered = |text: &str, number: u64| text.replace("%n", &number.to_string());
    let key_of = |number| options.key.as_deref().map(|key| numbered(key, number).into_bytes());
    if let Some(value) = &options.value {
        for number in 0..options.count {
            send(producer, options, key_of(number).as_deref(), numbered(value, number).as_bytes())?;
        }
        return Ok((options.count, None));
    }
    let mut handed = 0;
    let mut input = std::io::stdin().lock();
    let mut line = Vec::new();
    loop {
        line.clear();
        match input.read_until(b'\n', &mut line) {
            Ok(0) => return Ok((handed, None)),
            Ok(_) => {}
            Err(error) => {
                let why = format!("standard input cannot be read: {error}");
                return Ok((handed, Some(Failure::Runtime(why))));
            }
        }
        // Bytes as they are, whatever they mean; a line's end is no part of them.
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        match options.key_separator.as_deref() {
            Some(separator) => {
                let Some((key, value)) = split_once(text, separator.as_bytes()) else {
                    let why = format!(
                        "line {} has no {separator:?} between key and value (--key-separator); it and what follows is not \
                         sent",
                        handed + 1
                    );
                    return Ok((handed, Some(Failure::Runtime(why))));
                };
                send(producer, options, Some(key), value)?;
            }
            None => send(producer, options, key_of(handed).as_deref(), text)?,
        }
        handed += 1;
    }
}

fn split_once<'a>(text: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let at = text.windows(separator.len().max(1)).position(|window| window == separator)?;
    Some((text.get(..at)?, text.get(at + separator.len()..)?))
}

fn send(producer: &BaseProducer<Reports>, options: &Options, key: Option<&[u8]>, value: &[u8]) -> Result<(), Failure> {
    let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&options.topic).payload(value);
    record.key = key;
    record.partition = options.partition;
    if !options.header.is_empty() {
        let headers = options.header.iter().fold(OwnedHeaders::new(), |headers, (name, value)| {
            headers.insert(Header { key: name, value: Some(value) })
        });
        record.headers = Some(headers);
    }
    loop {
        match producer.send(record) {
            Ok(()) => {
                producer.poll(Duration::ZERO);
                return Ok(());
            }
            // The client's queue is full: wait until something is delivered.
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), refused)) => {
                producer.poll(POLL);
                record = refused;
            }
            Err((error, _)) => {
                return Err(Failure::Runtime(format!("{} takes no record: {}", options.topic, cause(&error))));
            }
        }
    }
}

/// Says what became of all.
fn conclude(producer: BaseProducer<Reports>, options: &Options, handed: u64) -> Result<(), Failure> {
    let (delivered, failed, reason) = {
        let tally = producer.context().tally.lock().unwrap_or_else(PoisonError::into_inner);
        (tally.delivered, tally.failed, tally.reason.clone())
    };
    let left = handed - delivered - failed;
    if left > 0 {
        // Its end would wait for them: that is what a program does not do that exits.
        std::mem::forget(producer);
        return Err(Failure::Runtime(format!(
            "{delivered} of {handed} records delivered, {left} left behind undelivered"
        )));
    }
    match reason {
        None => {
            let records = if delivered == 1 { "record" } else { "records" };
            crate::out::say(format_args!("{delivered} {records} delivered to {}", options.topic));
            Ok(())
        }
        Some(reason) => Err(Failure::Runtime(format!("{failed} of {handed} records were not delivered: {reason}"))),
    }
}
