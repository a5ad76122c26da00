//! A table that refuses what it was made for stops the sink, says so, and is filled when it is mended.

use std::path::Path;
use std::time::Duration;

use e2e::pipeline::{Parts, Pipeline};
use e2e::{checker, wait_until};
use rusqlite::Connection;

const LIMIT: Duration = Duration::from_secs(60);

fn change(table: &Path, sql: &str) {
    let connection = Connection::open(table).unwrap();
    connection.busy_timeout(Duration::from_secs(30)).unwrap();
    connection.execute_batch(sql).unwrap();
}

fn count(table: &Path, name: &str) -> i64 {
    let connection = Connection::open(table).unwrap();
    connection.busy_timeout(Duration::from_secs(30)).unwrap();
    connection.query_row(&format!("SELECT count(*) FROM {name}"), [], |row| row.get(0)).unwrap()
}

/// Makes events, and counts the edits that were ever made.
fn make(pipeline: &Pipeline, seconds: u32) -> usize {
    pipeline.make(seconds);
    checker::made(pipeline.simulator, "edit").len()
}

fn running() -> Pipeline {
    let simulator = ["--rate", "200", "--seed", "51", "--density", "20", "--frozen"];
    let mut pipeline = Pipeline::start(&Parts::with_simulator(&simulator));
    for service in ["ingest", "enricher", "sink-1"] {
        pipeline.start_service(service);
    }
    let made = make(&pipeline, 30);
    pipeline.expect_exact(made, LIMIT);
    pipeline
}

/// A rule that refuses all rows, and how it is taken away.
fn tell(rule: &str, undo: &str, said: &str) {
    let mut pipeline = running();
    let table = pipeline.table();
    change(&table, rule);
    let before = checker::rows(&table);
    let made = make(&pipeline, 30);
    wait_until("the sink is not ready, and says why", LIMIT, || {
        pipeline
            .readiness("sink-1")
            .is_some_and(|(ready, why)| !ready && why.contains("the table refuses rows") && why.contains(said))
    });
    assert_eq!(pipeline.metric("sink-1", "wiki_sink_table_refuses"), Some(1.0), "for the alert");
    let unstored = f64::from(u32::try_from(made - before).unwrap());
    wait_until("the lag is what is not stored", LIMIT, || {
        pipeline.metric("sink-1", "wiki_sink_partition_lag").is_some_and(|lag| lag >= unstored)
    });
    let told = |line: &serde_json::Value| {
        line["level"] == "ERROR" && line["message"].as_str().is_some_and(|text| text.contains("the table refuses rows"))
    };
    assert!(pipeline.logs("sink-1").iter().any(told), "an error line");
    assert_eq!((checker::rows(&table), count(&table, "edits_rejected")), (before, 0), "nothing is set aside");
    assert_ne!(pipeline.audit().0, 0, "what is refused is not stored");
    change(&table, undo);
    pipeline.expect_exact(made, LIMIT);
    wait_until("the sink is ready again", LIMIT, || pipeline.readiness("sink-1").is_some_and(|(ready, _)| ready));
    assert_eq!((pipeline.audit().0, count(&table, "edits_rejected")), (0, 0));
}

#[test]
fn a_trigger_that_refuses_every_row_stops_the_sink_until_it_is_gone() {
    let rule = "CREATE TRIGGER no BEFORE INSERT ON edits BEGIN SELECT RAISE(ABORT, 'not today'); END";
    tell(rule, "DROP TRIGGER no", "not today");
}

#[test]
fn a_column_that_is_missing_stops_the_sink_until_it_is_back() {
    tell("ALTER TABLE edits RENAME COLUMN minor TO small", "ALTER TABLE edits RENAME COLUMN small TO minor", "minor");
}

#[test]
fn a_column_of_ones_own_changes_nothing() {
    let mut pipeline = running();
    change(&pipeline.table(), "ALTER TABLE edits ADD COLUMN note TEXT");
    let made = make(&pipeline, 30);
    pipeline.expect_exact(made, LIMIT);
    assert_eq!(pipeline.audit().0, 0);
}

#[test]
fn a_file_that_vanished_ends_the_sink_with_a_sentence() {
    let mut pipeline = running();
    std::fs::rename(pipeline.table(), pipeline.folder().join("elsewhere.db")).unwrap();
    make(&pipeline, 10);
    wait_until("the sink ends", LIMIT, || pipeline.service("sink-1").ended().is_some());
    assert!(pipeline.service("sink-1").errors().contains("was removed or replaced while it was written"));
}
