//! 2,000 events that cannot be stored among good ones: each ends as a dead letter with its reason, the good ones are
//! all stored, memory stays where it was, and no reconnect meets the same one for ever.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use e2e::pipeline::{Parts, Pipeline};
use e2e::{checker, wait_until};

const BAD: usize = 2_000;
const GOOD: usize = 600;
const OVERSIZED: usize = 3;
const LIMIT: Duration = Duration::from_secs(120);
const GROWTH_LIMIT: u64 = 64 << 20;
const SERVICES: [&str; 3] = ["ingest", "enricher", "sink-1"];

fn good(number: usize) -> String {
    format!(
        "{{\"$schema\":\"/mediawiki/recentchange/1.0.0\",\"meta\":{{\"id\":\"good-{number}\",\"domain\":\"en.wikipedia.org\",\
         \"stream\":\"mediawiki.recentchange\",\"dt\":\"2026-01-02T03:04:05.678Z\"}},\"id\":{number},\"type\":\"edit\",\
         \"namespace\":0,\"title\":\"Page {number}\",\"comment\":\"c\",\"user\":\"u\",\"bot\":false,\"minor\":false,\
         \"length\":{{\"old\":1,\"new\":2}},\"revision\":{{\"old\":1,\"new\":2}},\"wiki\":\"enwiki\"}}"
    )
}

/// Good ones that are hard: almost as long as an event may be, and almost as long a title as it may have.
fn large(number: usize) -> Option<String> {
    match number {
        7 => Some(good(7).replace("\"c\"", &format!("\"{}\"", "x".repeat(1_040_000)))),
        9 => {
            let title = format!("\"title\":\"{}:x\"", "y".repeat(2_000));
            Some(good(9).replace("\"namespace\":0", "\"namespace\":104").replace("\"title\":\"Page 9\"", &title))
        }
        _ => None,
    }
}

/// What the mutation of a good event must be set aside for.
fn bad(number: usize) -> (Vec<u8>, &'static str) {
    let event = good(number).replace("good-", "bad-");
    let swap = |from: &str, to: &str| {
        let swapped = event.replace(from, to);
        assert_ne!(swapped, event, "{from} is not in the event");
        swapped.into_bytes()
    };
    match number % 17 {
        0 => {
            let mut bytes = swap("\"u\"", "\"ü#\"");
            let at = bytes.iter().position(|byte| *byte == b'#').unwrap();
            bytes.remove(at - 1);
            (bytes, "invalid_utf8")
        }
        1 => (swap("\"Page", "\"\\ud800Page"), "invalid_json"),
        2 => (event.as_bytes()[..event.len() - 1 - number % 40].to_vec(), "invalid_json"),
        3 => (swap("\"Page", "\"\\u0000Page"), "nul_in_text"),
        4 => (swap("\"comment\":\"c\"", "\"comment\":\"a\\u0000b\""), "nul_in_text"),
        5 => (swap("\"namespace\":0", "\"namespace\":\"0\""), "wrong_shape"),
        6 => (swap("\"bot\":false", "\"bot\":\"no\""), "wrong_shape"),
        7 => (swap("\"user\":\"u\"", "\"user\":5"), "wrong_shape"),
        8 => (swap("{\"old\":1,\"new\":2},\"rev", "{\"old\":\"1\",\"new\":2},\"rev"), "wrong_shape"),
        9 => (swap("\"wiki\":\"enwiki\"", "\"wiki\":[]"), "wrong_shape"),
        10 => (swap("\"bot\":false", "\"bot\":false,\"bot\":true"), "wrong_shape"),
        11 => (swap("\"user\":\"u\"", "\"user\":\"u\",\"user\":\"v\""), "wrong_shape"),
        12 => (format!("[{number}]").into_bytes(), "wrong_shape"),
        13 => (format!("\"just text {number}\"").into_bytes(), "wrong_shape"),
        14 => (format!("not json {number}").into_bytes(), "invalid_json"),
        15 => (swap("\"namespace\":0,", ""), "wrong_shape"),
        _ => {
            let deep = "[".repeat(100_000);
            (swap("\"comment\":\"c\"", &format!("\"comment\":{deep}{}", "]".repeat(100_000))), "too_deep")
        }
    }
}

/// Frames with ids as the stream writes them, 35 a second of log time; and how many of each reason.
fn recording() -> (Vec<u8>, BTreeMap<String, usize>) {
    let mut bytes = b":ok\n\n".to_vec();
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let (mut bad_made, mut good_made) = (0, 0);
    for place in 0..BAD + GOOD {
        let data = if place * GOOD / (BAD + GOOD) > good_made || bad_made == BAD {
            good_made += 1;
            large(good_made).unwrap_or_else(|| good(good_made)).into_bytes()
        } else {
            bad_made += 1;
            let (data, reason) = if bad_made % (BAD / OVERSIZED) == 0 {
                let long =
                    good(bad_made).replace("good-", "bad-").replace("\"c\"", &format!("\"{}\"", "x".repeat(10 << 20)));
                (long.into_bytes(), "oversized")
            } else {
                bad(bad_made)
            };
            *reasons.entry(reason.to_owned()).or_default() += 1;
            data
        };
        let mut head = String::new();
        let time = 1_767_323_045_000 + place as u64 * 28;
        write!(
            head,
            "event: message\nid: [{{\"topic\":\"eqiad.mediawiki.recentchange\",\"partition\":0,\"timestamp\":{time}}},\
             {{\"topic\":\"codfw.mediawiki.recentchange\",\"partition\":0,\"offset\":-1}}]\ndata: "
        )
        .unwrap();
        bytes.extend(head.into_bytes());
        bytes.extend(data);
        bytes.extend_from_slice(b"\n\n");
    }
    assert_eq!((bad_made, good_made), (BAD, GOOD));
    (bytes, reasons)
}

fn dead_letters(pipeline: &Pipeline) -> BTreeMap<String, usize> {
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for topic in ["dlq.wikipedia-raw", "dlq.wikipedia-events"] {
        for record in checker::read_topic(&pipeline.target, topic).into_values().flatten() {
            let reason = checker::header(&record, "__connect.errors.exception.class.name");
            let origin = checker::header(&record, "__connect.errors.connector.name");
            assert!(["ingest", "enricher", "sink"].contains(&origin.as_str()), "{origin}");
            assert!(!checker::header(&record, "__connect.errors.exception.message").is_empty());
            *reasons.entry(reason).or_default() += 1;
        }
    }
    reasons
}

#[test]
fn two_thousand_bad_events_cost_exactly_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let (bytes, expected) = recording();
    let path = folder.path().join("bad.sse");
    std::fs::write(&path, bytes).unwrap();
    // Cut again and again: the oversized ones lie inside what each resume reads once more.
    let mut pipeline = Pipeline::start(&Parts::with_simulator(&[
        "--events",
        path.to_str().unwrap(),
        "--rate",
        "max",
        "--cut-after",
        "1300",
    ]));
    for service in SERVICES {
        pipeline.start_service(service);
    }
    let table = pipeline.table();
    wait_until("the first rows", LIMIT, || {
        pipeline.expect_all_alive();
        checker::rows(&table) > 0
    });
    let before: Vec<u64> = SERVICES.iter().map(|name| pipeline.service(name).resident_bytes()).collect();
    let mut most = before.clone();
    let total = |reasons: &BTreeMap<String, usize>| reasons.values().sum::<usize>();
    let mut looks = 0;
    let mut reasons = BTreeMap::new();
    wait_until("every good event is stored and every bad one set aside", LIMIT, || {
        pipeline.expect_all_alive();
        for (most, name) in most.iter_mut().zip(SERVICES) {
            *most = (*most).max(pipeline.service(name).resident_bytes());
        }
        looks += 1;
        if checker::rows(&table) == GOOD && looks % 20 == 0 {
            reasons = dead_letters(&pipeline);
        }
        total(&reasons) >= BAD
    });
    println!("dead letters by reason: {reasons:?}");
    assert_eq!(reasons, expected);
    assert_eq!(checker::rows(&table), GOOD);
    for ((name, before), most) in SERVICES.iter().zip(before).zip(most) {
        println!("{name}: {} MiB, at most {} MiB", before >> 20, most >> 20);
        assert!(most.saturating_sub(before) < GROWTH_LIMIT, "{name} grew from {before} to {most} bytes");
    }
}
