//! The console shows each consumer group as the broker describes it, in every rebalance protocol.

use std::time::Duration;

use e2e::pipeline::{Parts, Pipeline};
use e2e::{http, wait_until};

const LIMIT: Duration = Duration::from_secs(60);
const PARTITIONS: f64 = 6.0;

/// A series of the console, labels and all.
fn series(pipeline: &Pipeline, name: &str) -> Option<f64> {
    let started = pipeline.logs("console").into_iter().rfind(|line| line["message"] == "started")?;
    let text = http::get(started["address"].as_str()?.parse().ok()?, "/metrics")?;
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

fn shown(rebalance: &'static str) {
    let mut parts = Parts::with_simulator(&["--rate", "200"]);
    parts.rebalance = rebalance;
    let mut pipeline = Pipeline::start(&parts);
    for service in ["ingest", "enricher", "console", "sink-1", "sink-2"] {
        pipeline.start_service(service);
    }
    let expect = |pipeline: &Pipeline, what: &str, expected: &[(&str, f64)]| {
        wait_until(&format!("{rebalance}: {what}"), LIMIT, || {
            expected.iter().all(|(name, value)| series(pipeline, name).is_some_and(|shown| (shown - value).abs() < 0.5))
        });
    };
    let members = "wiki_group_members{group=\"wiki-sink\"}";
    let idle = "wiki_group_idle_members{group=\"wiki-sink\"}";
    let unowned = "wiki_group_unassigned_partitions{group=\"wiki-sink\",topic=\"wikipedia-events\"}";
    let stable = "wiki_group_state{group=\"wiki-sink\",state=\"stable\"}";
    let enrichers = "wiki_group_members{group=\"wiki-enricher\"}";
    expect(
        &pipeline,
        "two sinks share",
        &[(members, 2.0), (idle, 0.0), (unowned, 0.0), (stable, 1.0), (enrichers, 1.0)],
    );

    // A sink hears of what it was given a moment after the broker has decided.
    wait_until(&format!("{rebalance}: the sinks say the same"), LIMIT, || {
        let owned = |sink: &str| pipeline.metric(sink, "wiki_sink_assigned_partitions").unwrap_or_default();
        (owned("sink-1") + owned("sink-2") - PARTITIONS).abs() < 0.5
    });

    pipeline.service("sink-2").kill();
    expect(&pipeline, "one is lost, the other has all", &[(members, 1.0), (unowned, 0.0), (stable, 1.0)]);
    pipeline.service("sink-1").kill();
    expect(&pipeline, "nobody is left", &[(members, 0.0), (unowned, PARTITIONS)]);
    let (joins, departures) = ("wiki_group_member_joins_total", "wiki_group_member_departures_total");
    let group = |name: &str| format!("{name}{{group=\"wiki-sink\"}}");
    assert!(series(&pipeline, &group(departures)).unwrap_or_default() > 1.5, "{rebalance}: two went");
    assert!(series(&pipeline, &group(joins)).is_some(), "{rebalance}: who came is counted");

    let at = "{group=\"wiki-sink\",partition=\"0\",topic=\"wikipedia-events\"}";
    wait_until("what nobody reads is behind", LIMIT, || {
        series(&pipeline, &format!("wiki_group_partition_lag{at}")).is_some_and(|lag| lag > 10.0)
    });
}

#[test]
fn the_console_shows_a_cooperative_group() {
    shown("cooperative");
}

#[test]
fn the_console_shows_an_eager_group() {
    shown("eager");
}

#[test]
fn the_console_shows_a_kip_848_group() {
    shown("consumer");
}

#[test]
fn a_console_that_restarts_tells_the_same_past() {
    let mut parts = Parts::with_simulator(&["--rate", "100"]);
    // As users have it: a sink is silent before the group gives it up.
    parts.services = ["-X", "session.timeout.ms=6000"].map(str::to_owned).to_vec();
    let mut pipeline = Pipeline::start(&parts);
    for service in ["ingest", "enricher", "console", "sink-1", "sink-2"] {
        pipeline.start_service(service);
    }
    let state = |pipeline: &Pipeline, path: &str| {
        let started = pipeline.logs("console").into_iter().rfind(|line| line["message"] == "started")?;
        http::get(started["address"].as_str()?.parse().ok()?, path)
    };
    let settled = |pipeline: &Pipeline, sinks: usize| {
        wait_until("all partitions are owned, and the log has settled", LIMIT, || {
            let Some(text) = state(pipeline, "/api/state") else { return false };
            let view: serde_json::Value = serde_json::from_str(&text).unwrap();
            let board = &view["board"];
            let owned = board["partitions"].as_array().unwrap().iter().filter(|tile| tile["state"] == "owned").count();
            let over = board["rebalances"].as_array().unwrap().iter().all(|entry| entry["is_over"] == true);
            let here = board["replicas"].as_array().unwrap().iter().filter(|replica| replica["state"] == "stable");
            owned == 6 && over && here.count() == sinks
        });
    };
    settled(&pipeline, 2);
    pipeline.start_service("sink-3");
    settled(&pipeline, 3);
    pipeline.service("sink-2").kill();
    pipeline.forget("sink-2");
    wait_until("its loss is logged", LIMIT, || {
        state(&pipeline, "/api/rebalances").is_some_and(|log| log.contains("\"lost\""))
    });
    settled(&pipeline, 2);
    // Which of them one rebalance is said to have had depends on when the broker was asked; what happened does not.
    let causes = |pipeline: &Pipeline| -> Vec<String> {
        let log = state(pipeline, "/api/rebalances").unwrap();
        let entries = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let mut causes: Vec<String> = entries
            .flat_map(|entry| entry["causes"].as_array().unwrap().clone())
            .map(|cause| cause.to_string())
            .collect();
        causes.sort_unstable();
        causes
    };
    let before = causes(&pipeline);
    pipeline.kill_and_restart("console");
    // The words of the past are read one after the other: until then some are missing.
    wait_until("the words alone tell the same past", LIMIT, || {
        state(&pipeline, "/api/rebalances").is_some() && causes(&pipeline) == before
    });
    settled(&pipeline, 2);
    assert_eq!(causes(&pipeline), before, "and no other");
    let timeline = state(&pipeline, "/api/state").unwrap();
    assert!(!timeline.contains("disputed"), "{timeline}");
}
