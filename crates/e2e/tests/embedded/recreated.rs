//! A topic that was deleted and created again under the same name is another topic, however long it is.

use std::time::Duration;

use e2e::checker;
use e2e::pipeline::{Parts, Pipeline};
use e2e::process::{Program, binary};
use e2e::wait_until;

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn an_enricher_does_not_map_a_raw_topic_that_was_created_again() {
    let mut pipeline = Pipeline::start(&Parts::with_simulator(&["--rate", "200", "--edits", "600", "--seed", "9"]));
    for service in ["ingest", "enricher", "sink-1"] {
        pipeline.start_service(service);
    }
    wait_until("all is stored", LIMIT, || checker::rows(&pipeline.table()) == 600);
    // In order: the group's offset is committed at the end.
    let (code, _) = pipeline.service("enricher").terminate(LIMIT);
    assert_eq!(code, Some(0));
    pipeline.service("ingest").kill();
    for service in ["enricher", "ingest"] {
        pipeline.forget(service);
    }
    let wiki = |words: &[&str]| {
        let (code, said) = pipeline.wiki(words);
        assert_eq!(code, 0, "{said}");
    };
    wiki(&["topics", "delete", "wikipedia-raw", "--yes"]);
    wiki(&["topics", "create", "wikipedia-raw", "--partitions", "6"]);
    // Longer than the one before, so that no offset is behind its end.
    let script = format!(
        "seq 6000 | {} produce wikipedia-raw --kafka-bootstrap-servers {}",
        binary("wiki").display(),
        pipeline.target.bootstrap
    );
    let produced = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(produced.status.success(), "{}", String::from_utf8_lossy(&produced.stderr));
    let (code, output, errors) = Program::new("enricher")
        .with(["--kafka-bootstrap-servers", &pipeline.target.bootstrap, "--http", "127.0.0.1:0"])
        .run(LIMIT);
    assert_ne!(code, 0, "{output}{errors}");
    assert!(errors.contains("wikipedia-raw was deleted and created again"), "{output}{errors}");
    let letters = checker::read_topic(&pipeline.target, "dlq.wikipedia-raw").remove(&0).unwrap_or_default();
    assert!(letters.is_empty(), "nothing of the new topic was handled: {}", letters.len());
}
