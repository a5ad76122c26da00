//! `wiki audit` on a pipeline at work.

use std::path::Path;
use std::time::Duration;

use e2e::pipeline::{Parts, Pipeline};
use e2e::process::Program;
use e2e::{checker, wait_until};

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
    lost.execute("DELETE FROM edits WHERE event_id IN (SELECT event_id FROM edits LIMIT 7)", []).unwrap();
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
