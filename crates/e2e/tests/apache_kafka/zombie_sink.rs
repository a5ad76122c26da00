//! A sink that is stopped in the middle of a write, past its session, and continued later: another sink owns its
//! partitions by then, the write is refused, and nothing is lost or doubled.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use e2e::kafka::Cluster;
use e2e::pipeline::{Parts, Pipeline};
use e2e::{checker, wait_until};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(120);
/// A sink's write waits 10 s for a locked table before it gives up: it is stopped well before that.
const YOUNG_SECONDS: f64 = 3.0;
/// A stopped write that gave up before it was refused is no zombie's: then another one is made.
const ROUNDS: usize = 5;
const EDITS: usize = 40_000;
const PARTITIONS: usize = 6;
const ZOMBIE: &str = "sink-1";
const SUCCESSOR: &str = "sink-2";

fn unix_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

fn lines(pipeline: &Pipeline, message: &str) -> usize {
    let is_it = |line: &Value| line["message"] == message;
    pipeline.logs(ZOMBIE).iter().filter(|line| is_it(line)).count()
}

fn refused(pipeline: &Pipeline) -> usize {
    lines(pipeline, "another sink owns these partitions by now: nothing was written")
}

fn given_up(pipeline: &Pipeline) -> usize {
    lines(pipeline, "write failed; trying again")
}

/// Stops the sink while its write waits for the locked table; gives how many edits were stored by then.
fn stop_in_a_write(pipeline: &mut Pipeline) -> usize {
    let table = pipeline.table();
    wait_until("the sink is at work", LIMIT, || {
        pipeline.expect_all_alive();
        let owned = pipeline.metric(ZOMBIE, "wiki_sink_assigned_partitions").unwrap_or_default();
        owned >= 6.0 && checker::progress(&table) > 500
    });
    let lock = checker::lock(&table);
    let locked_at = unix_seconds();
    wait_until("a write has begun under the lock", LIMIT, || {
        let began = pipeline.metric(ZOMBIE, "wiki_sink_write_started_timestamp_seconds").unwrap_or_default();
        began > locked_at && unix_seconds() - began < YOUNG_SECONDS
    });
    pipeline.service(ZOMBIE).stop();
    drop(lock);
    checker::progress(&table)
}

/// Makes a zombie; gives whether its write was refused, or gave up before.
fn round(pipeline: &mut Pipeline) -> bool {
    let (before, gave_up_before) = (refused(pipeline), given_up(pipeline));
    let stopped_at = stop_in_a_write(pipeline);
    let table = pipeline.table();
    pipeline.start_service(SUCCESSOR);
    wait_until("the other sink has claimed every partition, and stores", LIMIT, || {
        let owners = checker::owners(&table);
        let stored = checker::progress(&table);
        owners.len() == PARTITIONS
            && owners.values().all(|owner| owner == SUCCESSOR)
            && (stored > stopped_at + 200 || stored == EDITS)
    });
    pipeline.service(ZOMBIE).signal("CONT");
    wait_until("the write is refused, or gives up", LIMIT, || {
        refused(pipeline) > before || given_up(pipeline) > gave_up_before
    });
    let is_refused = refused(pipeline) > before;
    if !is_refused {
        println!("the write gave up before it was refused: once more");
        pipeline.service(SUCCESSOR).kill();
        pipeline.forget(SUCCESSOR);
    }
    is_refused
}

#[test]
fn a_zombie_sink_is_fenced_at_its_first_write() {
    let cluster = Cluster::shared();
    let edits = EDITS.to_string();
    let mut parts = Parts::with_simulator(&["--rate", "2000", "--edits", &edits, "--seed", "71"]);
    parts.services = ["-X", "session.timeout.ms=1500", "-X", "heartbeat.interval.ms=300"].map(String::from).into();
    let mut pipeline = Pipeline::on(cluster.target("zombie-sink"), &parts);
    for service in ["ingest", "enricher", ZOMBIE] {
        pipeline.start_service(service);
    }
    let refused = (1..=ROUNDS).find(|_| round(&mut pipeline));
    println!("the zombie's write was refused in round {}", refused.unwrap_or_default());
    assert!(refused.is_some(), "every write of {ROUNDS} rounds gave up before it was refused");
    pipeline.expect_exact(EDITS, LIMIT);
}
