//! Where a running demo is, for `wiki audit` in the same folder.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use service::Failure;

/// Beside the table, while the demo runs.
const FILE: &str = "demo.json";
/// Where `wiki demo` puts its data unless it is given another folder.
const FOLDER: &str = "data";
const SERVERS: &str = "--kafka-bootstrap-servers";

/// What a demo notes of itself.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    process: u32,
    servers: String,
    table: PathBuf,
}

/// The note of a demo that runs; gone when the demo ends.
#[derive(Debug)]
pub(super) struct Running(PathBuf);

impl Running {
    /// Notes where the brokers and the table are.
    pub(super) fn note(table: &Path, servers: &str) -> Result<Self, Failure> {
        let note = Note { process: std::process::id(), servers: servers.to_owned(), table: table.to_owned() };
        let file = table.with_file_name(FILE);
        let text = serde_json::to_string(&note).map_err(|error| Failure::Runtime(error.to_string()))?;
        std::fs::write(&file, text)
            .map_err(|error| Failure::Config(format!("{} cannot be written: {error}", file.display())))?;
        Ok(Self(file))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // What stays behind names a process that is gone.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The command line of `wiki audit`, with the running demo of this folder where no servers are named.
pub(crate) fn completed(line: Vec<OsString>, are_servers_set: bool) -> Vec<OsString> {
    completed_in(Path::new(FOLDER), line, are_servers_set)
}

fn completed_in(folder: &Path, mut line: Vec<OsString>, are_servers_set: bool) -> Vec<OsString> {
    let is_audit = line.get(1).is_some_and(|word| word == "audit");
    let others = [SERVERS, "--writer", "--sqlite-file", "--database", "--help", "-h"];
    let asks = |word: &OsString| others.iter().any(|other| word.to_string_lossy().starts_with(other));
    if !is_audit || are_servers_set || line.iter().any(asks) {
        return line;
    }
    if let Some(Note { process, servers, table }) = found(folder) {
        eprintln!(
            "the demo of process {process}: {SERVERS} {servers} --writer sqlite --sqlite-file {}",
            table.display()
        );
        let more = [SERVERS.into(), servers.into(), "--writer".into(), "sqlite".into(), "--sqlite-file".into()];
        line.extend(more);
        line.push(table.into_os_string());
    }
    line
}

fn found(folder: &Path) -> Option<Note> {
    let note: Note = serde_json::from_slice(&std::fs::read(folder.join(FILE)).ok()?).ok()?;
    Path::new("/proc").join(note.process.to_string()).exists().then_some(note)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn an_audit_without_servers_is_that_of_the_running_demo_and_any_other_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let table = folder.path().join("edits.db");
        let completed = |words: &[&str], are_set| completed_in(folder.path(), line(words), are_set);
        assert_eq!(completed(&["wiki", "audit"], false), line(&["wiki", "audit"]), "no demo runs");
        let running = Running::note(&table, "127.0.0.1:9").unwrap();
        let name = table.display().to_string();
        let demo = [SERVERS, "127.0.0.1:9", "--writer", "sqlite", "--sqlite-file", &name];
        assert_eq!(
            completed(&["wiki", "audit", "--json"], false),
            line(&[&["wiki", "audit", "--json"], &demo[..]].concat())
        );
        for words in [&["wiki", "audit", SERVERS, "x"][..], &["wiki", "tail"], &["wiki", "audit", "--help"]] {
            assert_eq!(completed(words, false), line(words));
        }
        assert_eq!(completed(&["wiki", "audit"], true), line(&["wiki", "audit"]));
        drop(running);
        assert_eq!(found(folder.path()), None);
    }

    #[test]
    fn the_note_of_a_demo_that_is_gone_counts_for_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let note = Note { process: u32::MAX, servers: "x".into(), table: "y".into() };
        std::fs::write(folder.path().join(FILE), serde_json::to_vec(&note).unwrap()).unwrap();
        assert_eq!(found(folder.path()), None);
    }
}
