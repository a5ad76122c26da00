//! The stream refuses, cuts and falls silent: one clear sentence each, and the right behaviour.

use std::time::{Duration, Instant};

use e2e::pipeline::{Parts, Pipeline};
use e2e::{checker, http, wait_until};

const LIMIT: Duration = Duration::from_secs(60);

fn started(simulator: &[&str], ingest: &[&str]) -> Pipeline {
    let mut parts = Parts::with_simulator(simulator);
    parts.ingest = ingest.iter().map(|option| (*option).to_owned()).collect();
    let mut pipeline = Pipeline::start(&parts);
    for service in ["ingest", "enricher", "sink-1"] {
        pipeline.start_service(service);
    }
    pipeline
}

fn sentences(pipeline: &Pipeline, part: &str) -> Vec<String> {
    let messages = pipeline.logs("ingest");
    let messages = messages.iter().filter_map(|line| line["message"].as_str().map(str::to_owned));
    messages.filter(|message| message.contains(part)).collect()
}

#[test]
fn a_403_says_what_to_set_and_tries_again() {
    let mut pipeline = started(&["--rate", "max", "--edits", "200", "--status", "403", "--status-times", "2"], &[]);
    pipeline.expect_exact(200, LIMIT);
    let told = sentences(&pipeline, "403");
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].contains("WIKI_CONTACT"), "{told:?}");
}

#[test]
fn a_429_is_tried_again_when_the_server_said() {
    let started_at = Instant::now();
    let options = ["--rate", "max", "--edits", "200", "--status", "429", "--retry-after", "3"];
    let mut pipeline = started(&options, &[]);
    pipeline.expect_exact(200, LIMIT);
    let told = sentences(&pipeline, "429");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("trying again in 3.0 s"), "{told:?}");
    assert!(started_at.elapsed() >= Duration::from_secs(3), "Retry-After is honoured");
}

#[test]
fn the_cut_after_the_lifetime_is_normal_and_loses_nothing() {
    let options = ["--rate", "400", "--edits", "3000", "--lifetime-ms", "1500", "--piece-bytes", "700"];
    let mut pipeline = started(&options, &[]);
    pipeline.expect_exact(3000, LIMIT);
    let told = sentences(&pipeline, "every 15 minutes");
    assert!(told.len() >= 3, "{told:?}");
    assert!(pipeline.logs("ingest").iter().all(|line| line["level"] != "ERROR"), "a planned cut is no error");
}

#[test]
fn the_last_events_of_a_stream_are_served_when_they_are_made() {
    let mut pipeline = started(&["--rate", "1000", "--edits", "4000"], &["--stream-idle-ms", "5000"]);
    pipeline.expect_exact(4000, LIMIT);
    assert_eq!(sentences(&pipeline, "sent no event for"), Vec::<String>::new());
}

#[test]
fn a_silent_connection_is_cut_and_resumed() {
    let mut pipeline = started(&["--rate", "max", "--edits", "200", "--silent"], &["--stream-idle-ms", "700"]);
    wait_until("the silence is noticed", LIMIT, || !sentences(&pipeline, "sent no event for").is_empty());
    assert_eq!(http::request(pipeline.simulator, "PUT", "/faults", "{}").unwrap().0, 200);
    pipeline.expect_exact(200, LIMIT);
}

#[test]
fn an_error_event_a_redirect_and_a_broken_gateway_are_told_apart() {
    let mut pipeline = started(&["--rate", "max", "--edits", "2500", "--error-after", "1400"], &[]);
    wait_until("the error event is told", LIMIT, || !sentences(&pipeline, "reports an error").is_empty());
    let put = |faults: &str| assert_eq!(http::request(pipeline.simulator, "PUT", "/faults", faults).unwrap().0, 200);
    put(r#"{"redirect":"http://127.0.0.1:9/elsewhere","cut_after":1200}"#);
    wait_until("the redirect is told", LIMIT, || !sentences(&pipeline, "redirect").is_empty());
    put(r#"{"status":502,"status_times":1}"#);
    wait_until("the gateway is told", LIMIT, || !sentences(&pipeline, "out of order (502)").is_empty());
    pipeline.expect_exact(2500, LIMIT);
}

#[test]
fn a_stream_that_forgot_more_than_the_margin_leaves_a_gap_in_the_ledger() {
    // Event time runs 100 times as fast; the history holds 20 s of it, far less than the pause below skips.
    let options = ["--rate", "3500", "--history-seconds", "20"];
    let mut pipeline = started(&options, &[]);
    let table = pipeline.table();
    wait_until("edits are stored", LIMIT, || checker::rows(&table) > 500);
    pipeline.service("ingest").kill();
    let before = checker::served(pipeline.simulator, "edit").len();
    let paused = Instant::now();
    wait_until("the stream forgot what ingest missed", LIMIT, || paused.elapsed() > Duration::from_secs(3));
    pipeline.start_service("ingest");
    wait_until("ingest goes on", LIMIT, || checker::served(pipeline.simulator, "edit").len() > before + 200);
    let mut gaps = Vec::new();
    wait_until("the gap is in the ledger", LIMIT, || {
        gaps = checker::read_topic(&pipeline.target, "wikipedia-gaps").remove(&0).unwrap_or_default();
        !gaps.is_empty()
    });
    // What came after it proves nothing about it: it stays open.
    let before = checker::served(pipeline.simulator, "edit").len();
    wait_until("ingest goes on", LIMIT, || checker::served(pipeline.simulator, "edit").len() > before + 3000);
    gaps = checker::read_topic(&pipeline.target, "wikipedia-gaps").remove(&0).unwrap_or_default();
    assert_eq!(gaps.len(), 1, "one gap, and nothing that healed it");
    use rdkafka::message::Message as _;
    let gap: serde_json::Value = serde_json::from_slice(gaps[0].payload().unwrap()).unwrap();
    assert_eq!((gap["reason"].as_str(), gap["status"].as_str()), (Some("no_witness"), Some("open")), "{gap}");
    assert!(gap["estimated_events"].as_u64().unwrap() > 1000, "{gap}");
}
