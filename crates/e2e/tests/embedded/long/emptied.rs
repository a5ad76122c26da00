//! Retention, or an operator, empties topics and offsets while the services are away; what comes after it is stored.

use std::collections::BTreeSet;
use std::time::Duration;

use e2e::emptied::{Emptied, SERVICES, Story, tell};
use e2e::{checker, schedule, wait_until};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn raw_emptied_after_it_was_mapped_loses_nothing() {
    tell(None, Emptied { raw: true, ..Emptied::default() }, 1);
}

#[test]
fn events_emptied_after_they_were_stored_loses_nothing() {
    tell(None, Emptied { events: true, ..Emptied::default() }, 2);
}

#[test]
fn groups_forgotten_lose_nothing() {
    tell(None, Emptied { groups: true, ..Emptied::default() }, 3);
}

#[test]
fn both_topics_emptied_loses_nothing() {
    tell(None, Emptied { raw: true, events: true, groups: false }, 4);
}

#[test]
fn raw_emptied_and_groups_forgotten_loses_nothing() {
    tell(None, Emptied { raw: true, events: false, groups: true }, 5);
}

#[test]
fn events_emptied_and_groups_forgotten_loses_nothing() {
    tell(None, Emptied { raw: false, events: true, groups: true }, 6);
}

#[test]
fn everything_emptied_and_forgotten_loses_nothing_that_comes_after() {
    for seed in 7..10 {
        tell(None, Emptied { raw: true, events: true, groups: true }, seed);
    }
}

#[test]
fn what_was_never_mapped_is_named_once_and_the_rest_is_stored() {
    let mut story = Story::begin(None, 11);
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
    let mut story = Story::begin(None, 12);
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

/// Events of which the topic lost the edits before they were stored, in six holes.
fn long_hole_events() -> u32 {
    std::env::var("WIKI_HOLE_EVENTS").ok().map_or(120_000, |text| text.parse().unwrap())
}

#[test]
fn a_long_hole_is_repaired_within_128_mib() {
    let _alone = schedule::alone();
    let mut story = Story::begin(None, 21);
    story.end(&["sink-1"]);
    let mapped = |story: &Story| story.metric("enricher", "wiki_enricher_records_total{outcome=\"enriched\"}");
    // Ten events a second, no more at once than the simulator keeps.
    let seconds = long_hole_events() / 10;
    for at in (0..seconds).step_by(10_000) {
        story.pipeline.make((seconds - at).min(10_000));
        let made = story.made().len();
        #[expect(clippy::cast_precision_loss, reason = "a number of edits fits a float well")]
        wait_until("all of it is mapped", LIMIT * 5, || mapped(&story) >= made as f64);
    }
    story.empty(Emptied { events: true, ..Emptied::default() });
    story.pipeline.make(60);
    story.start("sink-1");
    let (made, table) = (story.made().len(), story.pipeline.table());
    let mut peak = 0;
    wait_until("every hole is repaired", LIMIT * 10, || {
        story.pipeline.expect_all_alive();
        peak = story.pipeline.service("sink-1").peak_bytes().unwrap_or_default().max(peak);
        checker::rows(&table) >= made
    });
    println!("{made} edits, at most {} MiB", peak >> 20);
    story.expect_stored(&BTreeSet::new(), "nothing else");
    assert!(peak < 128 << 20, "{peak} bytes");
    assert!(story.metric("sink-1", "wiki_sink_sequence_holes_total") >= 6.0);
    let lost = story.pipeline.logs("sink-1").iter().any(|line| line["event"] == "lost");
    assert!(!lost, "the sink stayed a member of its group");
}
