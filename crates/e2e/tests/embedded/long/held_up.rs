//! A reader whose output is held up for longer than the group waits.

use std::time::Duration;

use e2e::pipeline::start_broker;
use e2e::process::{Program, binary};
use e2e::schedule;

#[test]
fn a_reader_that_is_held_up_reads_on() {
    let _permit = schedule::shared();
    let folder = tempfile::tempdir().unwrap();
    let (_broker, address) = start_broker(folder.path());
    let at = ["--kafka-bootstrap-servers", &address.to_string()];
    let run = |arguments: &[&str]| Program::new("wiki").with(arguments.to_vec()).with(at).run(Duration::from_secs(60));
    assert_eq!(run(&["topics", "create", "t", "--partitions", "3"]).0, 0);
    assert_eq!(run(&["produce", "t", "--key", "k%n", "--value", &"x".repeat(60), "--count", "3000"]).0, 0);
    let script = format!(
        "{} consume t --kafka-bootstrap-servers {address} --group slow --from-beginning -X max.poll.interval.ms=6000 \
         -X session.timeout.ms=6000 --idle-ms 8000 --format offsets | (head -c 1000; sleep 15; cat)",
        binary("wiki").display()
    );
    let done = std::process::Command::new("bash").args(["-o", "pipefail", "-c", &script]).output().unwrap();
    let (out, said) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success() && said.contains("held up for too long"), "{said}");
    let keys: std::collections::BTreeSet<&str> =
        out.split("key=").skip(1).filter_map(|rest| rest.split(' ').next()).collect();
    assert_eq!(keys.len(), 3000, "{said}");
}
