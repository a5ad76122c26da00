//! Retention, or an operator, empties topics and offsets while the services are away; what comes after it is stored.

use std::collections::BTreeSet;
use std::time::Duration;

use e2e::pipeline::{Parts, Pipeline};
use e2e::{checker, wait_until};
use rdkafka::admin::AdminOptions;
use rdkafka::{Offset, TopicPartitionList};

const LIMIT: Duration = Duration::from_secs(60);
const END: Duration = Duration::from_secs(10);
const SERVICES: [&str; 3] = ["ingest", "enricher", "sink-1"];

/// What is emptied.
#[derive(Clone, Copy, Debug, Default)]
struct Emptied {
    raw: bool,
    events: bool,
    groups: bool,
}

struct Story {
    pipeline: Pipeline,
    seed: u64,
}

impl Story {
    /// Everything that was made is stored.
    fn begin(seed: u64) -> Self {
        let text = seed.to_string();
        let options = ["--rate", "200", "--seed", &text, "--density", "10", "--frozen"];
        let mut parts = Parts::with_simulator(&options);
        // The simulator's clock begins 30 days back.
        parts.ingest = ["--stream-retention-hours", "2000"].map(str::to_owned).to_vec();
        let mut story = Self { pipeline: Pipeline::start(&parts), seed };
        for service in SERVICES {
            story.pipeline.start_service(service);
        }
        story.pipeline.make(60);
        story.expect_stored(&BTreeSet::new(), "the first edits");
        story
    }

    fn made(&self) -> BTreeSet<String> {
        checker::made(self.pipeline.simulator, "edit")
    }

    /// Every edit that was made is in the table, but for those that are lost.
    fn expect_stored(&mut self, lost: &BTreeSet<String>, what: &str) {
        let expected: BTreeSet<String> = self.made().difference(lost).cloned().collect();
        let table = self.pipeline.table();
        wait_until(what, LIMIT, || {
            self.pipeline.expect_all_alive();
            checker::rows(&table) >= expected.len() && checker::ids(&table).is_superset(&expected)
        });
        assert_eq!(checker::ids(&table), expected, "{what}: nothing else is stored");
    }

    fn end(&mut self, services: &[&str]) {
        for service in services {
            self.pipeline.service(service).terminate(END);
            self.pipeline.forget(service);
        }
    }

    fn empty(&self, what: Emptied) {
        let mut list = TopicPartitionList::new();
        let topics = [(what.raw, "wikipedia-raw"), (what.events, "wikipedia-events")];
        for (_, topic) in topics.into_iter().filter(|(is_emptied, _)| *is_emptied) {
            for partition in 0..6 {
                list.add_partition_offset(topic, partition, Offset::End).unwrap();
            }
        }
        if list.count() > 0 {
            let deleted = e2e::block_on(self.pipeline.target.admin().delete_records(&list, &AdminOptions::new()));
            assert!(deleted.is_ok(), "{deleted:?}");
        }
        for group in ["wiki-ingest", "wiki-enricher", "wiki-sink"].iter().filter(|_| what.groups) {
            wait_until("the group is deleted", LIMIT, || {
                self.pipeline.wiki(&["groups", "delete", group, "--yes"]).0 == 0
            });
        }
    }

    /// Starts a service; ingest is told to go on where it says that it cannot know.
    fn start(&mut self, service: &str) {
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

    fn metric(&self, service: &str, name: &str) -> f64 {
        self.pipeline.metric(service, name).unwrap_or(-1.0)
    }
}

fn tell(what: Emptied, seed: u64) {
    let mut story = Story::begin(seed);
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
        // Nobody knows any more what was published: it is read, mapped and refused by the table's key once more.
        assert!(code == 1 && said.contains("missing 0, double ") && said.contains(", extra 0, gaps 0"), "{said}");
    } else {
        assert_eq!(code, 0, "{what:?}: {said}");
    }
}

#[test]
fn raw_emptied_after_it_was_mapped_loses_nothing() {
    tell(Emptied { raw: true, ..Emptied::default() }, 1);
}

#[test]
fn events_emptied_after_they_were_stored_loses_nothing() {
    tell(Emptied { events: true, ..Emptied::default() }, 2);
}

#[test]
fn groups_forgotten_lose_nothing() {
    tell(Emptied { groups: true, ..Emptied::default() }, 3);
}

#[test]
fn both_topics_emptied_loses_nothing() {
    tell(Emptied { raw: true, events: true, groups: false }, 4);
}

#[test]
fn raw_emptied_and_groups_forgotten_loses_nothing() {
    tell(Emptied { raw: true, events: false, groups: true }, 5);
}

#[test]
fn events_emptied_and_groups_forgotten_loses_nothing() {
    tell(Emptied { raw: false, events: true, groups: true }, 6);
}

#[test]
fn everything_emptied_and_forgotten_loses_nothing_that_comes_after() {
    for seed in 7..10 {
        tell(Emptied { raw: true, events: true, groups: true }, seed);
    }
}

#[test]
fn what_was_never_mapped_is_named_once_and_the_rest_is_stored() {
    let mut story = Story::begin(11);
    story.end(&["sink-1", "enricher"]);
    let before = story.made();
    story.pipeline.make(30);
    let unmapped: BTreeSet<String> = story.made().difference(&before).cloned().collect();
    wait_until("all of it is published", LIMIT, || checker::raw(&story.pipeline.target, &story.made()).missing == 0);
    story.end(&["ingest"]);
    story.empty(Emptied { raw: true, ..Emptied::default() });
    story.pipeline.make(30);
    for service in SERVICES {
        story.start(service);
    }
    story.expect_stored(&unmapped, "what came after it");
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let expected = unmapped.len() as f64;
    assert!((story.metric("enricher", "wiki_enricher_inputs_lost_total") - expected).abs() < 0.5);
    let told = story.pipeline.logs("enricher");
    let told = told
        .iter()
        .filter(|line| line["message"].as_str().is_some_and(|text| text.contains("before they were mapped")));
    let count: i64 = told.filter_map(|line| line["count"].as_i64()).sum();
    assert_eq!(usize::try_from(count).unwrap(), unmapped.len(), "named once, partition by partition");
    let (code, said) = story.pipeline.audit();
    assert!(code == 1 && said.contains(&format!("missing {}", unmapped.len())), "{said}");
}

#[test]
fn a_stray_record_at_a_topics_end_is_stepped_over() {
    let mut story = Story::begin(12);
    for topic in ["wikipedia-raw", "wikipedia-events"] {
        for partition in ["0", "3"] {
            let arguments = ["produce", topic, "--partition", partition, "--value", "hello"];
            assert_eq!(story.pipeline.wiki(&arguments).0, 0);
        }
    }
    story.end(&SERVICES);
    story.pipeline.make(30);
    for service in SERVICES {
        story.start(service);
    }
    story.expect_stored(&BTreeSet::new(), "what came after it");
    let (code, said) = story.pipeline.audit();
    assert!(code == 0 && said.contains("sequences         dense"), "{said}");
}
