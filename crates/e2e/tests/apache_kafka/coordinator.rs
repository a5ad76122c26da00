//! A group's coordinator moves while the broker that was it stays: whoever watches the group finds the new one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use e2e::kafka::Cluster;
use e2e::pipeline::{Parts, Pipeline};
use e2e::wait_until;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(60);
const ANSWER: Duration = Duration::from_secs(5);
/// Kafka's own topic of groups: who leads a group's partition coordinates it.
const GROUPS: &str = "__consumer_offsets";
/// A look that began before the move may still have been answered by the old coordinator.
const UNTIL_MOVED: f64 = 2.0;

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

/// Brokers that hold each partition of the groups' topic, the leader first.
fn copies(cluster: &Cluster) -> Vec<Vec<i32>> {
    let reader: BaseConsumer = ClientConfig::new().set("bootstrap.servers", &cluster.bootstrap).create().unwrap();
    let metadata = reader.fetch_metadata(Some(GROUPS), ANSWER).unwrap();
    let mut partitions: Vec<_> = metadata.topics()[0].partitions().iter().collect();
    partitions.sort_by_key(|partition| partition.id());
    let leader_first = |partition: &&rdkafka::metadata::MetadataPartition| {
        let others = partition.replicas().iter().copied().filter(|broker| *broker != partition.leader());
        std::iter::once(partition.leader()).chain(others).collect()
    };
    partitions.iter().map(leader_first).collect()
}

/// The partition of a group: Java's hash of its name.
fn partition_of(group: &str, partitions: usize) -> usize {
    let hash = group.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    usize::try_from(hash.unsigned_abs()).unwrap() % partitions
}

fn run(class: &str, bootstrap: &str, arguments: &[&str]) {
    let output = Cluster::tool(class).args(["--bootstrap-server", bootstrap]).args(arguments).output().unwrap();
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{class}: {}{}", said(&output.stdout), said(&output.stderr));
}

/// Makes the second copy of a partition its leader, and leaves all three where they are.
fn hand_over(cluster: &Cluster, pipeline: &Pipeline, partition: usize, copies: &[i32]) {
    let [leader, next, rest @ ..] = copies else { panic!("{copies:?}: copies to move between") };
    let replicas: Vec<i32> = [*next, *leader].iter().chain(rest).copied().collect();
    let plan =
        json!({ "version": 1, "partitions": [{ "topic": GROUPS, "partition": partition, "replicas": replicas }] });
    let file = pipeline.folder().join("plan.json");
    std::fs::write(&file, plan.to_string()).unwrap();
    let (bootstrap, file) = (&cluster.bootstrap, file.to_str().unwrap());
    let reassign = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand";
    run(reassign, bootstrap, &["--reassignment-json-file", file, "--execute"]);
    let number = partition.to_string();
    let elect = "org.apache.kafka.tools.LeaderElectionCommand";
    run(elect, bootstrap, &["--election-type", "preferred", "--topic", GROUPS, "--partition", &number]);
}

#[test]
fn a_group_is_described_after_its_coordinator_has_moved() {
    let cluster = Cluster::shared();
    let target = cluster.target("coordinator");
    let mut pipeline = Pipeline::on(target.clone(), &Parts::with_simulator(&["--rate", "20"]));
    for service in ["ingest", "enricher", "sink-1", "console"] {
        pipeline.start_service(service);
    }
    let age = |pipeline: &Pipeline| pipeline.metric("console", "wiki_console_snapshot_age_seconds");
    wait_until("both groups are seen", LIMIT, || age(&pipeline).is_some_and(|age| age > 0.0 && age < 2.0));
    for group in ["wiki-sink", "wiki-enricher"] {
        let before = copies(&cluster);
        let partition = partition_of(&target.topic(group), before.len());
        hand_over(&cluster, &pipeline, partition, &before[partition]);
        wait_until("another broker leads", LIMIT, || copies(&cluster)[partition][0] == before[partition][1]);
        let moved = now();
        wait_until(&format!("{group} is described by its new coordinator"), LIMIT, || {
            age(&pipeline).is_some_and(|age| now() - age > moved + UNTIL_MOVED)
        });
    }
}
