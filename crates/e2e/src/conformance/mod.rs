//! The Kafka protocol as this pipeline uses it, checked against any broker.
//!
//! Each check is written against the protocol, through librdkafka or over a bare socket, with members of groups as
//! processes of their own. Point it at a cluster with `conformance --bootstrap HOST:PORT`; every check makes topics
//! of its own.

mod copy;
mod groups;
pub mod member;
mod records;
mod topics;
mod transactions;
mod wire;

use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{Message as _, OwnedMessage};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::block_on;

/// How long a question may take.
const ANSWER: Duration = Duration::from_secs(15);

/// What a check says: nothing, or what is wrong.
type Outcome = Result<(), String>;

/// A check, by a name that says what holds.
type Check = (&'static str, fn(&Cluster) -> Outcome);

/// Every check.
const CHECKS: &[&[Check]] =
    &[topics::CHECKS, records::CHECKS, groups::CHECKS, transactions::CHECKS, copy::CHECKS, wire::CHECKS];

/// The verdict of one check.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The check.
    pub name: &'static str,
    /// What is wrong, if anything.
    pub failure: Option<String>,
    /// How long it took.
    pub took: Duration,
}

/// Runs the checks whose name contains `filter`.
#[must_use]
pub fn run(bootstrap: &str, filter: &str) -> Vec<Verdict> {
    let mut verdicts = Vec::new();
    for (name, check) in CHECKS.iter().copied().flatten().filter(|(name, _)| name.contains(filter)) {
        let started = Instant::now();
        let cluster = Cluster { bootstrap: bootstrap.to_owned(), prefix: format!("{name}-{}", std::process::id()) };
        let failure = check(&cluster).err();
        let verdict = Verdict { name, failure, took: started.elapsed() };
        match &verdict.failure {
            None => println!("ok    {name} ({:.1} s)", verdict.took.as_secs_f64()),
            Some(failure) => println!("FAIL  {name}: {failure}"),
        }
        verdicts.push(verdict);
    }
    verdicts
}

/// A cluster, and a check's own corner of it.
#[derive(Clone, Debug)]
struct Cluster {
    bootstrap: String,
    prefix: String,
}

impl Cluster {
    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        config
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.config().create().unwrap()
    }

    /// Makes a topic of this check.
    fn topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) -> Result<String, String> {
        let name = format!("{}-{name}", self.prefix).replace('_', "-");
        let mut topic = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
        for (key, value) in settings {
            topic = topic.set(key, value);
        }
        let results = block_on(self.admin().create_topics(&[topic], &options())).map_err(|error| error.to_string())?;
        for result in results {
            result.map_err(|(name, code)| format!("{name}: {code}"))?;
        }
        let reader = self.reader();
        until("the topic is known", || {
            let metadata = reader.fetch_metadata(Some(&name), ANSWER).ok()?;
            let found = metadata.topics().first()?;
            (found.partitions().len() == usize::try_from(partitions).ok()?).then_some(())
        })?;
        Ok(name)
    }

    fn producer(&self, settings: &[(&str, &str)]) -> BaseProducer {
        let mut config = self.config();
        config.set("linger.ms", "1").set("message.timeout.ms", "5000");
        for (key, value) in settings {
            config.set(*key, *value);
        }
        config.create().unwrap()
    }

    fn transactional(&self, id: &str, timeout_ms: u32) -> BaseProducer {
        let id = format!("{}-{id}", self.prefix);
        let timeout = timeout_ms.to_string();
        self.producer(&[
            ("transactional.id", &id),
            ("transaction.timeout.ms", &timeout),
            ("message.timeout.ms", &timeout),
        ])
    }

    /// A `read_committed` reader that joins no group.
    fn reader(&self) -> BaseConsumer {
        self.consumer("reader", &[])
    }

    fn consumer(&self, group: &str, settings: &[(&str, &str)]) -> BaseConsumer {
        let mut config = self.config();
        config
            .set("group.id", format!("{}-{group}", self.prefix))
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .set("enable.partition.eof", "true")
            .set("fetch.wait.max.ms", "50");
        for (key, value) in settings {
            config.set(*key, *value);
        }
        config.create().unwrap()
    }

    /// Every record of a partition that a `read_committed` reader sees.
    fn read(&self, topic: &str, partition: i32) -> Result<Vec<OwnedMessage>, String> {
        self.read_with(&self.reader(), topic, partition, Offset::Beginning)
    }

    fn read_with(
        &self,
        reader: &BaseConsumer,
        topic: &str,
        partition: i32,
        from: Offset,
    ) -> Result<Vec<OwnedMessage>, String> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, from).map_err(|error| error.to_string())?;
        reader.assign(&list).map_err(|error| error.to_string())?;
        let mut records = Vec::new();
        let deadline = Instant::now() + ANSWER;
        loop {
            match reader.poll(Duration::from_millis(50)) {
                Some(Ok(record)) => records.push(record.detach()),
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(records),
                Some(Err(error)) => return Err(error.to_string()),
                None if Instant::now() > deadline => return Err(format!("no end of {topic} partition {partition}")),
                None => {}
            }
        }
    }
}

/// Writes numbered records and waits until they are acknowledged.
fn write(producer: &BaseProducer, topic: &str, partition: i32, numbers: std::ops::Range<u32>) -> Outcome {
    for number in numbers {
        let (key, value) = (format!("k{number}"), number.to_string());
        let record = BaseRecord::to(topic).partition(partition).key(&key).payload(&value);
        producer.send(record).map_err(|(error, _)| error.to_string())?;
    }
    producer.flush(ANSWER).map_err(|error| error.to_string())
}

fn values(records: &[OwnedMessage]) -> Vec<String> {
    records.iter().map(|record| String::from_utf8_lossy(record.payload().unwrap_or_default()).into_owned()).collect()
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

fn expect<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Outcome {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found:?}, expected {expected:?}")) }
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(ANSWER)).request_timeout(Some(ANSWER))
}

/// Waits until `condition` gives something.
fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> Result<T, String> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(value) = condition() {
            return Ok(value);
        }
        if Instant::now() > deadline {
            return Err(format!("not within a minute: {what}"));
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
}
