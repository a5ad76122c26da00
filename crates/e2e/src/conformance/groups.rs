//! Consumer groups, each member a process of its own.

use std::collections::BTreeSet;

use rdkafka::consumer::Consumer as _;
use tempfile::TempDir;

use super::member::Orders;
use super::{ANSWER, Check, Cluster, Outcome, until, write};
use crate::process::{Process, Program};

pub(super) const CHECKS: &[Check] = &[
    ("a_cooperative_group_shares_and_takes_over_from_the_killed", |cluster| share(cluster, "cooperative")),
    ("an_eager_group_shares_and_takes_over_from_the_killed", |cluster| share(cluster, "eager")),
    ("a_kip_848_group_shares_and_takes_over_from_the_killed", |cluster| share(cluster, "consumer")),
    ("more_members_than_partitions_leave_standbys", standbys),
    ("groups_can_be_listed_and_described", describe),
    ("one_group_does_not_mix_protocols", mixed),
];

/// Member processes of one group.
pub(super) struct Members {
    folder: TempDir,
    orders: Orders,
    running: Vec<Process>,
    started: usize,
}

impl Members {
    pub(super) fn new(cluster: &Cluster, protocol: &str, topic: &str, copy_to: &str) -> Self {
        let orders = Orders {
            bootstrap: cluster.bootstrap.clone(),
            protocol: protocol.to_owned(),
            group: format!("{}-g", cluster.prefix),
            topic: topic.to_owned(),
            copy_to: copy_to.to_owned(),
            transactional_id: String::new(),
        };
        Self { folder: tempfile::tempdir().unwrap(), orders, running: Vec::new(), started: 0 }
    }

    pub(super) fn start(&mut self, transactional_id: &str) {
        self.started += 1;
        let orders = Orders { transactional_id: transactional_id.to_owned(), ..self.orders.clone() };
        let name = format!("member-{}", self.started);
        self.running.push(Program::new("conformance").with(orders.to_arguments()).start(&name, self.folder.path()));
    }

    /// `kill -9` of the oldest member.
    pub(super) fn kill_oldest(&mut self) {
        self.running.remove(0).kill();
    }

    /// Members that ended by themselves are gone; true if there was one.
    pub(super) fn reap(&mut self) -> bool {
        let before = self.running.len();
        self.running.retain_mut(|process| process.ended().is_none());
        self.running.len() < before
    }

    /// What each member says that it owns.
    fn owned(&self) -> Vec<BTreeSet<i32>> {
        let last = |process: &Process| {
            let output = process.output();
            let line = output.lines().rev().find_map(|line| line.strip_prefix("owns"))?.to_owned();
            Some(line.split_whitespace().filter_map(|number| number.parse().ok()).collect())
        };
        self.running.iter().map(|process| last(process).unwrap_or_default()).collect()
    }

    /// Waits until members own these many partitions, in any order, each partition once.
    fn settle(&self, mut counts: Vec<usize>) -> Outcome {
        counts.sort_unstable();
        until(&format!("members own {counts:?}, now {:?}", self.owned()), || {
            let owned = self.owned();
            let mut found: Vec<usize> = owned.iter().map(BTreeSet::len).collect();
            found.sort_unstable();
            let distinct: BTreeSet<&i32> = owned.iter().flatten().collect();
            (found == counts && distinct.len() == counts.iter().sum::<usize>()).then_some(())
        })
        .map_err(|why| format!("{why}; at the end {:?}", self.owned()))
    }
}

fn share(cluster: &Cluster, protocol: &str) -> Outcome {
    let topic = cluster.topic("t", 6, &[])?;
    write(&cluster.producer(&[]), &topic, 0, 0..10)?;
    let mut members = Members::new(cluster, protocol, &topic, "");
    members.start("");
    members.settle(vec![6])?;
    members.start("");
    members.settle(vec![3, 3])?;
    members.start("");
    members.settle(vec![2, 2, 2])?;
    members.kill_oldest();
    members.settle(vec![3, 3])
}

fn standbys(cluster: &Cluster) -> Outcome {
    let topic = cluster.topic("t", 2, &[])?;
    let mut members = Members::new(cluster, "cooperative", &topic, "");
    for _ in 0..3 {
        members.start("");
    }
    members.settle(vec![0, 1, 1])
}

fn describe(cluster: &Cluster) -> Outcome {
    let topic = cluster.topic("t", 2, &[])?;
    let mut members = Members::new(cluster, "cooperative", &topic, "");
    members.start("");
    members.settle(vec![2])?;
    let group = format!("{}-g", cluster.prefix);
    let reader = cluster.reader();
    until("the group is described with its member", || {
        let listed = reader.fetch_group_list(Some(&group), ANSWER).ok()?;
        let found = listed.groups().first()?;
        (found.state() == "Stable" && found.members().len() == 1 && found.protocol() == "cooperative-sticky")
            .then_some(())
    })
}

fn mixed(cluster: &Cluster) -> Outcome {
    let topic = cluster.topic("t", 2, &[])?;
    let mut classic = Members::new(cluster, "eager", &topic, "");
    classic.start("");
    classic.settle(vec![2])?;
    // An assignment strategy that the others do not know cannot join them.
    let mut other = Members::new(cluster, "cooperative", &topic, "");
    other.start("");
    let owned = || other.owned().iter().map(BTreeSet::len).sum::<usize>();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(3);
    until("three seconds", || (std::time::Instant::now() > deadline).then_some(()))?;
    if owned() == 0 { classic.settle(vec![2]) } else { Err(format!("the stranger owns {} partitions", owned())) }
}
