//! `wiki demo` as a story runs it, and its page compared with the broker.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::browser::{Browser, Page};
use crate::process::{Process, Program};
use crate::{groups, wait_until};

const LIMIT: Duration = Duration::from_secs(40);

/// A running demo.
#[derive(Debug)]
pub struct Demo {
    folder: TempDir,
    process: Process,
    /// The page's address.
    pub page: String,
    broker: String,
    prefix: String,
}

impl Demo {
    /// Starts it, and waits for its banner.
    ///
    /// # Panics
    /// Where it does not start; so below, where it does not do as it should.
    #[must_use]
    pub fn start(options: &[&str]) -> Self {
        Self::start_at("127.0.0.1:0", options)
    }

    /// The same, with its page at an address.
    #[must_use]
    pub fn start_at(http: &str, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data").display().to_string();
        let process = Program::new("wiki")
            .with(["demo", "--http", http, "--data", &data])
            .with(options.iter().copied())
            .leading_a_group()
            .start("demo", folder.path());
        let said = |name: &str| {
            let output = process.output();
            let line = output.lines().find(|line| line.starts_with(name))?.to_owned();
            line.split_whitespace().nth(1).map(|word| word.trim_end_matches(':').to_owned())
        };
        let mut found = None;
        wait_until("the demo says where its page is", LIMIT, || {
            found = said("page").zip(said("broker"));
            found.is_some()
        });
        let (page, broker) = found.unwrap();
        let output = process.output();
        let prefix = output.split_once("topics and groups begin with ").and_then(|(_, rest)| rest.split(',').next());
        Self { folder, page, broker, prefix: prefix.unwrap_or_default().to_owned(), process }
    }

    /// The sinks and what they own, as the broker describes them.
    #[must_use]
    pub fn owners(&self) -> Option<BTreeMap<String, Vec<i32>>> {
        groups::owners(&self.broker, &format!("{}wiki-sink", self.prefix), &format!("{}wikipedia-events", self.prefix))
    }

    /// What is on its screen, and what it says beside it.
    #[must_use]
    pub fn output(&self) -> String {
        self.process.output() + &self.process.errors()
    }

    /// Ends it as Ctrl-C does, and reads its audit.
    pub fn end(mut self) {
        self.process.signal_group("INT");
        wait_until("the demo ends", LIMIT, || self.process.ended().is_some());
        let output = self.process.output();
        assert_eq!(output.lines().last(), Some("missing 0, double 0, extra 0, gaps 0"), "{output}");
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.folder.disable_cleanup(true);
            let output = self.process.output();
            let last: Vec<&str> = output.lines().rev().take(40).collect();
            let state = self.process.ended().map_or_else(|| "runs".to_owned(), |status| format!("has ended: {status}"));
            println!("the demo {state}; what it said stands in {}; its end:", self.folder.path().display());
            last.iter().rev().for_each(|line| println!("{line}"));
        }
    }
}

/// Sinks in the group and what they own, as the board shows them.
const SHOWN: &str = r#"Object.fromEntries([...document.querySelectorAll(".card[data-replica]")]
    .filter((card) => !["left", "lost", "silent", "joining"].includes(card.dataset.state))
    .map((card) => [card.dataset.replica, [...card.querySelectorAll(".tile.owned")].map((tile) => Number(tile.dataset.partition))]))"#;

fn shown(browser: &mut Browser, page: &Page) -> BTreeMap<String, Vec<i32>> {
    let shown: BTreeMap<String, Vec<i32>> = serde_json::from_value(browser.evaluate(page, SHOWN)).unwrap();
    shown
        .into_iter()
        .map(|(name, mut owned)| {
            owned.sort_unstable();
            (name, owned)
        })
        .collect()
}

/// Waits until the page shows just what the broker describes, with this many sinks.
///
/// # Panics
/// With both truths, where they differ for too long.
pub fn expect_exact(browser: &mut Browser, page: &Page, demo: &Demo, sinks: usize) {
    let mut last = (BTreeMap::new(), None);
    let began = Instant::now();
    while began.elapsed() < LIMIT {
        last = (shown(browser, page), demo.owners());
        let owned = last.0.values().map(Vec::len).sum::<usize>();
        if last.0.len() == sinks && owned == 6 && Some(&last.0) == last.1.as_ref() {
            println!("{sinks} sinks after {:.1} s: {:?}", began.elapsed().as_secs_f64(), last.0);
            return;
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
    panic!("{sinks} sinks: the page shows {:?}, the broker says {:?}", last.0, last.1);
}

/// Clicks a button of a sink's card.
pub fn click_on(browser: &mut Browser, page: &Page, sink: &str, label: &str) {
    browser.click(page, &format!(".card[data-replica=\"{sink}\"] .acts button:text-is(\"{label}\")"));
}
