//! A standby of ingest, and a hole that heals; replicas under load stand in `apache_kafka`.

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

#[test]
fn a_hole_in_the_topic_is_healed_from_the_raw_one() {
    let mut pipeline = Pipeline::start(&Parts::with_simulator(&["--rate", "2000", "--edits", "6000", "--seed", "41"]));
    for service in ["ingest", "enricher", "sink-1"] {
        pipeline.start_service(service);
    }
    let table = pipeline.table();
    wait_until("a part is stored", LIMIT, || checker::rows(&table) > 800);
    pipeline.service("sink-1").kill();
    let stored = checker::rows(&table);
    let enriched = |pipeline: &Pipeline| -> usize {
        checker::read_topic(&pipeline.target, "wikipedia-events").values().map(Vec::len).sum()
    };
    wait_until("all is enriched", LIMIT, || enriched(&pipeline) == 6_000);

    // Most of each partition is deleted before it was stored, as retention does to a sink that was away too long.
    let admin = pipeline.target.admin();
    let mut list = TopicPartitionList::new();
    for (partition, records) in checker::read_topic(&pipeline.target, "wikipedia-events") {
        let behind = records[records.len() * 3 / 4].offset();
        list.add_partition_offset("wikipedia-events", partition, Offset::Offset(behind)).unwrap();
    }
    e2e::block_on(admin.delete_records(&list, &AdminOptions::new())).unwrap();
    let left = enriched(&pipeline);
    assert!(left < 2_000 && stored + left < 6_000, "there are holes: {stored} stored, {left} left");

    pipeline.start_service("sink-1");
    wait_until("every edit is stored", LIMIT, || {
        pipeline.expect_all_alive();
        checker::rows(&table) == 6_000
    });
    let logs = pipeline.logs("sink-1");
    assert!(logs.iter().any(|line| line["message"] == "healed"), "the table was healed from the raw topic");
    let ids = checker::served(pipeline.simulator, "edit");
    let rows = e2e::recorded::stored(&table);
    assert!(ids.iter().eq(rows.keys()), "the healed table holds exactly what was served");
}
