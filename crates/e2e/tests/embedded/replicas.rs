//! A standby of ingest, and a hole that is repaired; replicas under load are in `apache_kafka`.

use std::time::Duration;

use e2e::pipeline::{Parts, Pipeline};
use e2e::{checker, wait_until};
use rdkafka::admin::AdminOptions;
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};

const LIMIT: Duration = Duration::from_secs(90);

#[test]
fn a_standby_of_ingest_opens_no_connection_and_takes_over_from_the_killed() {
    let edits = 6_000;
    // One connection per address: a standby that connected would be refused, and would say so.
    let mut pipeline = Pipeline::start(&Parts::with_simulator(&[
        "--rate",
        "1500",
        "--edits",
        "6000",
        "--seed",
        "21",
        "--connections",
        "1",
    ]));
    for service in ["ingest-1", "ingest-2", "enricher", "sink-1"] {
        pipeline.start_service(service);
    }
    let table = pipeline.table();
    wait_until("edits flow", LIMIT, || checker::rows(&table) > 500);
    let acting = |pipeline: &Pipeline| -> Vec<&'static str> {
        let replicas = ["ingest-1", "ingest-2"];
        replicas.into_iter().filter(|name| pipeline.metric(name, "wiki_ingest_acting") == Some(1.0)).collect()
    };
    let first = acting(&pipeline);
    assert_eq!(first.len(), 1, "exactly one acts");
    let standby = if first == ["ingest-1"] { "ingest-2" } else { "ingest-1" };
    assert_eq!(pipeline.metric(standby, "wiki_ingest_bytes_received_total"), Some(0.0));
    pipeline.service(first[0]).kill();
    wait_until("the standby acts", LIMIT, || acting(&pipeline) == [standby]);
    pipeline.start_service(first[0]);
    pipeline.expect_exact(edits, LIMIT);
    assert!(pipeline.logs(standby).iter().all(|line| !line.to_string().contains("(429)")), "one connection at a time");
}

const EDITS: usize = 6_000;

fn enriched(pipeline: &Pipeline) -> usize {
    checker::read_topic(&pipeline.target, "wikipedia-events").values().map(Vec::len).sum()
}

/// Deletes most of each partition, as retention does to a sink that was away too long.
fn delete_most(pipeline: &Pipeline, topic: &str) {
    let mut list = TopicPartitionList::new();
    for (partition, records) in checker::read_topic(&pipeline.target, topic) {
        let behind = records[records.len() * 3 / 4].offset();
        assert!(list.add_partition_offset(topic, partition, Offset::Offset(behind)).is_ok());
    }
    let deleted = e2e::block_on(pipeline.target.admin().delete_records(&list, &AdminOptions::new()));
    assert!(deleted.is_ok(), "{deleted:?}");
}

/// A part is stored, then the sink is killed, and everything is enriched.
fn with_a_sink_that_was_away() -> (Pipeline, usize) {
    let mut pipeline = Pipeline::start(&Parts::with_simulator(&["--rate", "2000", "--edits", "6000", "--seed", "41"]));
    for service in ["ingest", "enricher", "sink-1"] {
        pipeline.start_service(service);
    }
    let table = pipeline.table();
    wait_until("a part is stored", LIMIT, || checker::rows(&table) > 800);
    pipeline.service("sink-1").kill();
    wait_until("all is enriched", LIMIT, || enriched(&pipeline) == EDITS);
    (pipeline, checker::rows(&table))
}

fn expect_repaired(pipeline: &mut Pipeline) {
    let table = pipeline.table();
    wait_until("every edit is stored", LIMIT, || {
        pipeline.expect_all_alive();
        checker::rows(&table) == EDITS
    });
    let logs = pipeline.logs("sink-1");
    assert!(
        logs.iter().any(|line| line["message"] == "a hole is repaired"),
        "the table was repaired from the raw topic"
    );
    let ids = checker::made(pipeline.simulator, "edit");
    let rows = e2e::recorded::stored(&table);
    assert!(ids.iter().eq(rows.keys()), "the repaired table holds exactly what was made");
}

#[test]
fn a_hole_in_the_topic_is_healed_from_the_raw_one() {
    let (mut pipeline, stored) = with_a_sink_that_was_away();
    delete_most(&pipeline, "wikipedia-events");
    let left = enriched(&pipeline);
    assert!(left < 2_000 && stored + left < EDITS, "there are holes: {stored} stored, {left} left");
    pipeline.start_service("sink-1");
    expect_repaired(&mut pipeline);
}

#[test]
fn a_hole_that_the_raw_topic_does_not_hold_either_halts_its_partition_and_says_so() {
    let (mut pipeline, stored) = with_a_sink_that_was_away();
    delete_most(&pipeline, "wikipedia-events");
    delete_most(&pipeline, "wikipedia-raw");
    pipeline.start_service("sink-1");
    wait_until("the sink says what halted it", LIMIT, || {
        pipeline.expect_all_alive();
        let said = pipeline.readiness("sink-1");
        said.is_some_and(|(ready, said)| !ready && said.contains("a hole that cannot be repaired halted 6 partitions"))
    });
    assert_eq!(pipeline.metric("sink-1", "wiki_sink_sequence_holes_total"), Some(6.0), "each hole is met once");
    assert_eq!(checker::rows(&pipeline.table()), stored, "nothing behind a hole is stored");

    // As the alert's page says: the loss is taken by hand, partition by partition.
    pipeline.service("sink-1").kill();
    let table = rusqlite::Connection::open(pipeline.table()).unwrap();
    for line in pipeline.logs("sink-1").iter().filter(|line| line["found"].is_i64()) {
        let place = (line["found"].as_i64(), line["partition"].as_i64());
        let set = "UPDATE sink_progress SET next_seq = ?1 WHERE topic = 'wikipedia-events' AND partition = ?2";
        assert_eq!(table.execute(set, place).unwrap(), 1);
    }
    let left = enriched(&pipeline);
    pipeline.start_service("sink-1");
    wait_until("what is left is stored", LIMIT, || checker::rows(&pipeline.table()) == stored + left);
}

/// The sink has its partitions and waits for its destination, while retention takes what it would read next.
fn overtaken_by_retention(rebalance: &'static str) {
    let mut parts = Parts::with_simulator(&["--rate", "2000", "--edits", "6000", "--seed", "42"]);
    parts.rebalance = rebalance;
    let mut pipeline = Pipeline::start(&parts);
    for service in ["ingest", "enricher"] {
        pipeline.start_service(service);
    }
    // It holds less than there is: what it would read next can be taken from it.
    pipeline.start_service_with("sink-1", &["--batch-rows", "2000"]);
    let table = pipeline.table();
    wait_until("a part is stored", LIMIT, || checker::rows(&table) > 800);
    let lock = checker::lock(&table);
    wait_until("a write waits", LIMIT, || pipeline.metric("sink-1", "wiki_sink_paused_partitions") > Some(0.0));
    wait_until("all is enriched", LIMIT, || enriched(&pipeline) == EDITS);
    delete_most(&pipeline, "wikipedia-events");
    drop(lock);
    expect_repaired(&mut pipeline);
}

#[test]
fn a_sink_that_retention_overtakes_goes_on_cooperative() {
    overtaken_by_retention("cooperative");
}

#[test]
fn a_sink_that_retention_overtakes_goes_on_eager() {
    overtaken_by_retention("eager");
}

#[test]
fn a_sink_that_retention_overtakes_goes_on_kip_848() {
    overtaken_by_retention("consumer");
}

#[test]
fn a_hole_between_edits_of_another_mapping_is_not_repaired_with_this_ones() {
    let (mut pipeline, _) = with_a_sink_that_was_away();
    pipeline.start_service("sink-1");
    let table = pipeline.table();
    wait_until("every edit is stored", LIMIT, || checker::rows(&table) == EDITS);
    let last = checker::read_topic(&pipeline.target, "wikipedia-events").remove(&2).unwrap().pop().unwrap();
    let number = |name: &str| checker::header(&last, name).parse::<i64>().unwrap();
    let headers = [
        "ce_id=somebody".to_owned(),
        format!("seq={}", number("seq") + 3),
        format!("raw-offset={}", number("raw-offset") + 3),
        format!("raw-seq={}", number("raw-seq") + 3),
        "received-at=1".to_owned(),
        "mapping=2".to_owned(),
    ];
    let mut words = vec!["produce", "wikipedia-events", "--partition", "2", "--value", "{}"];
    words.extend(headers.iter().flat_map(|header| ["--header", header.as_str()]));
    assert_eq!(pipeline.wiki(&words).0, 0);
    wait_until("its partition is halted, and the log says why", LIMIT, || {
        pipeline.expect_all_alive();
        let is_halted = pipeline.metric("sink-1", "wiki_sink_halted_partitions") == Some(1.0);
        let says = |line: &serde_json::Value| {
            line["message"].as_str().is_some_and(|text| text.contains("were mapped by another version"))
                && line["version"] == 2
        };
        is_halted && pipeline.logs("sink-1").iter().any(says)
    });
    assert_eq!(checker::rows(&table), EDITS);
}

#[test]
fn an_enricher_reads_a_hole_in_the_raw_topic_again_before_it_halts() {
    let mut pipeline = Pipeline::start(&Parts::with_simulator(&["--rate", "500", "--edits", "300", "--seed", "42"]));
    for service in ["ingest", "enricher"] {
        pipeline.start_service(service);
    }
    wait_until("all is enriched", LIMIT, || enriched(&pipeline) == 300);
    let last = checker::read_topic(&pipeline.target, "wikipedia-raw").remove(&2).unwrap().pop().unwrap();
    let seq = checker::header(&last, "seq").parse::<i64>().unwrap() + 3;
    let headers =
        [format!("seq={seq}"), "ce_id=somebody".to_owned(), "sse-id=[]".to_owned(), "received-at=1".to_owned()];
    let mut words = vec!["produce", "wikipedia-raw", "--partition", "2", "--value", "{}"];
    words.extend(headers.iter().flat_map(|header| ["--header", header.as_str()]));
    assert_eq!(pipeline.wiki(&words).0, 0);
    wait_until("its partition is halted", LIMIT, || {
        pipeline.expect_all_alive();
        pipeline.metric("enricher", "wiki_enricher_halted_partitions") == Some(1.0)
    });
    let logs = pipeline.logs("enricher");
    let at =
        |words: &str| logs.iter().position(|line| line["message"].as_str().is_some_and(|text| text.contains(words)));
    let (again, halted) = (at("reading again before it").unwrap(), at("the partition is halted").unwrap());
    assert!(again < halted, "a hole that only the reader saw needs no person");
    assert_eq!(pipeline.metric("enricher", "wiki_enricher_sequence_holes_total"), Some(1.0));
    assert_eq!(enriched(&pipeline), 300);
}

#[test]
fn a_foreign_record_whose_dead_letter_cannot_be_written_is_read_again_until_it_can() {
    const LETTERS: &str = "dlq.wikipedia-events";
    let mut pipeline = Pipeline::start(&Parts::with_simulator(&["--rate", "500", "--edits", "300", "--seed", "43"]));
    for service in ["ingest", "enricher", "sink-1"] {
        pipeline.start_service(service);
    }
    wait_until("all is stored", LIMIT, || checker::rows(&pipeline.table()) == 300);
    assert_eq!(pipeline.wiki(&["topics", "delete", LETTERS, "--yes"]).0, 0);
    assert_eq!(pipeline.wiki(&["produce", "wikipedia-events", "--partition", "1", "--value", "hello"]).0, 0);
    wait_until("its dead letter cannot be written", LIMIT, || {
        pipeline.expect_all_alive();
        let says = |line: &serde_json::Value| {
            line["message"].as_str().is_some_and(|text| text.starts_with("its dead letter could not be written"))
        };
        pipeline.logs("sink-1").iter().any(says)
    });
    assert_eq!(pipeline.wiki(&["topics", "create", LETTERS, "--partitions", "1"]).0, 0);
    wait_until("it is a dead letter", LIMIT, || {
        pipeline.expect_all_alive();
        let letters = checker::read_topic(&pipeline.target, LETTERS).remove(&0).unwrap_or_default();
        letters.iter().any(|letter| rdkafka::Message::payload(letter) == Some(b"hello"))
    });
    assert_eq!(checker::rows(&pipeline.table()), 300);
}
