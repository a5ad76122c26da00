//! What the sinks stored.

use std::path::{Path, PathBuf};

use postgres::IsolationLevel;
use postgres::fallible_iterator::FallibleIterator as _;
use rusqlite::{Connection, OpenFlags};
use service::Failure;
use sink::writers::postgres::connection::{Target, sentence};

const EVERY_ID: &str = "SELECT event_id, partition, seq FROM edits";
/// Topics whose records were stored.
const TOPICS: &str = "SELECT DISTINCT CAST(topic_id AS TEXT) FROM sink_progress";
/// Partitions whose rows and rejects are not exactly `base_seq` to `next_seq` − 1, without what was lost when the topic was
/// emptied.
const LOOSE: &str = "SELECT CAST(p.partition AS TEXT) FROM sink_progress p LEFT JOIN ( \
        SELECT topic_id, partition, seq FROM edits UNION ALL SELECT topic_id, partition, seq FROM edits_rejected \
    ) s ON s.topic_id = p.topic_id AND s.partition = p.partition \
    GROUP BY p.topic_id, p.partition, p.base_seq, p.next_seq \
    HAVING count(s.seq) <> count(DISTINCT s.seq) OR count(s.seq) <> p.next_seq - p.base_seq - ( \
            SELECT coalesce(sum(t.to_seq - t.from_seq), 0) FROM sink_stretches t \
            WHERE t.topic_id = p.topic_id AND t.partition = p.partition) \
        OR coalesce(min(s.seq), p.base_seq) <> p.base_seq";

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
        each(Row { id, partition: row.get(1)?, seq: row.get(2)? });
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
        each(Row { id: row.get(0), partition: row.get(1), seq: row.get(2) });
    }
    drop(rows);
    for row in moment.query(TOPICS, &[])? {
        stored.topics.push(row.get(0));
    }
    for row in moment.query(LOOSE, &[])? {
        stored.loose.push(format!("table, partition {}", row.get::<_, String>(0)));
    }
    Ok(stored)
}
