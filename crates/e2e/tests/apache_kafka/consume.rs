//! `wiki consume` beside kcat and Kafka's own console consumer: the same records.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use e2e::kafka::{Cluster, NODES};
use e2e::process::Program;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(60);
const TIMES: u64 = 400;

/// Key, headers and value by partition and offset.
type Records = BTreeMap<(i64, i64), (Option<String>, Vec<(String, String)>, String)>;

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn wiki(bootstrap: &str, arguments: &[&str]) -> String {
    let program = Program::new("wiki").with(arguments.to_vec()).with(["--kafka-bootstrap-servers", bootstrap]);
    let (code, output, errors) = program.run(LIMIT);
    assert_eq!(code, 0, "{arguments:?}: {errors}");
    output
}

fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn ours(bootstrap: &str, topic: &str) -> Records {
    let output = wiki(bootstrap, &["consume", topic, "--from", "earliest", "--until-end", "--json"]);
    let record = |line: &str| {
        let record: Value = serde_json::from_str(line).unwrap();
        let headers = record["headers"].as_array().unwrap().iter().flat_map(|header| header.as_object().unwrap());
        let headers = headers.map(|(name, value)| (name.clone(), text(value))).collect();
        let at = (record["partition"].as_i64().unwrap(), record["offset"].as_i64().unwrap());
        (at, (record["key"].as_str().map(str::to_owned), headers, text(&record["value"])))
    };
    output.lines().map(record).collect()
}

/// As `kcat -J` prints it: headers are names and values in turn.
fn kcat(bootstrap: &str, topic: &str) -> Records {
    let output = printed(Command::new("kcat").args(["-b", bootstrap, "-t", topic, "-C", "-e", "-J", "-q"]));
    let record = |line: &str| {
        let record: Value = serde_json::from_str(line).unwrap();
        let headers: Vec<String> = record["headers"].as_array().into_iter().flatten().map(text).collect();
        let headers = headers.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
        let at = (record["partition"].as_i64().unwrap(), record["offset"].as_i64().unwrap());
        (at, (record["key"].as_str().map(str::to_owned), headers, text(&record["payload"])))
    };
    output.lines().map(record).collect()
}

/// As `kafka-console-consumer.sh` prints it: partition, offset, headers, key, value between tabs.
fn kafkas_own(bootstrap: &str, topic: &str, count: usize) -> Records {
    let mut tool = Cluster::tool("org.apache.kafka.tools.consumer.ConsoleConsumer");
    tool.args(["--bootstrap-server", bootstrap, "--topic", topic, "--from-beginning"]);
    tool.args(["--max-messages", &count.to_string()]);
    for property in ["print.partition", "print.offset", "print.headers", "print.key"] {
        tool.args(["--property", &format!("{property}=true")]);
    }
    let record = |line: &str| {
        let mut parts = line.splitn(5, '\t');
        let mut next = || parts.next().unwrap_or_else(|| panic!("{line}"));
        let number = |part: &str| part.split_once(':').unwrap().1.parse::<i64>().unwrap();
        let at = (number(next()), number(next()));
        let pairs = next().split(',').filter_map(|pair| pair.split_once(':'));
        let headers = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let key = Some(next().to_owned()).filter(|key| key != "null");
        (at, (key, headers, next().to_owned()))
    };
    printed(&mut tool).lines().filter(|line| line.starts_with("Partition:")).map(record).collect()
}

#[test]
fn our_console_consumer_shows_what_kcat_and_kafkas_own_show() {
    let cluster = Cluster::shared();
    let bootstrap = cluster.bootstrap.as_str();
    let topic = cluster.target("shown").prefix + "records";
    wiki(bootstrap, &["topics", "create", &topic, "--partitions", "3", "--replication-factor", "3"]);
    let times = TIMES.to_string();
    let with_key = ["produce", &topic, "--key", "ключ-%n", "--value", "значение %n \"x\"", "--count", &times];
    wiki(bootstrap, &[&with_key[..], &["--header", "kind=a", "--header", "lang=ру"]].concat());
    wiki(bootstrap, &["produce", &topic, "--value", "%n", "--count", &times, "--partition", "1"]);
    let ours = ours(bootstrap, &topic);
    assert_eq!(ours.len() as u64, TIMES * 2);
    assert!(ours.values().any(|(key, headers, _)| key.is_none() && headers.is_empty()));
    assert!(ours.values().any(|(key, headers, _)| key.is_some() && headers.len() == 2));
    assert!(ours == kcat(bootstrap, &topic), "kcat shows something else");
    assert!(ours == kafkas_own(bootstrap, &topic, ours.len()), "Kafka's own console consumer shows something else");
}

#[test]
fn records_are_read_while_a_broker_is_away() {
    let mut cluster = Cluster::to_break();
    let bootstrap = cluster.bootstrap.clone();
    let topic = cluster.target("away").prefix + "records";
    wiki(&bootstrap, &["topics", "create", &topic, "--partitions", "3", "--replication-factor", "3"]);
    let times = TIMES.to_string();
    wiki(&bootstrap, &["produce", &topic, "--value", "%n", "--count", &times]);
    // Whoever leads, and whoever is asked first.
    for node in 0..NODES {
        cluster.kill(node);
        let read = wiki(&bootstrap, &["consume", &topic, "--from", "earliest", "--until-end"]);
        assert_eq!(read.lines().count() as u64, TIMES, "without node {node}");
        cluster.start_dead_nodes();
    }
}
