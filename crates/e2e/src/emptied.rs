//! Retention, or an operator, empties topics and offsets while the services are away; what comes after it is stored.

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::admin::AdminOptions;
use rdkafka::{Offset, TopicPartitionList};

use crate::pipeline::{Parts, Pipeline};
use crate::target::Target;
use crate::{block_on, checker, wait_until};

const LIMIT: Duration = Duration::from_secs(60);
const END: Duration = Duration::from_secs(10);
/// The services, in the order of the data.
pub const SERVICES: [&str; 3] = ["ingest", "enricher", "sink-1"];

/// What is emptied.
#[derive(Clone, Copy, Debug, Default)]
pub struct Emptied {
    /// The raw topic.
    pub raw: bool,
    /// The events topic.
    pub events: bool,
    /// The groups' offsets.
    pub groups: bool,
}

/// A pipeline whose topics are emptied.
#[derive(Debug)]
pub struct Story {
    /// The pipeline.
    pub pipeline: Pipeline,
    seed: u64,
}

impl Story {
    /// Everything that was made is stored; on a broker of its own where no cluster is named.
    #[must_use]
    pub fn begin(target: Option<Target>, seed: u64) -> Self {
        let text = seed.to_string();
        let options = ["--rate", "200", "--seed", &text, "--density", "10", "--frozen"];
        let mut parts = Parts::with_simulator(&options);
        // The simulator's clock begins 30 days back.
        parts.ingest = ["--stream-retention-hours", "2000"].map(str::to_owned).to_vec();
        let pipeline = match target {
            Some(target) => Pipeline::on(target, &parts),
            None => Pipeline::start(&parts),
        };
        let mut story = Self { pipeline, seed };
        for service in SERVICES {
            story.pipeline.start_service(service);
        }
        story.pipeline.make(60);
        story.expect_stored(&BTreeSet::new(), "the first edits");
        story
    }

    /// Every edit that was made.
    #[must_use]
    pub fn made(&self) -> BTreeSet<String> {
        checker::made(self.pipeline.simulator, "edit")
    }

    /// Every edit that was made is in the table, but for those that are lost.
    ///
    /// # Panics
    /// Where it is not.
    pub fn expect_stored(&mut self, lost: &BTreeSet<String>, what: &str) {
        let expected: BTreeSet<String> = self.made().difference(lost).cloned().collect();
        let table = self.pipeline.table();
        wait_until(what, LIMIT, || {
            self.pipeline.expect_all_alive();
            checker::rows(&table) >= expected.len() && checker::ids(&table).is_superset(&expected)
        });
        assert_eq!(checker::ids(&table), expected, "{what}: nothing else is stored");
    }

    /// Ends services in order.
    pub fn end(&mut self, services: &[&str]) {
        for service in services {
            self.pipeline.service(service).terminate(END);
            self.pipeline.forget(service);
        }
    }

    /// Empties topics by DeleteRecords, and deletes the groups.
    ///
    /// # Panics
    /// Where the cluster refuses.
    pub fn empty(&self, what: Emptied) {
        let mut list = TopicPartitionList::new();
        let topics = [(what.raw, "wikipedia-raw"), (what.events, "wikipedia-events")];
        for (_, topic) in topics.into_iter().filter(|(is_emptied, _)| *is_emptied) {
            for partition in 0..6 {
                list.add_partition_offset(&self.pipeline.target.topic(topic), partition, Offset::End).unwrap();
            }
        }
        if list.count() > 0 {
            let deleted = block_on(self.pipeline.target.admin().delete_records(&list, &AdminOptions::new()));
            assert!(deleted.is_ok(), "{deleted:?}");
        }
        for group in ["wiki-ingest", "wiki-enricher", "wiki-sink"].iter().filter(|_| what.groups) {
            let group = format!("{}{group}", self.pipeline.target.prefix);
            wait_until("the group is deleted", LIMIT, || {
                self.pipeline.wiki(&["groups", "delete", &group, "--yes"]).0 == 0
            });
        }
    }

    /// Starts a service; ingest is given the places that it names where it says that it cannot know.
    ///
    /// # Panics
    /// Where it neither begins nor says so.
    pub fn start(&mut self, service: &str) {
        let acting = |pipeline: &Pipeline| {
            pipeline.logs("ingest").iter().filter(|line| line["message"] == "acting replica of ingest").count()
        };
        let before = acting(&self.pipeline);
        self.pipeline.start_service(service);
        if service != "ingest" {
            return;
        }
        let mut places = None;
        wait_until("ingest begins, or says what it cannot know", LIMIT, || {
            let ended = self.pipeline.service("ingest").ended().is_some();
            let errors = self.pipeline.service("ingest").errors();
            places = errors.split("--accept-lost-history ").nth(1).map(str::to_owned);
            (ended && places.is_some()) || acting(&self.pipeline) > before
        });
        if let Some(places) = places {
            let places = places.split(' ').next().unwrap().to_owned();
            assert_eq!(places.matches('@').count(), 6, "{places}");
            self.pipeline.start_service_with("ingest", &["--accept-lost-history", &places]);
        }
    }

    /// A metric; −1 where it is not there.
    #[must_use]
    pub fn metric(&self, service: &str, name: &str) -> f64 {
        self.pipeline.metric(service, name).unwrap_or(-1.0)
    }
}

/// Empties this while all services are away; what is made then is stored once they are back, in an order that the seed
/// gives.
///
/// # Panics
/// Where it is not so.
pub fn tell(target: Option<Target>, what: Emptied, seed: u64) {
    let mut story = Story::begin(target, seed);
    story.end(&SERVICES);
    story.empty(what);
    story.pipeline.make(40);
    let mut order = SERVICES;
    order.rotate_left(usize::try_from(seed).unwrap() % 3);
    for service in order {
        story.start(service);
    }
    story.expect_stored(&BTreeSet::new(), &format!("{what:?}, seed {}", story.seed));
    assert!(story.metric("sink-1", "wiki_sink_sequence_repeats_total") < 1.0, "no new edit was taken for a repeat");
    assert!(story.metric("enricher", "wiki_enricher_inputs_lost_total") < 1.0, "nothing was lost");
    let (code, said) = story.pipeline.audit();
    if what.raw && what.groups && !what.events {
        // No record says what was published: it is read, mapped and refused by the table's key once more.
        assert!(code == 1 && said.contains("missing 0, double ") && said.contains(", extra 0, gaps 0"), "{said}");
    } else {
        assert_eq!(code, 0, "{what:?}: {said}");
    }
}
