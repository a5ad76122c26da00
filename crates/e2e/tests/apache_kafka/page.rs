//! The page on Apache Kafka itself: brokers that go away, and the three protocols side by side.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use e2e::browser::{Browser, Look};
use e2e::demo::{Demo, expect_exact};
use e2e::kafka::{Cluster, NODES};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);
/// Each protocol: all sinks end and start, one joins, one leaves, each until all is at rest.
const COMPARED: Duration = Duration::from_secs(180);

fn demo(cluster: &Cluster, sinks: &str) -> Demo {
    let copies = NODES.to_string();
    Demo::start(&[
        "--source",
        "generated",
        "--sinks",
        sinks,
        "--kafka-bootstrap-servers",
        &cluster.bootstrap,
        "--replication-factor",
        &copies,
    ])
}

#[test]
fn while_every_broker_is_down_the_page_says_how_old_it_is_and_recovers() {
    let mut cluster = Cluster::to_break();
    let demo = demo(&cluster, "2");
    let mut browser = Browser::start();
    let window = browser.window(Look::default());
    let page = browser.tab(&window, &demo.page);
    expect_exact(&mut browser, &page, &demo, 2);
    cluster.kill(0);
    let away = "document.getElementById('alerts').textContent.includes('1 of 3 brokers away')";
    browser.wait(&page, "a broker is away", LIMIT, away);
    (1..NODES).for_each(|node| cluster.kill(node));
    browser.wait(
        &page,
        "amber, with the age",
        LIMIT,
        "document.getElementById('sources').classList.contains('is-old')",
    );
    let stale = "!document.getElementById('banner').hidden && document.body.classList.contains('is-stale')";
    browser.wait(&page, "the banner", LIMIT, stale);
    let said = browser.evaluate(&page, "document.getElementById('banner').textContent");
    println!("{said}");
    assert!(said.as_str().unwrap().contains("Last known state"), "{said}");
    // Whatever was known last, a sink that fell silent before the other included, stays as it was.
    let shown = "[...document.querySelectorAll('.card, .tile')].map((one) => `${one.className} ${one.textContent}`)";
    let known = browser.evaluate(&page, shown);
    assert_eq!(browser.evaluate(&page, "document.querySelectorAll('.tile').length"), json!(6), "{known}");
    let aged = format!("document.getElementById('banner').textContent !== {said}");
    browser.wait(&page, "older", LIMIT, &aged);
    assert_eq!(browser.evaluate(&page, shown), known, "the last known state stays");
    cluster.start_dead_nodes();
    browser.wait(&page, "live again", LIMIT, "document.getElementById('banner').hidden");
    expect_exact(&mut browser, &page, &demo, 2);
    browser.wait(&page, "nothing is wrong", LIMIT, "document.getElementById('alerts').childElementCount === 0");
    // From a thousand on there is a space in the number.
    let stored = r"Number(document.getElementById('edits-text').textContent.split(' stored')[0].replace(/\D/g, ''))";
    let before = browser.evaluate(&page, stored).as_i64().unwrap_or(0);
    browser.wait(&page, "edits go on", LIMIT, &format!("{stored} > {}", before + 20));
    drop(browser);
    demo.end();
}

#[test]
fn the_three_protocols_are_compared_on_one_load_with_their_pauses() {
    let cluster = Cluster::shared();
    let demo = demo(&cluster, "2");
    let mut browser = Browser::start();
    let window = browser.window(Look { size: (1280, 1500), ..Look::default() });
    let page = browser.tab(&window, &demo.page);
    expect_exact(&mut browser, &page, &demo, 2);
    // More rounds give the figures of docs/rebalancing.md.
    let rounds: usize = std::env::var("WIKI_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(1);
    let rows = "[...document.querySelectorAll('#compare tbody tr')].map((row) => [...row.children].map((cell) => cell.textContent))";
    for round in 1..=rounds {
        browser.click(&page, "#compare-all");
        let is_whole = format!(
            "[...document.querySelectorAll('#compare tbody tr')].filter((row) => Number(row.children[1].textContent) >= {}).length === 3 \
             && !document.getElementById('compare-all').disabled",
            round * 2
        );
        browser.wait(&page, "all three are compared", COMPARED, &is_whole);
    }
    print_figures(&demo, rounds);
    let told = browser.evaluate(&page, rows);
    let log = rebalances(&demo);
    println!("{log}");
    for row in told.as_array().unwrap() {
        println!("{}", row.as_array().unwrap().iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" | "));
    }
    let stopped = |protocol: &str| {
        let row = told.as_array().unwrap().iter().find(|row| row[0] == protocol).unwrap();
        row[3].as_str().unwrap().parse::<u32>().unwrap()
    };
    // Eager stops everything; the others stop only what moves.
    assert_eq!(stopped("eager"), 6, "{told}\n{log}");
    assert!(stopped("cooperative") < 6 && stopped("consumer") < 6, "{told}\n{log}");
    if let Some(folder) = std::env::var_os("WIKI_PICTURES") {
        browser.picture(&page, &Path::new(&folder).join("protocols.png"), Some("#compare"));
        browser.picture(&page, &Path::new(&folder).join("protocols-timeline.png"), Some(".timeline-box"));
    }
    assert_eq!(browser.trouble(), Vec::<String>::new());
    drop(browser);
    demo.end();
}

/// Longest pause in milliseconds, partitions stopped, milliseconds in all.
type Figures = (i64, usize, i64);

fn rebalances(demo: &Demo) -> String {
    let address = demo.page.trim_start_matches("http://").trim_end_matches('/').parse();
    address.ok().and_then(|address| e2e::http::get(address, "/api/rebalances")).unwrap_or_default()
}

/// Median, least and most of each protocol and cause, from the log, which must hold one of each a round.
fn print_figures(demo: &Demo, rounds: usize) {
    let log = rebalances(demo);
    let mut figures: BTreeMap<(String, String), Vec<Figures>> = BTreeMap::new();
    for line in log.lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        let causes = entry["causes"].as_array().unwrap();
        // A switch of the protocol is no rebalance of one sink.
        if let [cause] = causes.as_slice() {
            let what = (entry["protocol"].as_str().unwrap().to_owned(), cause["what"].as_str().unwrap().to_owned());
            let longest = entry["longest"]["milliseconds"].as_i64().unwrap_or(0);
            let stopped = entry["pauses"].as_array().unwrap().len();
            figures.entry(what).or_default().push((longest, stopped, entry["duration_ms"].as_i64().unwrap()));
        }
    }
    for protocol in ["cooperative", "eager", "consumer"] {
        for cause in ["joined", "left"] {
            let found = figures.get(&(protocol.to_owned(), cause.to_owned())).map_or(0, Vec::len);
            assert_eq!(found, rounds, "{protocol}, a sink {cause}:\n{log}");
        }
    }
    for ((protocol, cause), found) in figures {
        let of = |value: fn(&Figures) -> i64| {
            let mut values: Vec<i64> = found.iter().map(value).collect();
            values.sort_unstable();
            format!("{} ({}..{})", values[values.len() / 2], values[0], values[values.len() - 1])
        };
        let (pause, all) = (of(|figure| figure.0), of(|figure| figure.2));
        let stopped = of(|figure| i64::try_from(figure.1).unwrap());
        println!(
            "{protocol}, a sink {cause}, {} times: longest pause {pause} ms, {stopped} stopped, {all} ms in all",
            found.len()
        );
    }
}
