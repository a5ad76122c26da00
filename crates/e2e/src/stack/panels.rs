//! Every panel of every dashboard, asked of a running stack.

use std::path::Path;

use serde_json::Value;

use super::Stack;

/// What a dashboard's variables stand for here.
const VARIABLES: [(&str, &str); 4] =
    [("$__rate_interval", "1m"), ("$interval", "1m"), ("$group", "wiki-sink"), ("$topic", "wikipedia-events")];

/// Asks every query, and gives the number of queries and those without a series.
///
/// # Panics
/// Where a dashboard cannot be read.
#[must_use]
pub fn without_series(stack: &Stack) -> (usize, Vec<String>) {
    let (mut asked, mut empty) = (0, Vec::new());
    for (panel, expression) in queries(&stack.root.join("deploy/grafana/dashboards")) {
        asked += 1;
        if stack.prometheus().query(&expression).unwrap_or_default().is_empty() {
            empty.push(format!("{panel}: {expression}"));
        }
    }
    (asked, empty)
}

/// Rules that do not evaluate.
#[must_use]
pub fn broken_rules(stack: &Stack) -> Vec<String> {
    let rules = stack.prometheus().rules();
    let broken = rules.iter().filter(|rule| rule["health"] != "ok");
    broken.map(|rule| format!("{}: {}", rule["name"], rule["lastError"])).collect()
}

fn queries(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for file in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let board: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        for panel in board["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let mut expression = target["expr"].as_str().unwrap().to_owned();
                for (name, value) in VARIABLES {
                    expression = expression.replace(name, value);
                }
                found.push((format!("{} / {}", board["title"], panel["title"]), expression));
            }
        }
    }
    found
}
