//! What the sinks stored.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use postgres::IsolationLevel;
use postgres::fallible_iterator::FallibleIterator as _;
use rusqlite::{Connection, OpenFlags};
use service::Failure;
use sink::writers::postgres::connection::{Target, sentence};

const EVERY_ID: &str = "SELECT event_id, partition, seq FROM edits";
/// Topics whose records were stored.
const TOPICS: &str = "SELECT DISTINCT CAST(topic_id AS TEXT) FROM sink_progress";
/// Where each partition's sequence ends, and the first rejected row, if any.
const ENDS: &str = "SELECT p.partition, p.next_seq, (SELECT min(r.seq) FROM edits_rejected r \
    WHERE r.topic_id = p.topic_id AND r.partition = p.partition) FROM sink_progress p";
/// Partitions whose rows and rejects are not every number from the first of them to `next_seq` − 1, without what was lost
/// when the topic was emptied. What is missing before the first was pruned.
const LOOSE: &str = "SELECT CAST(f.partition AS TEXT) FROM ( \
        SELECT p.topic_id, p.partition, p.next_seq, count(s.seq) AS found, count(DISTINCT s.seq) AS seqs, \
            coalesce(min(s.seq), p.next_seq) AS first \
        FROM sink_progress p LEFT JOIN ( \
            SELECT topic_id, partition, seq FROM edits UNION ALL SELECT topic_id, partition, seq FROM edits_rejected \
        ) s ON s.topic_id = p.topic_id AND s.partition = p.partition \
        GROUP BY p.topic_id, p.partition, p.next_seq \
    ) f WHERE f.found <> f.seqs OR f.found <> f.next_seq - f.first - ( \
        SELECT coalesce(sum(t.to_seq - t.from_seq), 0) FROM sink_stretches t \
        WHERE t.topic_id = f.topic_id AND t.partition = f.partition AND t.from_seq >= f.first)";

/// The sinks' destination.
pub(crate) enum Table {
    Sqlite(PathBuf),
    Postgres(Box<Target>),
}

/// A row, as far as the audit needs it.
pub(super) struct Row<'a> {
    pub(super) id: &'a str,
    pub(super) partition: i32,
    pub(super) seq: i64,
}

/// What was read of a table, beside its rows.
#[derive(Default)]
pub(super) struct Stored {
    /// The ids of the topics that it is made from.
    pub(super) topics: Vec<String>,
    /// Where rows and rejects together are not dense.
    pub(super) loose: Vec<String>,
    /// The first sequence number of each partition that a row or a reject has; the next one where none has any.
    pub(super) begins: BTreeMap<i32, i64>,
}

impl Stored {
    fn begin(&mut self, partition: i32, seq: i64) {
        let begin = self.begins.entry(partition).or_insert(seq);
        *begin = (*begin).min(seq);
    }

    fn end(&mut self, partition: i32, next_seq: i64, rejected: Option<i64>) {
        self.begin(partition, rejected.unwrap_or(next_seq).min(next_seq));
    }
}

impl Table {
    /// Hands over every row.
    pub(super) fn read(&self, each: impl FnMut(Row<'_>)) -> Result<Stored, Failure> {
        match self {
            Self::Sqlite(file) => in_sqlite(file, each).map_err(|error| {
                Failure::Config(format!(
                    "the sinks' file {} cannot be read: {error}; name it with --sqlite-file or WIKI_SQLITE_FILE",
                    file.display()
                ))
            }),
            Self::Postgres(target) => in_postgres(target, each).map_err(|error| {
                Failure::Unavailable(format!(
                    "the sinks' database ({}) cannot be read: {}; name it with WIKI_DATABASE_URL, and a role that may \
                     read it",
                    target.name(),
                    sentence(&error)
                ))
            }),
        }
    }
}

fn in_sqlite(file: &Path, mut each: impl FnMut(Row<'_>)) -> rusqlite::Result<Stored> {
    let mut stored = Stored::default();
    let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let mut query = connection.prepare(EVERY_ID)?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let id = row.get_ref(0)?.as_str()?;
        let (partition, seq) = (row.get(1)?, row.get(2)?);
        stored.begin(partition, seq);
        each(Row { id, partition, seq });
    }
    let mut query = connection.prepare(ENDS)?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        stored.end(row.get(0)?, row.get(1)?, row.get(2)?);
    }
    let mut query = connection.prepare(TOPICS)?;
    for topic in query.query_map([], |row| row.get::<_, String>(0))? {
        stored.topics.push(topic?);
    }
    let mut query = connection.prepare(LOOSE)?;
    for partition in query.query_map([], |row| row.get::<_, String>(0))? {
        stored.loose.push(format!("table, partition {}", partition?));
    }
    Ok(stored)
}

fn in_postgres(target: &Target, mut each: impl FnMut(Row<'_>)) -> Result<Stored, postgres::Error> {
    let mut stored = Stored::default();
    let mut client = target.connect()?;
    // Both queries see the same moment.
    let moment = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
    let mut moment = moment.start()?;
    let mut rows = moment.query_raw(EVERY_ID, std::iter::empty::<bool>())?;
    while let Some(row) = rows.next()? {
        let (partition, seq) = (row.get(1), row.get(2));
        stored.begin(partition, seq);
        each(Row { id: row.get(0), partition, seq });
    }
    drop(rows);
    for row in moment.query(ENDS, &[])? {
        stored.end(row.get(0), row.get(1), row.get(2));
    }
    for row in moment.query(TOPICS, &[])? {
        stored.topics.push(row.get(0));
    }
    for row in moment.query(LOOSE, &[])? {
        stored.loose.push(format!("table, partition {}", row.get::<_, String>(0)));
    }
    Ok(stored)
}
