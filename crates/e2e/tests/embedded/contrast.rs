//! Why a position is rewritten and never sent back as received: the contrast, kept and counted.

use std::collections::BTreeSet;
use std::time::Duration;

use e2e::pipeline::{Parts, Pipeline};
use e2e::process::{Process, Program};
use e2e::target::Target;
use e2e::{checker, http, wait_until};
use rdkafka::message::{Message as _, OwnedMessage};

const LIMIT: Duration = Duration::from_secs(60);
/// Edits of the other data centre that the naive client is away for.
const AWAY: usize = 2_000;

/// The client that sends the last id back as it came, with topics of its own.
fn naive(pipeline: &Pipeline, target: &Target) -> Process {
    Program::new("ingest")
        .with(["--naive-resume", "--topic-prefix", &target.prefix, "--http", "127.0.0.1:0", "--log-format", "json"])
        .with(["--kafka-bootstrap-servers", &target.bootstrap])
        .with(["-X", "session.timeout.ms=1500", "-X", "heartbeat.interval.ms=300"])
        .with(["--stream-url", &format!("http://{}/v2/stream/recentchange", pipeline.simulator)])
        .start("naive", pipeline.folder())
}

fn raw(target: &Target) -> Vec<OwnedMessage> {
    checker::read_topic(target, "wikipedia-raw").into_values().flatten().collect()
}

fn ids(target: &Target) -> BTreeSet<String> {
    raw(target).iter().map(|record| checker::header(record, "ce_id")).collect()
}

/// Those of them that the data centre made which was idle at first.
fn others(target: &Target) -> BTreeSet<String> {
    let mut records = raw(target);
    records.retain(|record| String::from_utf8_lossy(record.payload().unwrap_or_default()).contains("codfw.mediawiki"));
    records.iter().map(|record| checker::header(record, "ce_id")).collect()
}

#[test]
fn an_id_sent_back_as_received_loses_what_the_other_data_centre_made_meanwhile_and_a_rewritten_one_nothing() {
    // A canary in the idle data centre would give it a place in the id; without one the id says "its end".
    let mut pipeline =
        Pipeline::start(&Parts::with_simulator(&["--rate", "1000", "--seed", "77", "--canary-seconds", "86400"]));
    let careful = pipeline.target.clone();
    let target = Target { prefix: "naive-".to_owned(), ..careful.clone() };
    let simulator = pipeline.simulator;
    let fault = |body: &str| assert_eq!(http::request(simulator, "PUT", "/faults", body).unwrap().0, 200);
    let is_whole = || ids(&careful) == checker::made(simulator, "edit");
    pipeline.start_service("ingest");
    wait_until("the first canaries have passed", LIMIT, || raw(&careful).len() > 2_000);

    let mut client = naive(&pipeline, &target);
    wait_until("the naive client reads too", LIMIT, || raw(&target).len() > 500);
    fault(r#"{"frozen":true}"#);
    wait_until("all that was made is there", LIMIT, is_whole);
    client.kill();
    let known = raw(&target);
    let last = known.iter().max_by_key(|record| checker::header(*record, "received-at")).unwrap();
    let id = checker::header(last, "sse-id");
    assert!(id.contains(r#""offset":-1"#), "the idle data centre has no place in the id: {id}");

    fault(r#"{"switched":true}"#);
    wait_until("the other data centre makes edits", LIMIT, || others(&careful).len() > AWAY);
    let meanwhile = others(&careful);
    pipeline.kill_and_restart("ingest");
    let begun = raw(&target).len();
    let _client = naive(&pipeline, &target);
    wait_until("the naive client is back", LIMIT, || raw(&target).len() > begun + 500);
    fault(r#"{"frozen":true}"#);

    wait_until("all that was made is there", LIMIT, is_whole);
    let made = checker::made(simulator, "edit").len();
    assert_eq!(raw(&careful).len(), made, "rewritten position: each once");
    let lost = meanwhile.difference(&ids(&target)).count();
    println!("rewritten position: {made} made, none lost, none double");
    println!("id sent as received: {lost} of the {} edits of the time away lost", meanwhile.len());
    assert_eq!(lost, meanwhile.len(), "the contrast is gone");
}
