//! What the sinks stored.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use postgres::IsolationLevel;
use postgres::fallible_iterator::FallibleIterator as _;
use rusqlite::{Connection, OpenFlags};
use service::Failure;
use sink::writers::postgres::connection::{Target, sentence};

use super::Ids;

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

impl Table {
    /// The ids in the table, and whether rows and rejects together are dense. Rows before a partition's start were made
    /// from records that the topic no longer holds.
    pub(super) fn ids(&self, starts: &BTreeMap<i32, i64>) -> Result<Ids, Failure> {
        let mut ids = Ids::default();
        match self {
            Self::Sqlite(file) => in_sqlite(file, starts, &mut ids).map_err(|error| {
                Failure::Config(format!(
                    "the sinks' file {} cannot be read: {error}; name it with --sqlite-file or WIKI_SQLITE_FILE",
                    file.display()
                ))
            })?,
            Self::Postgres(target) => in_postgres(target, starts, &mut ids).map_err(|error| {
                Failure::Unavailable(format!(
                    "the sinks' database ({}) cannot be read: {}; name it with WIKI_DATABASE_URL, and a role that may \
                     read it",
                    target.name(),
                    sentence(&error)
                ))
            })?,
        }
        Ok(ids)
    }
}

fn in_sqlite(file: &Path, starts: &BTreeMap<i32, i64>, ids: &mut Ids) -> rusqlite::Result<()> {
    let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let mut query = connection.prepare(EVERY_ID)?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        ids.count_row(row.get(0)?, (row.get(1)?, row.get(2)?), starts);
    }
    let mut query = connection.prepare(TOPICS)?;
    for topic in query.query_map([], |row| row.get::<_, String>(0))? {
        ids.topics.push(topic?);
    }
    let mut query = connection.prepare(LOOSE)?;
    for partition in query.query_map([], |row| row.get::<_, String>(0))? {
        ids.loose.push(format!("table, partition {}", partition?));
    }
    Ok(())
}

fn in_postgres(target: &Target, starts: &BTreeMap<i32, i64>, ids: &mut Ids) -> Result<(), postgres::Error> {
    let mut client = target.connect()?;
    // Both queries see the same moment.
    let moment = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
    let mut moment = moment.start()?;
    let mut rows = moment.query_raw(EVERY_ID, std::iter::empty::<bool>())?;
    while let Some(row) = rows.next()? {
        ids.count_row(row.get(0), (row.get(1), row.get(2)), starts);
    }
    drop(rows);
    for row in moment.query(TOPICS, &[])? {
        ids.topics.push(row.get(0));
    }
    for row in moment.query(LOOSE, &[])? {
        ids.loose.push(format!("table, partition {}", row.get::<_, String>(0)));
    }
    Ok(())
}
