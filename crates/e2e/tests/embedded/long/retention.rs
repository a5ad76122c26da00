//! The stream forgot what was made while ingest was away: a gap that is exactly what is missing, and how it is closed.

use std::collections::BTreeSet;
use std::time::Duration;

use e2e::pipeline::{Parts, Pipeline};
use e2e::{checker, http, wait_until};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(90);
const HELD_FIRST: i64 = 600;
const HELD_LATER: i64 = 1800;

struct Story {
    pipeline: Pipeline,
}

impl Story {
    /// Ingest was away for an hour, and the stream holds ten minutes.
    fn begin(seed: &str) -> Self {
        let simulator = ["--rate", "200", "--seed", seed, "--density", "20", "--canary-seconds", "100", "--frozen"];
        let mut parts = Parts::with_simulator(&simulator);
        // The simulator's clock begins 30 days back.
        parts.ingest = ["--stream-retention-hours", "2000"].map(str::to_owned).to_vec();
        let mut pipeline = Pipeline::start(&parts);
        for service in ["ingest", "enricher", "sink-1", "console"] {
            pipeline.start_service(service);
        }
        let mut story = Self { pipeline };
        story.pipeline.make(700);
        story.wait_for_raw("the first edits are published", |missing| missing == 0);
        story.pipeline.service("ingest").kill();
        story.pipeline.make(3600);
        story.hold(HELD_FIRST);
        story.pipeline.start_service("ingest");
        story
    }

    fn hold(&self, seconds: i64) {
        let faults = format!("{{\"frozen\":true,\"held_seconds\":{seconds}}}");
        assert_eq!(http::request(self.pipeline.simulator, "PUT", "/faults", &faults).unwrap().0, 200);
    }

    fn made(&self) -> Vec<Value> {
        let made = http::get(self.pipeline.simulator, "/made").unwrap();
        made.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Edits that were made and are not in the raw topic.
    fn missing(&self) -> BTreeSet<String> {
        let mut ids = BTreeSet::new();
        checker::for_each_record(&self.pipeline.target, "wikipedia-raw", |record| {
            assert!(ids.insert(checker::header(record, "ce_id")), "published twice");
        });
        checker::made(self.pipeline.simulator, "edit").difference(&ids).cloned().collect()
    }

    fn wait_for_raw(&self, what: &str, is_there: impl Fn(usize) -> bool) {
        wait_until(what, LIMIT, || is_there(self.missing().len()));
    }

    fn open_gaps(&self) -> Vec<Value> {
        let mut gaps = checker::gaps(&self.pipeline.target);
        gaps.retain(|gap| gap["status"] == "open");
        gaps
    }

    /// Edits that lie in the open gaps, by the offsets of their sides.
    fn held(&self) -> BTreeSet<String> {
        let gaps = self.open_gaps();
        let is_held = |event: &Value| {
            gaps.iter().any(|gap| {
                let side = |name: &str| gap[name]["offset"].as_i64().unwrap();
                let offset = event["offset"].as_i64().unwrap();
                gap["source_topics"][0] == event["topic"] && side("after") < offset && offset < side("before")
            })
        };
        let edits = self.made().into_iter().filter(|event| event["kind"] == "edit" && is_held(event));
        edits.map(|event| event["id"].as_str().unwrap().to_owned()).collect()
    }

    /// What the page says of the gap ledger, empty where it says nothing.
    fn page_says(&self) -> Option<String> {
        let text = http::get(self.pipeline.address("console")?, "/api/state")?;
        let state: Value = serde_json::from_str(&text).ok()?;
        let alerts = state["around"]["alerts"].as_array()?;
        let of_gaps = alerts.iter().find(|alert| alert["what"] == "gaps");
        Some(of_gaps.map_or_else(String::new, |alert| alert["text"].as_str().unwrap_or_default().to_owned()))
    }

    fn expect_gaps_to_be_what_is_missing(&self) {
        assert_eq!(self.held(), self.missing());
        for gap in self.open_gaps() {
            assert!(gap["from_ms"].as_i64() < gap["to_ms"].as_i64(), "{gap}");
        }
    }

    /// `--from` and `--to` of all that was made.
    fn stretch(&self) -> [String; 2] {
        let made = self.made();
        let time = |event: &Value| {
            let ms = event["log_time_ms"].as_i64().unwrap();
            jiff::Timestamp::from_millisecond(ms).unwrap().to_string()
        };
        [time(made.first().unwrap()), time(made.last().unwrap())]
    }
}

#[test]
fn a_gap_by_retention_is_what_is_missing_and_is_closed_by_a_backfill_and_by_acceptance() {
    let story = Story::begin("31");
    // The idle data centre lost its canaries.
    wait_until("a gap of each source is declared", LIMIT, || story.open_gaps().len() == 2);
    let last_ten_minutes = |missing| missing < 3600 * 20 - 500 * 20;
    story.wait_for_raw("what the stream holds is published", last_ten_minutes);
    wait_until("every source is proven", LIMIT, || story.missing() == story.held());
    story.expect_gaps_to_be_what_is_missing();
    let before = story.missing().len();
    wait_until("the page shows both gaps", LIMIT, || {
        story.page_says().is_some_and(|text| text.contains("2 open gaps"))
    });

    story.hold(HELD_LATER);
    let [from, to] = story.stretch();
    let (code, said) = story.pipeline.wiki(&["backfill", "--from", &from, "--to", &to]);
    assert!(code == 0 && said.contains("events were missing and are published"), "{said}");
    story.expect_gaps_to_be_what_is_missing();
    let after = story.missing().len();
    // Twenty of fifty minutes.
    assert!(after * 10 < before * 7 && after * 10 > before * 5, "{before} missing before, {after} after");
    assert_eq!(story.pipeline.audit().0, 1, "an open gap fails the audit");

    for gap in story.open_gaps() {
        assert_eq!(story.pipeline.wiki(&["gaps", "accept", gap["id"].as_str().unwrap(), "--yes"]).0, 0);
    }
    let open = || story.pipeline.metric("ingest", "wiki_ingest_gaps_open");
    wait_until("the alert's metric follows", LIMIT, || open() == Some(0.0));
    wait_until("the page follows", LIMIT, || story.page_says().is_some_and(|text| text.is_empty()));
    let rows = checker::made(story.pipeline.simulator, "edit").len() - after;
    wait_until("the table follows", LIMIT, || checker::rows(&story.pipeline.table()) >= rows);
    let (code, said) = story.pipeline.audit();
    assert!(code == 0 && said.contains(&format!("{after}  (missing in gaps whose loss was accepted)")), "{said}");
}

#[test]
fn a_backfill_goes_on_after_a_kill_and_publishes_each_edit_once() {
    let mut story = Story::begin("32");
    // The idle data centre lost its canaries.
    wait_until("a gap of each source is declared", LIMIT, || story.open_gaps().len() == 2);
    story.wait_for_raw("what the stream holds is published", |missing| missing < 3600 * 20 - 500 * 20);
    let before = story.missing().len();
    story.hold(1_000_000);
    let [from, to] = story.stretch();
    assert_eq!(story.pipeline.wiki(&["backfill", "--from", &from, "--to", &to, "--no-wait"]).0, 0);
    for part in 1..4 {
        story.wait_for_raw("the backfill gets on", |missing| missing < before - part * before / 6);
        story.pipeline.kill_and_restart("ingest");
    }
    story.wait_for_raw("nothing is missing", |missing| missing == 0);
    wait_until("the gaps are closed", LIMIT, || story.open_gaps().is_empty());
    let rows = checker::made(story.pipeline.simulator, "edit").len();
    story.pipeline.expect_exact(rows, LIMIT);
}

#[test]
fn a_stretch_beyond_the_streams_retention_is_refused_with_a_sentence() {
    let story = Story::begin("33");
    let (code, said) =
        story.pipeline.wiki(&["backfill", "--from", "2015-01-01T00:00:00Z", "--to", "2015-01-02T00:00:00Z"]);
    assert!(code != 0 && said.contains("the stream holds no event that is older than 2000 hours"), "{said}");
    let (code, said) =
        story.pipeline.wiki(&["backfill", "--from", "2026-01-02T00:00:00Z", "--to", "2026-01-01T00:00:00Z"]);
    assert!(code == 2 && said.contains("a stretch ends after it begins"), "{said}");
}
