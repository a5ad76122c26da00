//! Every command of the course is run, and its output compared.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a story says what broke by panicking")]

use std::process::Command;
use std::time::Duration;

use e2e::pages::{self, Terminals};
use e2e::pipeline::{Parts, Pipeline};
use e2e::process::{Program, binary};

const LIMIT: Duration = Duration::from_secs(30);

/// Ports that the pages name: the broker's and the simulators'.
const PORTS: [u16; 3] = [9092, 8090, 8091];

fn chapter(name: &str) {
    let mut pages = pages::read("docs/tutorial");
    let page = pages.remove(name).unwrap_or_else(|| panic!("there is no chapter {name}"));
    Terminals::open(&PORTS).run(name, &page);
}

#[test]
fn what_other_tutorials_ask_for_is_a_command_here() {
    let page = pages::read("docs").remove("from-other-tutorials").unwrap();
    Terminals::open(&PORTS).run("from-other-tutorials", &page);
}

macro_rules! chapters {
    ($($story:ident: $name:literal,)*) => {
        $(#[test] fn $story() { chapter($name); })*

        /// Chapters on a real cluster, which `make stack-test` runs.
        const ELSEWHERE: [&str; 2] = ["README", "05-replication"];

        #[test]
        fn no_chapter_is_left_out() {
            let known: Vec<&str> = [$($name),*].into_iter().chain(ELSEWHERE).collect();
            for name in pages::read("docs/tutorial").keys() {
                assert!(known.contains(&name.as_str()), "{name} is not run");
            }
        }
    };
}

chapters! {
    a_broker_a_topic_hello_world: "01-hello",
    a_thousand_messages: "02-offsets",
    delivery: "03-delivery",
    partitions_and_groups: "04-groups",
    wikipedias_edits: "06-edits",
    several_producers: "07-producers",
    into_a_database: "08-database",
    three_protocols: "09-rebalancing",
    break_it_yourself: "10-exactly-once",
}

/// One of the examples that a Rust programmer copies, at work.
fn example(name: &str, arguments: &[&str]) -> String {
    let examples = binary("wiki").parent().unwrap().join("examples");
    let output = Command::new(examples.join(name)).args(arguments).output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_examples_in_rust_are_short_and_what_one_writes_the_other_reads_once() {
    let mut pipeline = Pipeline::start(&Parts::with_simulator(&[]));
    let brokers = pipeline.target.bootstrap.clone();
    let made = Program::new("wiki").with(["topics", "create", "hello", "--kafka-bootstrap-servers", &brokers]);
    assert_eq!(made.run(LIMIT).0, 0);
    assert_eq!(
        example("hello_producer", &[&brokers, "hello", "Hello", "world"]),
        "delivered hello:0:0\ndelivered hello:0:1\n"
    );
    assert_eq!(example("hello_consumer", &[&brokers, "hello", "readers", "1"]), "hello:0:0 Hello\n");
    assert_eq!(example("hello_consumer", &[&brokers, "hello", "readers", "1"]), "hello:0:1 world\n", "the next one");
    pipeline.expect_all_alive();
    for source in ["hello_producer", "hello_consumer"] {
        let text = std::fs::read_to_string(format!("{}/../kafka/examples/{source}.rs", env!("CARGO_MANIFEST_DIR")));
        assert!(text.unwrap().lines().count() < 60, "{source} is longer than a reader copies");
    }
}
