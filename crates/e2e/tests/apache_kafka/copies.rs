//! Topics whose edits one broker could take with it are named: by `wiki doctor`, and by ingest when it starts.

use std::time::Duration;

use e2e::kafka::Cluster;
use e2e::pipeline::{Parts, Pipeline};
use e2e::process::Program;
use e2e::wait_until;

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn topics_that_one_broker_could_take_with_it_are_named() {
    let cluster = Cluster::shared();
    let target = cluster.target("copies");
    let parts = Parts::with_simulator(&["--rate", "10"]);
    let mut pipeline = Pipeline::on(target.clone(), &parts);
    let raw = target.topic("wikipedia-raw");
    let events = target.topic("wikipedia-events");
    let of = |topic: &str, replication: &str, in_sync: &str| {
        let in_sync = format!("min.insync.replicas={in_sync}");
        let made =
            pipeline.wiki(&["topics", "create", topic, "--replication-factor", replication, "--config", &in_sync]);
        assert_eq!(made.0, 0, "{}", made.1);
    };
    of(&raw, "1", "1");
    of(&events, "3", "1");
    let (code, said, errors) = Program::new("wiki")
        .with(["doctor", "--without-stream", "--data", &pipeline.folder().display().to_string(), "--free-mib", "1"])
        .with(["--kafka-bootstrap-servers", &target.bootstrap, "--topic-prefix", &target.prefix])
        .run(LIMIT);
    assert_eq!(code, 1, "{said}{errors}");
    let wrong: Vec<&str> = said.lines().filter(|line| line.starts_with("WRONG  replicas")).collect();
    assert_eq!(wrong.len(), 2, "Kafka's own topics are well: {said}");
    assert!(said.contains(&format!("{raw} has a replication factor of 1")), "{said}");
    assert!(said.contains(&format!("{events} has min.insync.replicas=1")), "{said}");

    pipeline.start_service("ingest");
    wait_until("ingest warns of them", LIMIT, || {
        pipeline.expect_all_alive();
        let logs = pipeline.logs("ingest");
        let warns = |topic: &str| {
            logs.iter().any(|line| {
                line["level"] == "WARN" && line["message"].as_str().unwrap().starts_with(&format!("{topic} has "))
            })
        };
        warns(&raw) && warns(&events)
    });
}
