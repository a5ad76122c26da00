//! Every command of the course is run, and its output compared.

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

/// Command lines of the README and of the course's first page, and what runs each.
const ELSEWHERE_RUN: [(&str, &str); 9] = [
    ("make demo", "embedded/demo.rs, by the target's own command line, and its output compared"),
    ("make test", "this very run"),
    ("make up-offline", "make stack-test: the same files, brought up with --wait"),
    ("export COMPOSE_FILE=docker-compose.yml:deploy/compose/offline.yml", "make stack-test, part course"),
    ("docker compose up -d --scale sink=4 --no-recreate", "make stack-test, part moves"),
    ("make down", "make stack-test: the same, between two parts"),
    ("make build", "make test builds first"),
    ("export PATH=\"$PWD/target/debug:$PATH\"", "every chapter"),
    ("wiki doctor", "embedded/doctor.rs"),
];

#[test]
fn every_command_of_the_first_pages_is_run_somewhere() {
    let mut shown = Vec::new();
    for page in [pages::read("").remove("README").unwrap(), pages::read("docs/tutorial").remove("README").unwrap()] {
        let mut is_shell = false;
        for line in page.lines() {
            if line.starts_with("```") {
                is_shell = line == "```sh";
            } else if is_shell {
                shown.push(line.split(" #").next().unwrap_or_default().trim().to_owned());
            }
        }
    }
    assert!(shown.len() >= 7, "{shown:?}");
    for command in &shown {
        assert!(
            ELSEWHERE_RUN.iter().any(|(known, _)| known == command),
            "{command} is run nowhere: run it, and say where"
        );
    }
    // The targets are there, and `make demo` starts what the stories start.
    for (target, _) in ELSEWHERE_RUN.iter().filter_map(|(line, by)| Some((line.strip_prefix("make ")?, by))) {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
        let planned = Command::new("make").args(["--dry-run", target]).current_dir(root).output().unwrap();
        assert!(planned.status.success(), "make {target}: {}", String::from_utf8_lossy(&planned.stderr));
        let planned = String::from_utf8_lossy(&planned.stdout).into_owned();
        assert!(target != "demo" || planned.contains("./target/debug/wiki demo"), "{planned}");
    }
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
