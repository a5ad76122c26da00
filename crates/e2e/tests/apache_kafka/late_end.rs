//! An EndTxn that the network held back arrives in the midst of the next transaction of the same writer.
//!
//! librdkafka ends its transactions with version 1 of that request, which knows one epoch for many transactions. Who
//! aborts and goes on loses records without a word; who drops the writer and initialises again loses nothing.

use std::time::Duration;

use e2e::checker;
use e2e::kafka::Cluster;
use e2e::pipeline::{Parts, Pipeline};
use e2e::target::Target;
use e2e::wait_until;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

const EDITS: usize = 15_000;
/// Two records, each with the marker of its abort behind it.
const MARKED_TWICE: i64 = 4;
const LIMIT: Duration = Duration::from_secs(120);

/// What a `read_committed` reader sees, as text.
fn values(target: &Target, topic: &str) -> Vec<String> {
    let mut values = Vec::new();
    checker::for_each_record(target, topic, |record| {
        values.push(String::from_utf8_lossy(record.payload().unwrap_or_default()).into_owned());
    });
    values.sort();
    values
}

fn write(producer: &BaseProducer, topic: &str, partition: i32, value: &str) {
    producer
        .send(BaseRecord::to(topic).partition(partition).key("k").payload(value))
        .map_err(|(error, _)| error)
        .unwrap();
    producer.flush(LIMIT).unwrap();
}

#[test]
fn a_producer_that_aborts_and_goes_on_loses_a_record_without_a_word() {
    let cluster = Cluster::to_break();
    let target = cluster.target("late-abort");
    let topic = target.topic("t");
    let admin = target.admin();
    let new = NewTopic::new(&topic, 2, TopicReplication::Fixed(target.copies));
    e2e::block_on(admin.create_topics(&[new], &AdminOptions::new())).unwrap();
    let id = target.topic("careless");
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &cluster.proxied(&target).bootstrap)
        .set("transactional.id", &id)
        // The abort that is held is given up and sent again after this.
        .set("socket.timeout.ms", "2000")
        .create()
        .unwrap();
    producer.init_transactions(LIMIT).unwrap();
    producer.begin_transaction().unwrap();
    write(&producer, &topic, 0, "aborted");
    cluster.proxy.hold_next_end(&id, false);
    producer.abort_transaction(LIMIT).unwrap();
    assert!(cluster.proxy.is_holding(), "the first abort is under way still, and a second one was answered");

    producer.begin_transaction().unwrap();
    write(&producer, &topic, 0, "acknowledged");
    cluster.proxy.release();
    assert!(cluster.proxy.has_released());
    wait_until("the late abort struck", LIMIT, || end_of(&target, &topic) >= MARKED_TWICE);
    write(&producer, &topic, 1, "committed");
    producer.commit_transaction(LIMIT).unwrap();
    let seen = values(&target, "t");
    println!("both records were acknowledged and the commit succeeded; readers see {seen:?}");
    assert_eq!(seen, ["committed"], "the contrast is gone: the other record of the transaction was lost before");
}

/// The end of partition 0: records and markers.
fn end_of(target: &Target, topic: &str) -> i64 {
    let reader: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", &target.bootstrap).set("group.id", "late").create().unwrap();
    reader.fetch_watermarks(topic, 0, LIMIT).unwrap().1
}

#[test]
fn an_end_that_comes_late_into_the_next_transaction_loses_and_doubles_nothing() {
    let cluster = Cluster::to_break();
    let target = cluster.target("late-end");
    let edits = EDITS.to_string();
    let parts = Parts::with_simulator(&["--rate", "600", "--edits", &edits, "--seed", "81"]);
    let mut pipeline = Pipeline::on(cluster.proxied(&target), &parts);
    for service in ["ingest", "enricher", "sink"] {
        pipeline.start_service(service);
    }
    let table = pipeline.table();
    wait_until("edits flow", LIMIT, || {
        pipeline.expect_all_alive();
        checker::progress(&table) > 500
    });
    for id in [target.topic("wiki-ingest"), target.topic(&format!("wiki-enricher-{}-3", target.topic("wikipedia-raw")))]
    {
        cluster.proxy.hold_next_end(&id, true);
        wait_until("an end is held", LIMIT, || cluster.proxy.is_holding());
        wait_until("it is let go into the next transaction", LIMIT, || {
            pipeline.expect_all_alive();
            cluster.proxy.has_released()
        });
        println!("{id}: an end of a transaction came into the one after it");
    }
    pipeline.expect_exact(EDITS, LIMIT);
}
