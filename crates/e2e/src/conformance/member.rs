//! A member of a consumer group as a process of its own, so that it can really be killed.
//!
//! It prints a line for each change of its assignment (`owns 0 1 2`) and, when it copies, nothing else.

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{ClientConfig, ClientContext};

const ANSWER: Duration = Duration::from_secs(15);
/// Records of one transaction at most.
const TRANSACTION: usize = 100;

/// What a member process is told, in this order on its command line.
#[derive(Clone, Debug)]
pub struct Orders {
    /// Bootstrap servers.
    pub bootstrap: String,
    /// `cooperative`, `eager` or `consumer`.
    pub protocol: String,
    /// The consumer group.
    pub group: String,
    /// The topic to read.
    pub topic: String,
    /// The topic to copy to, exactly once; empty for a member that only reads.
    pub copy_to: String,
    /// The transactional id of the copy.
    pub transactional_id: String,
}

impl Orders {
    /// The orders as arguments.
    #[must_use]
    pub fn to_arguments(&self) -> Vec<String> {
        let Self { bootstrap, protocol, group, topic, copy_to, transactional_id } = self.clone();
        vec!["member".to_owned(), bootstrap, protocol, group, topic, copy_to, transactional_id]
    }

    /// Reads the arguments behind `member`.
    #[must_use]
    pub fn parse(arguments: &[String]) -> Option<Self> {
        let [bootstrap, protocol, group, topic, copy_to, transactional_id] = arguments else { return None };
        Some(Self {
            bootstrap: bootstrap.clone(),
            protocol: protocol.clone(),
            group: group.clone(),
            topic: topic.clone(),
            copy_to: copy_to.clone(),
            transactional_id: transactional_id.clone(),
        })
    }
}

struct Telling;

impl ClientContext for Telling {}

impl ConsumerContext for Telling {
    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, _: &Rebalance<'_>) {
        let owned = consumer.assignment().unwrap_or_default();
        let partitions: BTreeSet<i32> = owned.elements().iter().map(|element| element.partition()).collect();
        let text: Vec<String> = partitions.iter().map(ToString::to_string).collect();
        println!("owns {}", text.join(" "));
    }
}

fn consumer(orders: &Orders) -> BaseConsumer<Telling> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &orders.bootstrap)
        .set("group.id", &orders.group)
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .set("fetch.wait.max.ms", "50");
    match orders.protocol.as_str() {
        "consumer" => config.set("group.protocol", "consumer"),
        protocol => config
            .set("partition.assignment.strategy", if protocol == "eager" { "range" } else { "cooperative-sticky" })
            .set("session.timeout.ms", "6000")
            .set("heartbeat.interval.ms", "500"),
    };
    config.create_with_context(Telling).unwrap()
}

/// Follows its orders until it is killed. An error ends it: whoever started it starts it again.
///
/// # Errors
/// What went wrong.
pub fn run(orders: &Orders) -> Result<(), String> {
    let consumer = consumer(orders);
    consumer.subscribe(&[&orders.topic]).map_err(|error| error.to_string())?;
    if orders.copy_to.is_empty() {
        loop {
            drop(consumer.poll(Duration::from_millis(50)));
        }
    }
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &orders.bootstrap)
        .set("transactional.id", &orders.transactional_id)
        .set("transaction.timeout.ms", "5000")
        .set("message.timeout.ms", "4000")
        .create()
        .unwrap();
    producer.init_transactions(ANSWER).map_err(|error| error.to_string())?;
    loop {
        copy_some(&consumer, &producer, &orders.copy_to)?;
    }
}

/// Copies what is there in one transaction, the input's offsets with it.
fn copy_some(consumer: &BaseConsumer<Telling>, producer: &BaseProducer, to: &str) -> Result<(), String> {
    let mut copied = 0;
    while copied < TRANSACTION {
        let record = match consumer.poll(Duration::from_millis(if copied == 0 { 50 } else { 5 })) {
            Some(Ok(record)) => record,
            Some(Err(error)) => return Err(error.to_string()),
            None if copied == 0 => return Ok(()),
            None => break,
        };
        if copied == 0 {
            producer.begin_transaction().map_err(|error| error.to_string())?;
        }
        let copy = BaseRecord::to(to)
            .partition(record.partition())
            .key(record.key().unwrap_or_default())
            .payload(record.payload().unwrap_or_default());
        producer.send(copy).map_err(|(error, _)| error.to_string())?;
        copied += 1;
    }
    let position = consumer.position().map_err(|error| error.to_string())?;
    let identity = consumer.group_metadata().ok_or("no group")?;
    producer.send_offsets_to_transaction(&position, &identity, ANSWER).map_err(|error| error.to_string())?;
    producer.commit_transaction(ANSWER).map_err(|error| error.to_string())
}
