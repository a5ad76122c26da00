//! Texts of strangers that steer a terminal, turn a line around or are not seen: every command shows them as they are.

use std::collections::BTreeSet;
use std::time::Duration;

use e2e::demo::Demo;
use e2e::pipeline::{Parts, Pipeline};
use e2e::process::Program;
use e2e::{checker, wait_until};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use crate::strangers::{event, recording};

const LIMIT: Duration = Duration::from_secs(60);
/// What steers a terminal, turns a line around or is not seen, as JSON writes it.
const HOSTILE: &str = "a\\u001b[2J\\u001b]0;x\\u0007\\u009b31m\\u202e\\u2066\\u200b\\u2028\\u0085z";
/// The same as it is.
const RAW: &str = "a\u{1b}[2J\u{1b}]0;x\u{7}\u{9b}31m\u{202e}\u{2066}\u{200b}\u{2028}\u{85}z";

/// Commands that show what others wrote: the story runs each.
const SHOWING: [&str; 9] = ["demo", "consume", "tail", "topics", "groups", "gaps", "dlq", "audit", "top"];
/// Commands that show only what their own operator gave them, or this program says.
const SILENT: [&str; 13] = [
    "produce",
    "prune",
    "backfill",
    "broker",
    "doctor",
    "config",
    "metrics",
    "commands",
    "completions",
    "man",
    "run",
    "help",
    "migrate",
];

#[test]
fn every_command_shows_texts_of_others_or_is_known_to_show_none() {
    let (_, help, _) = Program::new("wiki").with(["--help"]).run(LIMIT);
    let (_, list) = help.split_once("Commands:\n").unwrap();
    let listed: BTreeSet<&str> =
        list.lines().take_while(|line| !line.is_empty()).filter_map(|line| line.split_whitespace().next()).collect();
    let known: BTreeSet<&str> = SHOWING.into_iter().chain(SILENT).collect();
    assert_eq!(listed, known, "a new command has to be in one of the two lists");
}

/// Edits whose texts are hostile, each in another field.
fn hostile_events() -> Vec<String> {
    let change = |from: &'static str, to: String| move |event: String| event.replace(from, &to);
    let changes = [
        ("\"title\":\"Page\"", format!("\"title\":\"{HOSTILE}\"")),
        ("\"user\":\"u\"", format!("\"user\":\"{HOSTILE}\"")),
        ("\"wiki\":\"enwiki\"", format!("\"wiki\":\"{HOSTILE}\"")),
        ("03:04:05.678Z", format!("{HOSTILE}{HOSTILE}")),
        ("en.wikipedia.org", HOSTILE.to_owned()),
        ("event-6", format!("event-6{HOSTILE}")),
        ("\"title\":\"Page\"", format!("\"title\":\"{}\"", "x".repeat(2_000))),
        (
            "\"length\":{\"old\":1,\"new\":2}",
            "\"length\":{\"old\":-9223372036854775808,\"new\":9223372036854775807}".to_owned(),
        ),
    ];
    let changed = changes.into_iter().enumerate().map(|(number, (from, to))| event(number + 1, &change(from, to)));
    std::iter::once(event(0, &|event| event)).chain(changed).collect()
}

/// What may write to the cluster beside us: a group and a member with hostile names, a gap, a record with a hostile key and
/// headers.
fn write_beside(bootstrap: &str) -> BaseConsumer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    let producer: BaseProducer = config.create().unwrap();
    let gap = format!(
        "{{\"id\":\"{HOSTILE}\",\"source_topics\":[\"{HOSTILE}\"],\"from_ms\":1,\"to_ms\":2,\"reason\":\"no_witness\",\
         \"estimated_events\":1,\"status\":\"open\",\"after\":{{\"id\":\"{HOSTILE}\",\"time_ms\":1}}}}"
    );
    producer.send(BaseRecord::to("wikipedia-gaps").key(RAW).payload(&gap)).unwrap();
    producer.send(BaseRecord::to("wikipedia-events").key(RAW).payload(RAW)).unwrap();
    producer.flush(LIMIT).unwrap();
    let member: BaseConsumer = config.set("group.id", RAW).set("client.id", RAW).create().unwrap();
    member.subscribe(&["wikipedia-events"]).unwrap();
    wait_until("the hostile member has partitions", LIMIT, || {
        let _ = member.poll(Duration::from_millis(50));
        member.assignment().is_ok_and(|assigned| assigned.count() > 0)
    });
    member
}

fn set_aside(pipeline: &Pipeline) -> i64 {
    let table = rusqlite::Connection::open(pipeline.table()).unwrap();
    let insert = "INSERT INTO edits_rejected (topic_id, partition, seq, \"offset\", reason, detail, value, event_id, told) \
                  SELECT topic_id, partition, 1000000, 1, 'wrong_shape', ?1, ?2, ?1, 1 FROM sink_progress LIMIT 1";
    table.execute(insert, rusqlite::params![RAW, RAW.as_bytes()]).unwrap();
    table.last_insert_rowid()
}

#[test]
fn no_text_of_strangers_steers_a_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let events = hostile_events();
    let file = recording(folder.path(), &events);
    let mut pipeline = Pipeline::start(&Parts::with_simulator(&["--events", &file]));
    for service in ["ingest", "enricher", "sink-1", "console"] {
        pipeline.start_service(service);
    }
    // The one with impossible lengths is a dead letter.
    wait_until("the others are stored", LIMIT, || checker::rows(&pipeline.table()) == events.len() - 1);
    let _member = write_beside(&pipeline.target.bootstrap);
    let row = set_aside(&pipeline).to_string();
    let console = format!("http://{}", pipeline.address("console").unwrap());
    let table = pipeline.table().display().to_string();
    let broker = ["--kafka-bootstrap-servers", &pipeline.target.bootstrap];
    let until_end = ["--from-beginning", "--until-end"];
    let stored = ["--writer", "sqlite", "--sqlite-file", &table];
    let commands: Vec<Vec<&str>> = vec![
        [&["tail"][..], &until_end, &broker].concat(),
        [&["tail", "--topic", "dlq.wikipedia-raw"][..], &until_end, &broker].concat(),
        [&["consume", "wikipedia-events", "--format", "pretty"][..], &until_end, &broker].concat(),
        [&["consume", "wikipedia-raw", "--format", "record"][..], &until_end, &broker].concat(),
        [&["consume", "wikipedia-raw", "--format", "json"][..], &until_end, &broker].concat(),
        [&["consume", "wikipedia-gaps", "--format", "pretty"][..], &until_end, &broker].concat(),
        [&["topics", "list"][..], &broker].concat(),
        [&["topics", "describe", "wikipedia-events"][..], &broker].concat(),
        [&["groups", "list"][..], &broker].concat(),
        [&["groups", "describe", RAW][..], &broker].concat(),
        [&["gaps", "list", "--all"][..], &broker].concat(),
        [&["gaps", "show", RAW][..], &broker].concat(),
        [&["dlq", "list"][..], &stored].concat(),
        [&["dlq", "show", &row][..], &stored].concat(),
        [&["audit"][..], &stored, &broker].concat(),
        vec!["top", "--once", "--console", &console],
    ];
    for command in commands {
        let (_, out, errors) = Program::new("wiki").with(command.iter().copied()).run(LIMIT);
        assert!(!out.is_empty(), "{command:?}: {errors}");
        expect_visible(&format!("{command:?}"), &(out + &errors));
    }
    for service in ["ingest", "enricher", "sink-1", "console"] {
        expect_visible(service, &pipeline.service(service).errors());
    }
}

#[test]
fn the_demos_screen_shows_texts_of_strangers_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let file = recording(folder.path(), &hostile_events());
    let demo = Demo::start(&["--source", &file]);
    wait_until("the edits are on the screen", LIMIT, || demo.output().contains("\\u202e"));
    expect_visible("the demo's screen", &demo.output());
    demo.end();
}

fn expect_visible(what: &str, text: &str) {
    let hidden = |c: &char| {
        (c.is_control() && *c != '\n' && *c != '\t')
            || matches!(c, '\u{80}'..='\u{9f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
    };
    assert_eq!(text.chars().find(hidden), None, "{what}:\n{}", text.escape_default());
    let longest = text.lines().map(|line| line.chars().count()).max().unwrap_or(0);
    assert!(longest < 6_000, "{what}: a line of {longest} characters");
}
