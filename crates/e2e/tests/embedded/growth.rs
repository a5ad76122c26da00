//! Topics are given more partitions: in between the enricher says what is missing, and afterwards all is exact.

use std::time::Duration;

use e2e::pipeline::{Parts, Pipeline};
use e2e::process::Program;
use e2e::{checker, wait_until};
use rdkafka::admin::{AdminOptions, NewPartitions};

const LIMIT: Duration = Duration::from_secs(60);
const SERVICES: [&str; 3] = ["ingest", "enricher", "sink-1"];

fn grow(pipeline: &Pipeline, topic: &str) {
    let more = NewPartitions::new(topic, 9);
    let grown = e2e::block_on(pipeline.target.admin().create_partitions(&[more], &AdminOptions::new())).unwrap();
    assert!(grown.iter().all(Result::is_ok), "{grown:?}");
}

#[test]
fn with_more_partitions_in_both_topics_every_edit_is_stored_and_with_more_in_one_the_enricher_says_so() {
    let simulator = ["--rate", "200", "--seed", "61", "--density", "20", "--frozen"];
    let mut pipeline = Pipeline::start(&Parts::with_simulator(&simulator));
    for service in SERVICES {
        pipeline.start_service(service);
    }
    let stored = |pipeline: &mut Pipeline, what: &str| {
        let made = checker::made(pipeline.simulator, "edit").len();
        wait_until(what, LIMIT, || checker::rows(&pipeline.table()) >= made);
        pipeline.expect_exact(made, LIMIT);
    };
    pipeline.make(30);
    stored(&mut pipeline, "the first edits are stored");
    for service in SERVICES {
        pipeline.service(service).terminate(LIMIT);
        pipeline.forget(service);
    }

    grow(&pipeline, "wikipedia-raw");
    let (code, output, errors) = Program::new("enricher")
        .with(["--kafka-bootstrap-servers", &pipeline.target.bootstrap, "--http", "127.0.0.1:0"])
        .run(LIMIT);
    let said = output + &errors;
    assert!(code != 0 && said.contains("give both the same number"), "{said}");

    grow(&pipeline, "wikipedia-events");
    pipeline.make(60);
    for service in SERVICES {
        pipeline.start_service(service);
    }
    stored(&mut pipeline, "what was made meanwhile is stored");
    let events = checker::read_topic(&pipeline.target, "wikipedia-events");
    assert!(
        (6..9).all(|partition| events.get(&partition).is_some_and(|records| !records.is_empty())),
        "in the new ones too"
    );
    let (code, said) = pipeline.audit();
    assert_eq!(code, 0, "{said}");
}
