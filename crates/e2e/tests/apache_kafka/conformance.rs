//! The same questions to Apache Kafka and to the embedded broker, and the same answers.

use std::collections::BTreeMap;

use e2e::conformance::{self, Verdict};
use e2e::kafka::Cluster;
use e2e::pipeline::start_broker;

/// What is wrong, by check; `None` where nothing is.
fn by_name(verdicts: Vec<Verdict>) -> BTreeMap<&'static str, Option<String>> {
    verdicts.into_iter().map(|verdict| (verdict.name, verdict.failure)).collect()
}

#[test]
fn both_brokers_get_the_same_verdicts() {
    let cluster = Cluster::shared();
    let folder = tempfile::tempdir().unwrap();
    let (_broker, embedded) = start_broker(folder.path());
    let (apache, embedded) = std::thread::scope(|scope| {
        let apache = scope.spawn(|| by_name(conformance::run(&cluster.bootstrap, "")));
        let embedded = by_name(conformance::run(&embedded.to_string(), ""));
        (apache.join().unwrap(), embedded)
    });
    assert!(apache.len() >= 40, "{} checks", apache.len());
    assert_eq!(apache, embedded);
    assert!(apache.values().all(Option::is_none), "{apache:#?}");
}
