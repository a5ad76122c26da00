//! `wiki audit` on a pipeline at work.

use std::path::Path;
use std::time::Duration;

use e2e::pipeline::{Parts, Pipeline};
use e2e::process::Program;
use e2e::{checker, wait_until};
use rdkafka::admin::AdminOptions;
use rdkafka::{Offset, TopicPartitionList};

const LIMIT: Duration = Duration::from_secs(60);
const AUDITS: usize = 6;

fn audit(pipeline: &Pipeline) -> (i32, String) {
    audit_of(&pipeline.table(), pipeline)
}

fn audit_of(table: &Path, pipeline: &Pipeline) -> (i32, String) {
    let table = table.display().to_string();
    let program = Program::new("wiki")
        .with(["audit", "--writer", "sqlite", "--sqlite-file", &table])
        .with(["--kafka-bootstrap-servers", &pipeline.target.bootstrap]);
    let (code, output, errors) = program.run(LIMIT);
    (code, output + &errors)
}

#[test]
fn while_edits_flow_what_is_under_way_is_neither_missing_nor_extra() {
    let mut pipeline = Pipeline::start(&Parts::with_simulator(&["--rate", "300"]));
    for service in ["ingest", "enricher", "sink-1", "sink-2"] {
        pipeline.start_service(service);
    }
    for round in 1..=AUDITS {
        let table = pipeline.table();
        wait_until("edits flow", LIMIT, || checker::rows(&table) > round * 200);
        let (code, said) = audit(&pipeline);
        assert_eq!(code, 0, "{said}");
        assert!(said.ends_with("missing 0, double 0, extra 0, gaps 0\n"), "{said}");
    }
}

#[test]
fn what_was_published_long_ago_and_is_not_stored_is_missing() {
    let mut pipeline = Pipeline::start(&Parts::with_simulator(&["--rate", "100", "--edits", "300"]));
    for service in ["ingest", "enricher", "sink-1"] {
        pipeline.start_service(service);
    }
    let table = pipeline.table();
    wait_until("all is stored", LIMIT, || checker::rows(&table) == 300);
    pipeline.service("sink-1").kill();
    let lost = rusqlite::Connection::open(&table).unwrap();
    lost.busy_timeout(LIMIT).unwrap();
    lost.execute(
        "DELETE FROM edits WHERE event_id IN (SELECT event_id FROM edits WHERE seq > 2 AND seq < 30 LIMIT 7)",
        [],
    )
    .unwrap();
    wait_until("they are old enough to be missed", LIMIT, || {
        let (code, said) = audit(&pipeline);
        code == 1 && said.contains("missing 7, double 0, extra 0")
    });
}

#[test]
fn the_table_of_another_topic_is_not_taken_for_this_ones() {
    // The same seed: the same ids.
    let parts = Parts::with_simulator(&["--rate", "200", "--edits", "100"]);
    let mut yesterday = Pipeline::start(&parts);
    let mut today = Pipeline::start(&parts);
    for service in ["ingest", "enricher", "sink-1"] {
        yesterday.start_service(service);
        today.start_service(service);
    }
    for pipeline in [&yesterday, &today] {
        wait_until("all is stored", LIMIT, || checker::rows(&pipeline.table()) == 100);
        let (code, said) = audit(pipeline);
        assert_eq!(code, 0, "{said}");
    }
    let (code, said) = audit_of(&yesterday.table(), &today);
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("another topic wikipedia-events"), "{said}");
}

#[test]
fn what_was_pruned_from_the_front_is_neither_missing_nor_a_hole() {
    let mut pipeline = Pipeline::start(&Parts::with_simulator(&["--rate", "200", "--seed", "3"]));
    for service in ["ingest", "enricher", "sink-1"] {
        pipeline.start_service(service);
    }
    let table = pipeline.table();
    let rows = || checker::rows(&table);
    wait_until("edits are stored", LIMIT, || rows() > 400);
    let file = rusqlite::Connection::open(&table).unwrap();
    file.busy_timeout(LIMIT).unwrap();
    let number = |query: &str| file.query_row(query, [], |row| row.get::<_, i64>(0)).unwrap();
    let middle_ms = number("SELECT CAST(avg(received_at) AS INTEGER) FROM edits");
    let middle = jiff::Timestamp::from_millisecond(middle_ms).unwrap().to_string();
    let older = number(&format!("SELECT count(*) FROM edits WHERE received_at < {middle_ms}"));

    // Beside a sink that stores.
    let name = table.display().to_string();
    let prune = ["prune", "--before", &middle, "--yes", "--writer", "sqlite", "--sqlite-file", &name];
    let (code, said, errors) = Program::new("wiki").with(prune).run(LIMIT);
    assert!(code == 0 && said.contains(&format!("{older} edits that were received before")), "{said}{errors}");
    assert_eq!(number(&format!("SELECT count(*) FROM edits WHERE received_at < {middle_ms}")), 0);
    let before = rows();
    wait_until("the sink stores on", LIMIT, || rows() > before + 200);
    let (code, said) = audit(&pipeline);
    assert!(code == 0 && said.contains(&format!("pruned        {older:>9}")), "{said}");

    // Retention took the first half of the raw topic.
    let bounds = |partition| checker::bounds(&pipeline.target, "wikipedia-raw", partition);
    let mut half = TopicPartitionList::new();
    for partition in 0..6 {
        let (start, end) = bounds(partition);
        half.add_partition_offset("wikipedia-raw", partition, Offset::Offset(i64::midpoint(start, end))).unwrap();
    }
    e2e::block_on(pipeline.target.admin().delete_records(&half, &AdminOptions::new())).unwrap();
    let (code, said) = audit(&pipeline);
    assert!(code == 0 && said.contains("missing 0, double 0, extra 0, gaps 0"), "{said}");

    // By hand, as an older page of ours said.
    let shortest = "SELECT min(last) FROM (SELECT max(seq) AS last FROM edits GROUP BY partition)";
    wait_until("every partition is long enough", LIMIT, || number(shortest) > 90);
    file.execute("DELETE FROM edits WHERE seq < 60", []).unwrap();
    let (code, said) = audit(&pipeline);
    assert!(code == 0 && said.contains("0@60 1@60"), "{said}");
    // But not out of the middle.
    // Young ones: what retention took of the raw topic is not missing.
    let young =
        "DELETE FROM edits WHERE (partition, seq) IN (SELECT partition, max(seq) - 3 FROM edits GROUP BY partition)";
    assert_eq!(file.execute(young, []).unwrap(), 6);
    wait_until("a hole is missed once it is old enough", LIMIT, || {
        let (code, said) = audit(&pipeline);
        code == 1 && said.contains("NOT DENSE: table") && said.contains("missing 6, double 0, extra 0")
    });
}
