//! Dashboards, alerts and pages: they name what exists, and each alert is tested.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            found.extend(files(&entry, ending));
        } else if entry.to_string_lossy().ends_with(ending) {
            found.push(entry);
        }
    }
    found.sort();
    found
}

/// Words that look like names of metrics.
fn named(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    // Roles and groups are two words; a metric of ours has three at least, or is one of these.
    let is_metric = |word: &&str| {
        word.starts_with("process_")
            || (word.starts_with("wiki_") && (word.matches('_').count() > 1 || *word == "wiki_ready"))
    };
    words.filter(is_metric).filter(|word| !word.ends_with('_')).collect()
}

fn exposed() -> BTreeSet<String> {
    let page = read(&root().join("docs/metrics.md"));
    let mut names = BTreeSet::new();
    for line in page.lines().filter_map(|line| line.strip_prefix("| `")) {
        let (name, rest) = line.split_once('`').unwrap();
        names.insert(name.to_owned());
        if rest.starts_with(" | histogram") {
            names.extend(["bucket", "sum", "count"].map(|part| format!("{name}_{part}")));
        }
    }
    names
}

#[test]
fn dashboards_alerts_and_pages_name_only_metrics_that_exist() {
    let exposed = exposed();
    assert!(exposed.len() > 100, "the page of metrics is read");
    let root = root();
    let mut texts = files(&root.join("deploy/grafana/dashboards"), ".json");
    texts.extend(files(&root.join("deploy/prometheus"), ".yml"));
    texts.extend(files(&root.join("docs"), ".md"));
    texts.extend([root.join("README.md"), root.join("ARCHITECTURE.md")]);
    for file in texts {
        for name in named(&read(&file)) {
            assert!(exposed.contains(name), "{}: no service exposes {name}", file.display());
        }
    }
}

#[test]
fn the_pages_figures_link_to_panels_that_exist() {
    let board: Value = serde_json::from_str(&read(&root().join("deploy/grafana/dashboards/wiki-stream.json"))).unwrap();
    assert_eq!(board["uid"], "wiki-stream");
    let panels: BTreeSet<i64> =
        board["panels"].as_array().unwrap().iter().filter_map(|panel| panel["id"].as_i64()).collect();
    let script = read(&root().join("crates/console/page/pipeline.js"));
    let line = script.lines().find(|line| line.starts_with("const PANELS")).unwrap();
    let named: Vec<i64> = line
        .split(": ")
        .skip(1)
        .map(|rest| rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap())
        .collect();
    assert_eq!(named.len(), 4, "{line}");
    assert!(named.iter().all(|id| panels.contains(id)), "{named:?} of {panels:?}");
}

#[test]
fn every_panel_has_a_unit_a_description_and_the_fixed_data_source() {
    let mut uids = BTreeSet::new();
    for file in files(&root().join("deploy/grafana/dashboards"), ".json") {
        let board: Value = serde_json::from_str(&read(&file)).unwrap();
        assert!(uids.insert(board["uid"].as_str().unwrap().to_owned()), "{}: its uid is taken", file.display());
        assert!(
            board["id"].is_null() && board.get("__inputs").is_none(),
            "{}: as provisioning wants it",
            file.display()
        );
        let panels = board["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row");
        for panel in panels {
            let title = &panel["title"];
            assert!(panel["description"].as_str().is_some_and(|text| text.ends_with('.')), "{title}: a description");
            assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title}: a unit");
            assert_eq!(panel["datasource"]["uid"], "prometheus", "{title}");
            assert!(!panel["targets"].as_array().unwrap().is_empty(), "{title}: a query");
        }
    }
    assert_eq!(uids.len(), 2);
}

#[test]
fn every_alert_has_a_runbook_and_a_test_that_fires_and_one_that_does_not() {
    let root = root();
    let alerts = read(&root.join("deploy/prometheus/alerts.yml"));
    let tests = read(&root.join("deploy/prometheus/tests/alerts_test.yml"));
    let index = read(&root.join("docs/runbooks/README.md"));
    let names: Vec<&str> = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(names.len() > 15, "{names:?}");
    for name in &names {
        assert!(alerts.contains(&format!("runbook_url: docs/runbooks/{name}.md")), "{name}: its runbook");
        let page = read(&root.join(format!("docs/runbooks/{name}.md")));
        for part in ["## Meaning", "## Impact", "## Look at", "## Do", "## Prevent"] {
            assert!(page.contains(part), "{name}: {part}");
        }
        assert!(index.contains(&format!("[{name}]({name}.md)")), "{name} is not in the index");
        for kind in ["fires", "quiet"] {
            assert!(tests.contains(&format!("- name: {name} {kind}\n")), "{name}: no test where it is {kind}");
        }
    }
    assert_eq!(files(&root.join("docs/runbooks"), ".md").len(), names.len() + 1, "a page without an alert");
}

#[test]
fn the_rules_pass_their_unit_tests() {
    let folder = root().join("deploy/prometheus");
    for arguments in [["check", "config", "prometheus.yml"], ["test", "rules", "tests/alerts_test.yml"]] {
        let output = Command::new(promtool()).args(arguments).current_dir(&folder).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&said));
    }
}

/// On the path, or where `deploy/setup.sh tests` puts it.
fn promtool() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache"))).unwrap_or_default();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).chain([cache.join("wikipedia-events")]);
    places.find(|folder| folder.join("promtool").is_file()).map_or_else(
        || panic!("the tests of the alerts need `promtool`: run `make test`, or install it (Debian: prometheus)"),
        |folder| folder.join("promtool"),
    )
}

#[test]
fn compose_leaves_services_free_to_scale() {
    let compose = read(&root().join("docker-compose.yml"));
    assert!(!compose.contains("container_name"), "a name of its own keeps a service from scaling");
    for service in ["ingest", "enricher", "sink"] {
        let from = compose.find(&format!("\n  {service}:\n")).unwrap();
        let section = &compose[from + 3..];
        let end = section.find("\n\n").unwrap();
        assert!(!section[..end].contains("ports:"), "{service}: a fixed port keeps it from scaling");
    }
}
