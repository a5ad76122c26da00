//! Each service stays small at the live rate.

use std::time::{Duration, Instant};

use e2e::pipeline::{Parts, Pipeline};
use e2e::process::Program;
use e2e::{checker, schedule, wait_until};

const LIMIT_BYTES: u64 = 64 << 20;
const WATCHED: Duration = Duration::from_secs(20);

#[test]
fn each_service_stays_under_64_mib_at_50_events_a_second() {
    let _alone = schedule::alone();
    let mut pipeline = Pipeline::start(&Parts::with_simulator(&["--rate", "50"]));
    let services = ["ingest", "enricher", "sink-1", "sink-2"];
    for service in services {
        pipeline.start_service(service);
    }
    let table = pipeline.table();
    wait_until("edits are stored", Duration::from_secs(30), || checker::rows(&table) > 100);
    let started = Instant::now();
    let mut most = [0; 4];
    wait_until("the time is over", WATCHED * 2, || {
        pipeline.expect_all_alive();
        for (most, name) in most.iter_mut().zip(services) {
            *most = (*most).max(pipeline.service(name).resident_bytes());
        }
        started.elapsed() > WATCHED
    });
    for (name, most) in services.iter().zip(most) {
        println!("{name}: at most {} MiB", most >> 20);
        assert!(most < LIMIT_BYTES, "{name}: {most} bytes");
    }
    assert!(checker::rows(&table) > 500, "the pipeline was at work meanwhile");
    let first = pipeline.logs("sink-1").iter().find(|line| line["message"] == "rebalance").cloned().unwrap();
    for field in ["protocol", "epoch", "gained", "lost", "kept", "duration_ms"] {
        assert!(first.get(field).is_some(), "a rebalance is logged with {field}: {first}");
    }
}

#[test]
fn an_audit_of_a_million_rows_stays_under_64_mib() {
    const ROWS: usize = 1_000_000;
    let mut pipeline = Pipeline::start(&Parts::with_simulator(&["--rate", "500", "--edits", "1000", "--seed", "4"]));
    for service in ["ingest", "enricher", "sink-1"] {
        pipeline.start_service(service);
    }
    let table = pipeline.table();
    wait_until("edits are stored", Duration::from_secs(60), || checker::rows(&table) == 1000);
    pipeline.service("sink-1").kill();
    let file = rusqlite::Connection::open(&table).unwrap();
    file.execute_batch("PRAGMA synchronous = OFF").unwrap();
    let columns: Vec<String> = {
        let mut query = file.prepare("SELECT name FROM pragma_table_info('edits')").unwrap();
        query.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    let value = |column: &String| match column.as_str() {
        "event_id" => "e.event_id || '-' || n.i".to_owned(),
        "seq" => "e.seq + n.i * 1000000".to_owned(),
        other => format!("e.{other}"),
    };
    let values: Vec<String> = columns.iter().map(value).collect();
    let more = ROWS / 1000 - 1;
    file.execute_batch(&format!(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {more}) \
         INSERT INTO edits SELECT {} FROM n, edits e WHERE e.seq < 1000000",
        values.join(", ")
    ))
    .unwrap();
    drop(file);
    let name = table.display().to_string();
    let mut audit = Program::new("wiki")
        .with(["audit", "--writer", "sqlite", "--sqlite-file", &name])
        .with(["--kafka-bootstrap-servers", &pipeline.target.bootstrap])
        .start("audit", pipeline.folder());
    let mut peak = 0;
    wait_until("the audit ends", Duration::from_secs(120), || {
        peak = audit.peak_bytes().unwrap_or_default().max(peak);
        audit.ended().is_some()
    });
    println!("at most {} MiB", peak >> 20);
    let said = audit.output();
    assert!(said.contains("stored          1000000") && said.contains("missing 0, double 0"), "{said}");
    assert!(peak > 0 && peak < LIMIT_BYTES, "{peak} bytes");
}
