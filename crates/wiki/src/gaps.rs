//! The gap ledger: listed, shown, accepted.

use std::collections::BTreeMap;
use std::time::Duration;

use kafka::{Kafka, KafkaConfig, Tail};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use schema::gap::{Edge, Gap, GapStatus};
use serde_json::{Value, json};
use service::Failure;

use crate::out::{confirm, line};
use crate::topics::{client, failed};

/// How long a write may take.
const WRITE_LIMIT: Duration = Duration::from_secs(10);

/// What `wiki gaps` does.
#[derive(clap::Subcommand, Debug)]
pub(crate) enum Action {
    /// List open gaps: source topic, from when to when, how many events, why.
    List {
        /// Those that are closed too.
        #[arg(long)]
        all: bool,
        /// JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        kafka: KafkaConfig,
    },
    /// Show one gap with the events on both sides of it.
    Show {
        /// The gap, as `wiki gaps list` names it.
        gap: String,
        /// JSON.
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        kafka: KafkaConfig,
    },
    /// Accept the loss of a gap, after a question: it is open no more, and no alert fires for it.
    Accept {
        /// The gap, as `wiki gaps list` names it.
        gap: String,
        /// Without the question.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        kafka: KafkaConfig,
    },
}

/// Runs `wiki gaps`.
pub(crate) fn main(action: &Action) -> Result<(), Failure> {
    match action {
        Action::List { all, json, kafka } => list(&client(kafka)?, *all, *json),
        Action::Show { gap, json, kafka } => show(&client(kafka)?, gap, *json),
        Action::Accept { gap, yes, kafka } => accept(&client(kafka)?, gap, *yes),
    }
}

fn ledger(kafka: &Kafka) -> Result<BTreeMap<String, Gap>, Failure> {
    read(&kafka.tail().map_err(|error| failed(&error))?, &kafka.config().topics().gaps)
}

/// How many gaps are open.
pub(crate) fn open(tail: &Tail, topic: &str) -> Result<usize, Failure> {
    Ok(read(tail, topic)?.values().filter(|gap| gap.status == GapStatus::Open).count())
}

/// The latest state of every gap, by its id; none where there is no ledger yet.
pub(crate) fn read(tail: &Tail, topic: &str) -> Result<BTreeMap<String, Gap>, Failure> {
    let mut gaps = BTreeMap::new();
    tail.scan(topic, |record| {
        if let Ok(gap) = serde_json::from_slice::<Gap>(record.value()) {
            gaps.insert(gap.id.clone(), gap);
        }
    })
    .map_err(|error| failed(&error))?;
    Ok(gaps)
}

fn list(kafka: &Kafka, all: bool, json: bool) -> Result<(), Failure> {
    let gaps = ledger(kafka)?;
    let wanted: Vec<&Gap> = gaps.values().filter(|gap| all || gap.status == GapStatus::Open).collect();
    if json {
        line(json!(wanted));
        return Ok(());
    }
    if wanted.is_empty() {
        line(if all { "no gap was ever declared" } else { "no open gaps" });
        return Ok(());
    }
    line(format!("{:<70} {:<25} {:<25} {:>9}  {:<16} {}", "gap", "from", "to", "events", "reason", "status"));
    for gap in wanted {
        let Gap { id, from_ms, to_ms, estimated_events, reason, status, .. } = gap;
        let (from, to) = (time(*from_ms), time(*to_ms));
        let status = status_of(*status);
        line(format!("{id:<70} {from:<25} {to:<25} {estimated_events:>9}  {:<16} {status}", reason.as_str()));
    }
    Ok(())
}

fn find(kafka: &Kafka, id: &str) -> Result<Gap, Failure> {
    ledger(kafka)?.remove(id).ok_or_else(|| {
        Failure::Config(format!("there is no gap {id}; `wiki gaps list --all` lists those that there are"))
    })
}

fn show(kafka: &Kafka, id: &str, json: bool) -> Result<(), Failure> {
    let gap = find(kafka, id)?;
    if json {
        line(json!(gap));
        return Ok(());
    }
    line(format!("gap       {}", gap.id));
    line(format!("topic     {}", gap.source_topics.join(", ")));
    line(format!("from      {}  {}", time(gap.from_ms), side(gap.after.as_ref())));
    line(format!("to        {}  {}", time(gap.to_ms), side(gap.before.as_ref())));
    line(format!("events    about {}", gap.estimated_events));
    line(format!("reason    {}", gap.reason.as_str()));
    line(format!("status    {}", status_of(gap.status)));
    Ok(())
}

fn accept(kafka: &Kafka, id: &str, yes: bool) -> Result<(), Failure> {
    let mut gap = find(kafka, id)?;
    if gap.status != GapStatus::Open {
        line(format!("{id} is {} already", status_of(gap.status)));
        return Ok(());
    }
    confirm(&format!("accept that about {} events are missing", gap.estimated_events), id, yes)?;
    gap.status = GapStatus::Accepted;
    let value: Value = json!(gap);
    write(kafka, id, &value.to_string())?;
    line(format!("{id} is accepted"));
    Ok(())
}

/// Writes an entry of the ledger and waits until it is there.
pub(crate) fn write(kafka: &Kafka, key: &str, value: &str) -> Result<(), Failure> {
    let topic = kafka.config().topics().gaps;
    let refused = |error: rdkafka::error::KafkaError| {
        Failure::Runtime(format!(
            "the gap ledger {topic} cannot be written: {error}; the user needs the right to write it"
        ))
    };
    let producer: BaseProducer = kafka.console_producer().create().map_err(refused)?;
    producer.send(BaseRecord::to(&topic).partition(0).key(key).payload(value)).map_err(|(error, _)| refused(error))?;
    producer.flush(WRITE_LIMIT).map_err(refused)?;
    let mut is_there = false;
    let tail = kafka.tail().map_err(|error| failed(&error))?;
    tail.scan(&topic, |record| is_there |= record.value() == value.as_bytes()).map_err(|error| failed(&error))?;
    if is_there {
        return Ok(());
    }
    Err(Failure::Runtime(format!("the gap ledger {topic} was not written: the user needs the right to write it")))
}

fn side(edge: Option<&Edge>) -> String {
    match edge {
        None => String::new(),
        Some(Edge { id, offset, .. }) if id.is_empty() && offset.is_none() => "the start that was asked for".to_owned(),
        Some(Edge { id, offset, .. }) => {
            let offset = offset.map_or_else(String::new, |offset| format!(", offset {offset}"));
            format!("event {id}{offset}")
        }
    }
}

const fn status_of(status: GapStatus) -> &'static str {
    match status {
        GapStatus::Open => "open",
        GapStatus::Healed => "healed",
        GapStatus::Accepted => "accepted",
    }
}

/// An instant for people.
pub(crate) fn time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |time| format!("{time:.3}"))
}
