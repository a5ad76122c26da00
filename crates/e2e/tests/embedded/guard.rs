//! The shape of the workspace: arrows between crates, sizes of files, where `unsafe` stands.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What each crate may know of the workspace and of the packages that make it what it is.
const ARROWS: [(&str, &[&str]); 12] = [
    ("schema", &[]),
    ("service", &["axum", "prometheus", "tokio"]),
    ("kafka", &["schema", "service", "rdkafka", "prometheus", "tokio"]),
    ("ingest", &["schema", "service", "kafka", "prometheus", "tokio", "reqwest"]),
    ("enricher", &["schema", "service", "kafka", "prometheus"]),
    ("sink", &["schema", "service", "kafka", "prometheus", "tokio", "rusqlite", "postgres"]),
    ("console", &["schema", "service", "kafka", "axum", "prometheus", "tokio"]),
    ("simulator", &["schema", "service", "axum", "tokio"]),
    ("broker", &[]),
    ("borders", &["schema", "service", "ingest", "enricher", "sink", "simulator", "broker"]),
    (
        "wiki",
        &[
            "schema",
            "service",
            "kafka",
            "ingest",
            "enricher",
            "console",
            "sink",
            "simulator",
            "broker",
            "rdkafka",
            "tokio",
            "reqwest",
            "rusqlite",
            "postgres",
        ],
    ),
    ("e2e", &["rdkafka", "rusqlite", "tokio"]),
];

/// Packages that are arrows too: whoever uses them does IO.
const WATCHED: [&str; 7] = ["axum", "prometheus", "tokio", "rdkafka", "reqwest", "rusqlite", "postgres"];
const MAX_LINES: usize = 500;

pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

#[test]
fn crates_know_only_what_the_architecture_allows() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(workspace())
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let ours: BTreeSet<&str> = packages.iter().map(|package| package["name"].as_str().unwrap()).collect();
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        ARROWS.iter().map(|(name, arrows)| (*name, arrows.iter().copied().collect())).collect();
    assert_eq!(ours, allowed.keys().copied().collect(), "a crate is missing in this table, or too many are in it");
    for package in packages {
        let name = package["name"].as_str().unwrap();
        for dependency in package["dependencies"].as_array().unwrap() {
            let to = dependency["name"].as_str().unwrap();
            let counts = dependency["kind"].is_null() && (ours.contains(to) || WATCHED.contains(&to));
            assert!(!counts || allowed[name].contains(to), "{name} must not know {to}");
        }
    }
}

pub(crate) fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn no_file_is_longer_than_a_reader_can_hold() {
    let mut files = Vec::new();
    sources(&workspace().join("crates"), &mut files);
    assert!(files.len() > 50);
    for file in files {
        let lines = std::fs::read_to_string(&file).unwrap().lines().count();
        assert!(lines <= MAX_LINES, "{}: {lines} lines", file.display());
    }
}

#[test]
fn unsafe_stands_in_one_module_only() {
    let mut files = Vec::new();
    sources(&workspace().join("crates"), &mut files);
    let keyword = ["uns", "afe {"].concat();
    let function = ["uns", "afe fn"].concat();
    let with: Vec<PathBuf> = files
        .into_iter()
        .filter(|file| {
            let text = std::fs::read_to_string(file).unwrap();
            text.contains(&keyword) || text.contains(&function)
        })
        .collect();
    let module = workspace().join("crates/kafka/src/ffi");
    assert!(!with.is_empty() && with.iter().all(|file| file.starts_with(&module)), "{with:?}");
}

#[test]
fn no_service_flushes_commits_or_aborts_by_the_bindings_own_calls() {
    // The first two wait in slices of 100 ms (docs/adr/0006), the third may strike the next transaction
    // (docs/correctness.md).
    let calls = [".flush(", ".commit_transaction(", ".abort_transaction("];
    for name in ["kafka", "ingest", "enricher", "sink"] {
        let mut files = Vec::new();
        sources(&workspace().join("crates").join(name).join("src"), &mut files);
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            // The sink's own methods and writers of bytes are no producers.
            let producers = text.contains("BaseProducer") || text.contains("FencedWriter");
            let found = calls.iter().find(|call| producers && text.contains(**call));
            assert_eq!(found, None, "{}", file.display());
        }
    }
}
