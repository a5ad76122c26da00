//! A replica of ingest or of the enricher that is stopped in the middle of a transaction, past its session, and continued
//! later finds that others have taken over: its first write is refused, and nothing is lost or doubled.

use std::time::{Duration, Instant};

use e2e::checker::{self, OpenTransactions};
use e2e::kafka::Cluster;
use e2e::pipeline::{Parts, Pipeline};
use e2e::wait_until;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(120);
/// How soon a zombie with an open transaction writes, or hears from the group that it is one.
const AWAKE: Duration = Duration::from_secs(10);
/// A transaction that is open for so long is a stopped replica's; a session lasts 1.5 s.
const STOPPED: Duration = Duration::from_millis(400);
/// A zombie may hear from the group before it writes anything: then the next one is made.
const ROUNDS: usize = 5;

/// Two replicas of one service, the others around them, and how a refused write shows in the log.
struct Story {
    others: &'static [&'static str],
    /// Where its edits are written.
    topic: &'static str,
    replicas: [&'static str; 2],
    /// 1 or more while a replica is at work,
    at_work: &'static str,
    /// and this while it is the only one.
    alone: f64,
    is_refused: fn(&Value) -> bool,
    /// Enough for the rounds that it may take.
    edits: usize,
}

impl Story {
    fn refused(&self, pipeline: &Pipeline, name: &str) -> usize {
        pipeline.logs(name).iter().filter(|line| (self.is_refused)(line)).count()
    }

    fn has(&self, pipeline: &Pipeline, name: &str, least: f64) -> bool {
        pipeline.metric(name, self.at_work).is_some_and(|value| value >= least)
    }

    fn tell(&self) {
        let cluster = Cluster::shared();
        let edits = self.edits.to_string();
        let mut parts = Parts::with_simulator(&["--rate", "1000", "--edits", &edits, "--seed", "71"]);
        parts.services = ["-X", "session.timeout.ms=1500", "-X", "heartbeat.interval.ms=300"].map(String::from).into();
        let target = cluster.target("zombies");
        let mut pipeline = Pipeline::on(target.clone(), &parts);
        for service in self.others.iter().chain(&self.replicas) {
            pipeline.start_service(service);
        }
        let open = OpenTransactions::of(&target, self.topic);
        let refused = (0..ROUNDS).find_map(|_| self.round(&mut pipeline, &open));
        println!("{} writes of the zombie were refused", refused.unwrap_or_default());
        assert!(refused.is_some(), "no zombie wrote in {ROUNDS} rounds");
        pipeline.expect_exact(self.edits, LIMIT);
    }

    /// Stops a replica in the middle of a transaction; gives its name and the other's.
    fn stop_in_a_transaction(&self, pipeline: &mut Pipeline, open: &OpenTransactions) -> [&'static str; 2] {
        let table = pipeline.table();
        let mut stopped = None;
        wait_until("a replica is stopped in the middle of a transaction", LIMIT, || {
            pipeline.expect_all_alive();
            let at_work = self.replicas.into_iter().find(|name| self.has(pipeline, name, 1.0));
            let Some(name) = at_work.filter(|_| checker::progress(&table) > 500) else { return false };
            pipeline.service(name).signal("STOP");
            if open.last_for(STOPPED) {
                stopped = Some(name);
            } else {
                pipeline.service(name).signal("CONT");
            }
            stopped.is_some()
        });
        match stopped {
            Some(name) if name == self.replicas[1] => [self.replicas[1], self.replicas[0]],
            _ => self.replicas,
        }
    }

    /// Makes a zombie; gives the number of its refused writes, if there was one.
    fn round(&self, pipeline: &mut Pipeline, open: &OpenTransactions) -> Option<usize> {
        let table = pipeline.table();
        let [zombie, successor] = self.stop_in_a_transaction(pipeline, open);
        let before = self.refused(pipeline, zombie);
        let stopped_at = checker::progress(&table);
        wait_until("the other replica goes on alone", LIMIT, || {
            self.has(pipeline, successor, self.alone)
                && (checker::progress(&table) > stopped_at + 200 || checker::progress(&table) == self.edits)
        });
        pipeline.service(zombie).signal("CONT");
        let deadline = Instant::now() + AWAKE;
        while Instant::now() < deadline {
            let refused = self.refused(pipeline, zombie) - before;
            if refused > 0 {
                return Some(refused);
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
        None
    }
}

/// The broker refuses a writer because it knows a newer one, or a group without this member.
fn is_fenced(line: &Value) -> bool {
    let error = line["error"].as_str().unwrap_or_default().to_lowercase();
    let causes = ["fenced", "producer epoch", "illegal generation", "unknown member"];
    let messages = [
        "in doubt about a write: initialising again",
        "a commit was refused after the partition was lost: its next owner decides",
        "kafka client error",
    ];
    messages.iter().any(|message| line["message"] == *message) && causes.iter().any(|cause| error.contains(cause))
}

#[test]
fn a_zombie_ingest_is_fenced_at_its_first_write() {
    let others = &["enricher", "sink"];
    let replicas = ["ingest-1", "ingest-2"];
    let (topic, at_work) = ("wikipedia-raw", "wiki_ingest_acting");
    Story { others, topic, replicas, at_work, alone: 1.0, is_refused: is_fenced, edits: 20_000 }.tell();
}

#[test]
fn a_zombie_enricher_is_fenced_at_its_first_write() {
    let others = &["ingest", "sink"];
    let replicas = ["enricher-1", "enricher-2"];
    let (topic, at_work) = ("wikipedia-events", "wiki_enricher_assigned_partitions");
    Story { others, topic, replicas, at_work, alone: 6.0, is_refused: is_fenced, edits: 20_000 }.tell();
}
