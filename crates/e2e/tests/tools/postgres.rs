//! PostgreSQL dies under load and comes back: the sinks wait, and every edit stands in the table once.

use std::time::{Duration, Instant};

use e2e::groups::Strangers;
use e2e::pipeline::{Parts, Pipeline};
use e2e::postgres::{Server, stored, try_ask};
use e2e::process::Program;
use e2e::{checker, http, schedule, wait_until};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(90);
const KILLS: usize = 3;
/// Edits stored between two kills.
const SHARE: usize = 2_000;
/// Who does not poll for so long loses its place in the group.
const SILENCE: Duration = Duration::from_secs(4);

/// The simulator makes no more events, or goes on.
fn freeze(pipeline: &Pipeline, yes: bool) {
    let put = http::request(pipeline.simulator, "PUT", "/faults", &format!("{{\"frozen\":{yes}}}"));
    assert_eq!(put.map(|(status, _)| status), Some(200));
}

#[test]
fn a_server_killed_under_load_loses_and_doubles_nothing() {
    let mut server = Server::make();
    let url = server.database();
    let mut parts = Parts::with_simulator(&["--rate", "1500", "--seed", "5"]);
    parts.destination = Some(["--writer", "postgres", "--database-url", &url].map(str::to_owned).into());
    let mut pipeline = Pipeline::start(&parts);
    let sinks = ["sink-1", "sink-2"];
    for service in ["ingest", "enricher"].iter().chain(&sinks) {
        pipeline.start_service(service);
    }
    for _ in 0..KILLS {
        let before = stored(&url);
        wait_until("a share is stored", LIMIT, || stored(&url) >= before + SHARE);
        server.kill();
        wait_until("a sink shows that its write waits", LIMIT, || {
            pipeline.expect_all_alive();
            sinks
                .iter()
                .any(|sink| pipeline.metric(sink, "wiki_sink_paused_partitions").is_some_and(|paused| paused > 0.0))
        });
        server.start();
    }
    freeze(&pipeline, true);
    let mut edits = 0;
    wait_until("every edit is stored", LIMIT, || {
        pipeline.expect_all_alive();
        edits = checker::made(pipeline.simulator, "edit").len();
        stored(&url) >= edits
    });
    let (code, output, errors) = Program::new("wiki")
        .with(["audit", "--kafka-bootstrap-servers", &pipeline.target.bootstrap, "--database-url", &url])
        .with(["--simulator", &format!("http://{}", pipeline.simulator)])
        .run(LIMIT);
    println!("{}", output);
    assert!(output.contains(&format!("stored        {edits:>9}")), "{}{}", output, errors);
    assert!(output.contains("missing 0, double 0, extra 0, gaps 0"), "{}", output);
    assert_eq!(code, 0);
}

#[test]
fn a_rebalance_while_the_database_is_down_costs_no_membership() {
    const FEW: usize = 6_000;
    let _alone = schedule::alone();
    let mut server = Server::make();
    let url = server.database();
    let mut parts = Parts::with_simulator(&["--rate", "1000", "--edits", &FEW.to_string(), "--seed", "6"]);
    parts.destination = Some(["--writer", "postgres", "--database-url", &url].map(str::to_owned).into());
    parts.services = ["-X".to_owned(), format!("max.poll.interval.ms={}", SILENCE.as_millis())].into();
    let mut pipeline = Pipeline::start(&parts);
    for service in ["ingest", "enricher", "sink-1", "sink-2", "sink-3"] {
        pipeline.start_service(service);
    }
    wait_until("some are stored", LIMIT, || stored(&url) > 500);
    server.kill();
    pipeline.service("sink-3").kill();
    pipeline.forget("sink-3");
    let says = |pipeline: &Pipeline, sink: &str, words: (&str, &str)| {
        pipeline.logs(sink).iter().any(|line| line[words.0] == words.1)
    };
    let mut waiting = None;
    wait_until("who was given the partitions waits longer than a member may be silent", LIMIT, || {
        pipeline.expect_all_alive();
        let words = ("message", "partitions not claimed yet; trying again");
        if waiting.is_none() && ["sink-1", "sink-2"].iter().any(|sink| says(&pipeline, sink, words)) {
            waiting = Some(Instant::now());
        }
        waiting.is_some_and(|since| since.elapsed() > SILENCE * 2)
    });
    server.start();
    wait_until("every edit is stored", LIMIT, || {
        pipeline.expect_all_alive();
        stored(&url) >= FEW
    });
    for sink in ["sink-1", "sink-2"] {
        assert!(!says(&pipeline, sink, ("event", "lost")), "{sink} lost its place in the group");
        assert_eq!(pipeline.metric(sink, "wiki_sink_sequence_holes_total"), Some(0.0));
    }
    assert_eq!(try_ask(&url, "SELECT count(DISTINCT event_id), count(*) FROM edits"), Ok(format!("{FEW}|{FEW}")));
}

#[test]
fn partitions_that_came_and_went_while_the_database_was_down_are_stored_when_they_come_back() {
    const FEW: usize = 3_000;
    let mut server = Server::make();
    let url = server.database();
    let mut parts = Parts::with_simulator(&["--rate", "1000", "--edits", &FEW.to_string(), "--seed", "8"]);
    parts.destination = Some(["--writer", "postgres", "--database-url", &url].map(str::to_owned).into());
    parts.rebalance = "eager";
    let mut pipeline = Pipeline::start(&parts);
    for service in ["ingest", "enricher", "sink-1"] {
        pipeline.start_service(service);
    }
    let simulator = pipeline.simulator;
    wait_until("some are stored", LIMIT, || stored(&url) > 500);
    freeze(&pipeline, true);
    wait_until("nothing waits to be stored", LIMIT, || stored(&url) == checker::made(simulator, "edit").len());

    server.kill();
    let bootstrap = pipeline.target.bootstrap.clone();
    let few = Strangers::join(&bootstrap, 0..1);
    wait_until("the sink cannot claim what the group gives it", LIMIT, || {
        let waits = |line: &Value| line["message"] == "partitions not claimed yet; trying again";
        few.left_to_the_sink(&bootstrap) == Some(3) && pipeline.logs("sink-1").iter().any(waits)
    });
    let mut all = Strangers::join(&bootstrap, 1..6);
    all.0.extend(few.0);
    wait_until("the group takes it back", LIMIT, || all.left_to_the_sink(&bootstrap) == Some(0));
    server.start();
    wait_until("the sink stands by and is ready", LIMIT, || {
        let is_ready = pipeline.readiness("sink-1").is_some_and(|(is_ready, _)| is_ready);
        all.left_to_the_sink(&bootstrap) == Some(0) && is_ready
    });
    drop(all);
    freeze(&pipeline, false);
    wait_until("every edit is stored", LIMIT, || {
        pipeline.expect_all_alive();
        stored(&url) >= FEW
    });
    assert_eq!(try_ask(&url, "SELECT count(DISTINCT event_id), count(*) FROM edits"), Ok(format!("{FEW}|{FEW}")));
}

#[test]
fn a_database_that_does_not_answer_is_named_without_its_password() {
    let mut pipeline = Pipeline::start(&Parts::with_simulator(&["--rate", "10"]));
    pipeline.start_service("ingest");
    let (code, output, errors) = Program::new("sink")
        .with(["--kafka-bootstrap-servers", &pipeline.target.bootstrap, "--http", "127.0.0.1:0"])
        .with(["--database-url", "postgres://me:geheim@127.0.0.1:9/edits", "--require-healthy"])
        .run(LIMIT);
    assert_eq!(code, 69, "{output}{errors}");
    assert!(errors.contains("edits on 127.0.0.1 port 9 as me") && !errors.contains("geheim"), "{errors}");
}
