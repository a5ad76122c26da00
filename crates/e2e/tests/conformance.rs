//! The embedded broker answers as Kafka does, as far as this pipeline asks.

use e2e::conformance;
use e2e::pipeline::start_broker;

#[test]
fn the_embedded_broker_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let (mut process, address) = start_broker(folder.path());
    let verdicts = conformance::run(&address.to_string(), "");
    let failed: Vec<_> = verdicts.iter().filter(|verdict| verdict.failure.is_some()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(verdicts.len() >= 25, "{} checks", verdicts.len());
    assert!(process.ended().is_none(), "the broker is alive");
}
