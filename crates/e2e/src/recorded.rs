//! Recordings, and what each of their events must become: computed here from the recording alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rusqlite::types::Value as Sql;
use serde_json::Value;

/// What an event of a recording must become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// A row of the table.
    Stored,
    /// Dropped: another type than those that are kept.
    Filtered,
    /// Dropped: a heartbeat of a data centre.
    Canary,
}

/// Canonical names, as the original tutorial's producer has them.
const CANONICAL: [(i64, &str); 18] = [
    (-2, "Media"),
    (-1, "Special"),
    (0, "main namespace"),
    (1, "Talk"),
    (2, "User"),
    (3, "User Talk"),
    (4, "Wikipedia"),
    (5, "Wikipedia Talk"),
    (6, "File"),
    (7, "File Talk"),
    (8, "MediaWiki"),
    (9, "MediaWiki Talk"),
    (10, "Template"),
    (11, "Template Talk"),
    (12, "Help"),
    (13, "Help Talk"),
    (14, "Category"),
    (15, "Category Talk"),
];

/// Columns of the table that an event decides, in this order.
pub const COLUMNS: [&str; 20] = [
    "event_id",
    "id",
    "domain",
    "namespace",
    "title",
    "timestamp",
    "user_name",
    "user_type",
    "old_length",
    "new_length",
    "type",
    "wiki",
    "namespace_id",
    "namespace_local",
    "user_kind",
    "revision_old",
    "revision_new",
    "minor",
    "patrolled",
    "comment",
];

/// The recordings to be replayed: those of the folder in `WIKI_RECORDED`, or where that is not set one that the
/// simulator makes.
///
/// # Panics
/// Where the folder holds none.
#[must_use]
pub fn recordings() -> Option<Vec<PathBuf>> {
    let folder = std::env::var_os("WIKI_RECORDED")?;
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("WIKI_RECORDED ({}): {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sse" || extension == "jsonl"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "WIKI_RECORDED ({}) holds no recordings", folder.display());
    Some(files)
}

/// The events of a recording, parsed by the generic parser.
///
/// # Panics
/// Where the file cannot be read or holds what is not JSON.
#[must_use]
pub fn events(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    let is_sse = path.extension().is_some_and(|extension| extension == "sse");
    let lines = text.lines().filter_map(|line| if is_sse { line.strip_prefix("data: ") } else { Some(line) });
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The fate of an event.
#[must_use]
pub fn fate(event: &Value) -> Fate {
    if event["meta"]["domain"] == "canary" {
        Fate::Canary
    } else if event["type"] == "edit" {
        Fate::Stored
    } else {
        Fate::Filtered
    }
}

/// The row that an edit must become, in the order of [`COLUMNS`].
///
/// # Panics
/// Where the event lacks what every edit has.
#[must_use]
pub fn row(event: &Value) -> Vec<Sql> {
    let text = |value: &Value| value.as_str().map_or(Sql::Null, |text| Sql::Text(text.to_owned()));
    let number = |value: &Value| value.as_i64().map_or(Sql::Null, Sql::Integer);
    let flag = |value: &Value| value.as_bool().map_or(Sql::Null, |flag| Sql::Integer(i64::from(flag)));
    let namespace = event["namespace"].as_i64().unwrap();
    let title = event["title"].as_str().unwrap();
    let prefix = title.split(':').next().filter(|_| namespace != 0 && title.contains(':')).unwrap_or("");
    let canonical = CANONICAL.iter().find(|(id, _)| *id == namespace).map(|(_, name)| *name);
    let bot = event["bot"].as_bool().unwrap_or(false);
    let kind = match event["user"].as_str() {
        _ if bot => "bot",
        None => "unknown",
        Some(user) if user.starts_with("~2") => "temporary",
        Some(user) if user.parse::<std::net::IpAddr>().is_ok() => "ip",
        Some(_) => "registered",
    };
    vec![
        text(&event["meta"]["id"]),
        number(&event["id"]),
        text(&event["meta"]["domain"]),
        Sql::Text(canonical.unwrap_or(if prefix.is_empty() { "unknown" } else { prefix }).to_owned()),
        text(&event["title"]),
        text(&event["meta"]["dt"]),
        text(&event["user"]),
        Sql::Text(if bot { "bot" } else { "human" }.to_owned()),
        number(&event["length"]["old"]),
        number(&event["length"]["new"]),
        text(&event["type"]),
        text(&event["wiki"]),
        Sql::Integer(namespace),
        Sql::Text(prefix.to_owned()),
        Sql::Text(kind.to_owned()),
        number(&event["revision"]["old"]),
        number(&event["revision"]["new"]),
        flag(&event["minor"]),
        flag(&event["patrolled"]),
        text(&event["comment"]),
    ]
}

/// The table's rows by event id, in the order of [`COLUMNS`].
///
/// # Panics
/// Where the table cannot be read.
#[must_use]
pub fn stored(table: &Path) -> BTreeMap<String, Vec<Sql>> {
    let connection = Connection::open(table).unwrap();
    let columns = COLUMNS.map(|column| format!("\"{column}\"")).join(", ");
    let mut query = connection.prepare(&format!("SELECT {columns} FROM edits")).unwrap();
    let rows = query
        .query_map([], |row| {
            (0..COLUMNS.len()).map(|index| row.get::<_, Sql>(index)).collect::<rusqlite::Result<Vec<_>>>()
        })
        .unwrap();
    rows.map(|row| {
        let row = row.unwrap();
        let Sql::Text(id) = &row[0] else { panic!("an event id is text") };
        (id.clone(), row)
    })
    .collect()
}
