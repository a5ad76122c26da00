//! Replicas come and go under load, in each rebalance protocol: exact, and the pauses measured.

use std::time::Duration;

use e2e::checker;
use e2e::kafka::Cluster;
use e2e::pipeline::{Parts, Pipeline};
use e2e::wait_until;

const EDITS: usize = 15_000;
const LIMIT: Duration = Duration::from_secs(120);
const PARTITIONS: f64 = 6.0;

/// The replicas of a service that run now, and how many partitions each owns.
struct Replicas {
    service: &'static str,
    running: Vec<String>,
    started: usize,
}

impl Replicas {
    const fn of(service: &'static str) -> Self {
        Self { service, running: Vec::new(), started: 0 }
    }

    /// Starts or ends replicas, the oldest first, until `count` run.
    fn scale(&mut self, pipeline: &mut Pipeline, count: usize) {
        while self.running.len() < count {
            self.started += 1;
            let name = format!("{}-{}", self.service, self.started);
            pipeline.start_service(&name);
            self.running.push(name);
        }
        while self.running.len() > count {
            let name = self.running.remove(0);
            let (code, took) = pipeline.service(&name).terminate(Duration::from_secs(8));
            assert_eq!(code, Some(0), "{name} ends in order:\n{}", pipeline.service(&name).errors());
            assert!(took < Duration::from_secs(5), "{name} took {took:?}");
            pipeline.forget(&name);
        }
    }

    /// Whether the replicas own all partitions, each as many as the others or one less.
    fn is_even(&self, pipeline: &Pipeline) -> bool {
        let metric = format!("wiki_{}_assigned_partitions", self.service);
        let owned: Option<Vec<f64>> = self.running.iter().map(|name| pipeline.metric(name, &metric)).collect();
        let Some(owned) = owned else { return false };
        let (least, most) = owned.iter().fold((f64::MAX, 0.0_f64), |(low, high), n| (low.min(*n), high.max(*n)));
        (owned.iter().sum::<f64>() - PARTITIONS).abs() < 0.5 && most - least < 1.5
    }
}

/// 1 → 3 → 1 → 6 replicas of the enricher and of the sink at once.
fn scaled(rebalance: &'static str) {
    let cluster = Cluster::shared();
    let edits = EDITS.to_string();
    let mut parts = Parts::with_simulator(&["--rate", "1500", "--edits", &edits, "--seed", "61"]);
    parts.rebalance = rebalance;
    let mut pipeline = Pipeline::on(cluster.target(rebalance), &parts);
    pipeline.start_service("ingest");
    pipeline.start_service("console");
    let mut services = [Replicas::of("enricher"), Replicas::of("sink")];
    let table = pipeline.table();
    for count in [1, 3, 1, 6] {
        for replicas in &mut services {
            replicas.scale(&mut pipeline, count);
        }
        wait_until("the partitions are shared evenly", LIMIT, || {
            pipeline.expect_all_alive();
            services.iter().all(|replicas| replicas.is_even(&pipeline))
        });
        // Both groups together, as the brokers describe them.
        wait_until("the console sees as many members, and every partition owned", LIMIT, || {
            let shown = |name: &str| pipeline.metric("console", name);
            shown("wiki_group_members") == Some(2.0 * replicas_of(count))
                && shown("wiki_group_unassigned_partitions") == Some(0.0)
        });
        // Some flow under this assignment before the next one.
        let before = checker::progress(&table);
        wait_until("edits flow", LIMIT, || {
            pipeline.expect_all_alive();
            let now = checker::progress(&table);
            now > before + 500 || now == EDITS
        });
    }
    pipeline.expect_exact(EDITS, LIMIT);
    let pauses: Vec<String> = services.iter().map(|replicas| pauses(&pipeline, replicas.service)).collect();
    println!("{rebalance}: pauses of a partition over all rebalances: {}", pauses.join("; "));
}

fn replicas_of(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap())
}

/// What the replicas of a service, ended ones too, noted of pauses.
fn pauses(pipeline: &Pipeline, service: &str) -> String {
    let mut seconds: Vec<f64> = (1..=12)
        .flat_map(|number| pipeline.logs(&format!("{service}-{number}")))
        .filter(|line| line["message"] == "partition resumed")
        .filter_map(|line| line["pause_seconds"].as_f64())
        .collect();
    seconds.sort_by(f64::total_cmp);
    let middle = seconds.get(seconds.len() / 2).copied().unwrap_or_default();
    let most = seconds.last().copied().unwrap_or_default();
    format!("{service} {} pauses, median {middle:.2} s, longest {most:.2} s", seconds.len())
}

#[test]
fn replicas_scale_and_stay_exact_cooperative() {
    scaled("cooperative");
}

#[test]
fn replicas_scale_and_stay_exact_eager() {
    scaled("eager");
}

#[test]
fn replicas_scale_and_stay_exact_kip_848() {
    scaled("consumer");
}
