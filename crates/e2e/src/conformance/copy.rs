//! The whole promise: two processes copy a topic exactly once, and both are killed.

use std::collections::BTreeSet;

use super::groups::Members;
use super::{Check, Cluster, Outcome, expect, until, values, write};

pub(super) const CHECKS: &[Check] = &[
    ("a_copy_is_exact_while_both_workers_are_killed_classic", |cluster| exact(cluster, "cooperative")),
    ("a_copy_is_exact_while_both_workers_are_killed_kip_848", |cluster| exact(cluster, "consumer")),
];

const PARTITIONS: i32 = 4;
const RECORDS: u32 = 1_000;

fn exact(cluster: &Cluster, protocol: &str) -> Outcome {
    let (input, output) = (cluster.topic("in", PARTITIONS, &[])?, cluster.topic("out", PARTITIONS, &[])?);
    let producer = cluster.producer(&[]);
    for partition in 0..PARTITIONS {
        write(&producer, &input, partition, 0..RECORDS)?;
    }
    let ids = ["one", "two"].map(|name| format!("{}-{name}", cluster.prefix));
    let mut workers = Members::new(cluster, protocol, &input, &output);
    for id in &ids {
        workers.start(id);
    }
    let copied = || -> usize {
        (0..PARTITIONS).map(|partition| cluster.read(&output, partition).map_or(0, |records| records.len())).sum()
    };
    let all = usize::try_from(RECORDS).unwrap() * usize::try_from(PARTITIONS).unwrap();
    // Each is killed once, in the midst of the work, and started again under its transactional id.
    for (kill, id) in (1..).zip(&ids) {
        until("a part is copied", || (copied() >= all * kill / 4).then_some(()))?;
        workers.kill_oldest();
        workers.start(id);
    }
    until("everything is copied", || {
        if workers.reap() {
            // A worker that lost its place ends; the work goes on under the same id.
            workers.start(&ids[0]);
        }
        (copied() >= all).then_some(())
    })?;
    for partition in 0..PARTITIONS {
        let seen = values(&cluster.read(&output, partition)?);
        let distinct: BTreeSet<&String> = seen.iter().collect();
        let expected = usize::try_from(RECORDS).unwrap();
        expect("copied, distinct", &(seen.len(), distinct.len()), &(expected, expected))?;
    }
    Ok(())
}
