//! The long fault runs on Apache Kafka: services killed at random moments, then nodes, each in turn.

use std::time::{Duration, Instant};

use crate::checker::{self, Verdict};
use crate::kafka::{Cluster, NODES};
use crate::pipeline::{Parts, Pipeline};
use crate::random::Random;
use crate::wait_until;

/// Edits of a run.
pub const EDITS: usize = 200_000;
/// Kills of a run.
pub const KILLS: u32 = 30;
const SERVICES: [&str; 7] = ["ingest-1", "ingest-2", "enricher-1", "enricher-2", "sink-1", "sink-2", "sink-3"];
/// For the whole of a run.
const LIMIT: Duration = Duration::from_secs(600);
const ORDERLY_END: Duration = Duration::from_secs(8);

/// What became of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The checker's.
    pub verdict: Verdict,
    /// From the first service's start to the last edit stored.
    pub took: Duration,
}

impl Outcome {
    /// Whether every edit is there once.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.verdict.is_exact() && self.verdict.stored == EDITS
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (after {:.0} s)", self.verdict, self.took.as_secs_f64())
    }
}

/// The stream at full speed in virtual event time, cut every 2 s, with one switch of the data centre; two replicas of
/// ingest, two of the enricher, three sinks.
fn start(cluster: &Cluster, story: &str, seed: u64) -> Pipeline {
    let (edits, seed) = (EDITS.to_string(), seed.to_string());
    let mut options = vec!["--rate", "max", "--edits", &edits, "--seed", &seed];
    options.extend(["--lifetime-ms", "2000", "--canary-seconds", "60", "--switch-after", "150000"]);
    let mut pipeline = Pipeline::on(cluster.target(story), &Parts::with_simulator(&options));
    for service in SERVICES {
        pipeline.start_service(service);
    }
    let table = pipeline.table();
    wait_until("the first rows", Duration::from_secs(60), || {
        pipeline.expect_all_alive();
        checker::progress(&table) > 0
    });
    pipeline
}

/// Waits for the last edit, judges, and asks every service to end in order.
fn finish(mut pipeline: Pipeline, started: Instant) -> Outcome {
    let table = pipeline.table();
    wait_until("every edit is stored", LIMIT, || {
        pipeline.expect_all_alive();
        checker::progress(&table) >= EDITS
    });
    let took = started.elapsed();
    let verdict = checker::check(pipeline.simulator, &pipeline.target, &table);
    for service in SERVICES {
        let (code, _) = pipeline.service(service).terminate(ORDERLY_END);
        assert_eq!(code, Some(0), "{service} ends in order:\n{}", pipeline.service(service).errors());
    }
    Outcome { verdict, took }
}

/// `kill -9` of services, [`KILLS`] times, each at a random moment of the way, measured in rows.
#[must_use]
pub fn services_killed(cluster: &Cluster, seed: u64) -> Outcome {
    let started = Instant::now();
    let mut pipeline = start(cluster, "services", seed);
    let table = pipeline.table();
    let mut random = Random::new(seed);
    for kill in 0..KILLS {
        let service = SERVICES[random.index(SERVICES.len())];
        let before = checker::progress(&table);
        // On average the kills take nine tenths of the way.
        let further = random.index(2 * EDITS * 9 / 10 / KILLS as usize);
        wait_until("the pipeline goes on", LIMIT, || {
            pipeline.expect_all_alive();
            let now = checker::progress(&table);
            now >= before + further || now >= EDITS
        });
        println!("seed {seed}: kill {} is {service}, at {} edits", kill + 1, checker::progress(&table));
        pipeline.kill_and_restart(service);
    }
    finish(pipeline, started)
}

/// Each node of the cluster killed once and started again, the next one when the cluster is whole.
#[must_use]
pub fn nodes_killed(cluster: &mut Cluster, seed: u64) -> Outcome {
    let started = Instant::now();
    let mut pipeline = start(cluster, "nodes", seed);
    let table = pipeline.table();
    let mut random = Random::new(seed);
    for node in 0..NODES {
        let before = checker::progress(&table);
        let further = random.index(EDITS / NODES / 2);
        wait_until("the pipeline goes on", LIMIT, || {
            pipeline.expect_all_alive();
            checker::progress(&table) >= before + further
        });
        println!("seed {seed}: node {} is killed, at {} edits", node + 1, checker::progress(&table));
        cluster.kill(node);
        let without = checker::progress(&table);
        wait_until("the pipeline goes on without it", LIMIT, || {
            pipeline.expect_all_alive();
            checker::progress(&table) > without + 1_000
        });
        cluster.start_dead_nodes();
    }
    finish(pipeline, started)
}
