//! What ingest finds of itself in Kafka when it starts: the state of an older release, and one that is long.
//!
//! Releases before a position for each source topic wrote the same records, and one log time for all source topics beside
//! the committed offset.

use std::time::Duration;

use e2e::pipeline::{Parts, Pipeline};
use e2e::{checker, http, wait_until};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::{ClientConfig, TopicPartitionList};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);
const PLACE: (&str, i32) = ("wikipedia-ingest", 0);

struct Story {
    pipeline: Pipeline,
}

impl Story {
    fn faults(&self, faults: &str) {
        let faults = format!("{{\"frozen\":true,{faults}}}");
        assert_eq!(http::request(self.pipeline.simulator, "PUT", "/faults", &faults).unwrap().0, 200);
    }

    fn expect_whole(&mut self, what: &str) {
        let made = checker::made(self.pipeline.simulator, "edit");
        let mut verdict = checker::Raw::default();
        wait_until(what, LIMIT, || {
            self.pipeline.expect_all_alive();
            verdict = checker::raw(&self.pipeline.target, &made);
            verdict.missing == 0 || verdict.double > 0
        });
        println!("{what}: {verdict}");
        assert!(verdict.is_exact(), "{what}: {verdict}");
    }

    /// Ingest is away, and its state is what the older release would have left.
    fn leave_old_state(&mut self) {
        self.pipeline.service("ingest").kill();
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.pipeline.target.bootstrap)
            .set("group.id", "wiki-ingest")
            .create()
            .unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition(PLACE.0, PLACE.1);
        wait_until("the dead replica has left the group", LIMIT, || {
            let committed = consumer.committed_offsets(list.clone(), LIMIT).unwrap();
            let mut place = committed.find_partition(PLACE.0, PLACE.1).unwrap();
            let state: Value = serde_json::from_str(place.metadata()).unwrap();
            place.set_metadata(old(&state).to_string());
            consumer.commit(&committed, CommitMode::Sync).is_ok()
        });
        let committed = consumer.committed_offsets(list, LIMIT).unwrap();
        let state: Value =
            serde_json::from_str(committed.find_partition(PLACE.0, PLACE.1).unwrap().metadata()).unwrap();
        assert!(state.get("sources").is_none(), "{state}");
    }
}

/// The fields that the older release knew. Its one time was the greatest of all source topics.
fn old(state: &Value) -> Value {
    let times = state["sources"].as_array().into_iter().flatten().filter_map(|source| source["t"].as_i64());
    let t = times.max().or(state["t"].as_i64());
    json!({"v": state["v"], "t": t, "start": state["start"], "seen": state["seen"], "seq": state["seq"]})
}

#[test]
fn the_state_of_an_older_release_is_carried_over_and_loses_and_doubles_nothing() {
    let simulator = ["--rate", "200", "--seed", "21", "--density", "35", "--canary-seconds", "300", "--frozen"];
    let mut pipeline = Pipeline::start(&Parts::with_simulator(&simulator));
    pipeline.start_service("ingest");
    let mut story = Story { pipeline };
    story.pipeline.make(900);
    story.expect_whole("before the upgrade");
    for (switched, what) in
        [(false, "upgraded"), (true, "upgraded over a switch of the data centre"), (true, "once more")]
    {
        story.leave_old_state();
        story.faults(&format!("\"switched\":{switched},\"cut_after\":6000"));
        story.pipeline.make(1200);
        story.pipeline.start_service("ingest");
        story.expect_whole(what);
    }
}

#[test]
fn a_state_that_is_too_long_for_metadata_is_read_back_from_its_record() {
    let simulator = ["--rate", "200", "--seed", "22", "--density", "35", "--frozen"];
    let mut parts = Parts::with_simulator(&simulator);
    parts.ingest = ["--partitions", "1000"].map(str::to_owned).to_vec();
    let mut pipeline = Pipeline::start(&parts);
    pipeline.start_service("ingest");
    let mut story = Story { pipeline };
    for part in 0..3 {
        story.pipeline.make(200);
        story.expect_whole(&format!("part {part}"));
        story.pipeline.service("ingest").kill();
        story.pipeline.start_service("ingest");
    }
    story.pipeline.make(100);
    story.expect_whole("after the last kill");
    assert!(
        checker::read_topic(&story.pipeline.target, "wikipedia-ingest").values().any(|records| !records.is_empty())
    );
}
