//! SQLite: rows and position in one transaction. Several sinks of one machine may share the file.

mod aside;
mod prune;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, ErrorCode, OptionalExtension as _, Transaction, TransactionBehavior, named_params, params};
use schema::{Edit, Reason, Rejection};
use service::Failure;
use uuid::Uuid;

use crate::batch::{Batch, Due, Fate, Row, UNKNOWN};
use crate::error::WriteError;
use crate::writer::{Claim, Place, Position, Rejected, Writer, Written};

/// The tables; a later version is a further file and a step in [`Sqlite::migrate`].
const SCHEMA: [&str; 2] = [include_str!("schema.sql"), include_str!("schema_2.sql")];
/// Another sink's write may hold the file this long.
const BUSY: Duration = Duration::from_secs(10);
/// Between two attempts to open a file that another sink is making.
const OPEN_AGAIN: Duration = Duration::from_millis(20);
/// Dead letters told at once.
const OUTBOX: i64 = 500;

const INSERT: &str = "INSERT INTO edits (event_id, id, domain, namespace, title, timestamp, user_name, \
    user_type, old_length, new_length, type, wiki, namespace_id, namespace_local, user_kind, revision_old, \
    revision_new, minor, patrolled, comment, topic_id, partition, seq, received_at, stored_at) VALUES (:event_id, :id, :domain, :namespace, :title, :timestamp, :user_name, \
    :user_type, :old_length, :new_length, :type, :wiki, :namespace_id, :namespace_local, :user_kind, :revision_old, \
    :revision_new, :minor, :patrolled, :comment, :topic_id, :partition, :seq, :received_at, :stored_at)";
const REJECT: &str = "INSERT INTO edits_rejected (topic_id, partition, seq, \"offset\", reason, detail, value, event_id) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
const HOLDS: &str = "SELECT EXISTS (SELECT 1 FROM edits WHERE topic_id = ?1 AND partition = ?2 AND seq = ?3 AND event_id = ?4) \
    OR EXISTS (SELECT 1 FROM edits_rejected WHERE topic_id = ?1 AND partition = ?2 AND seq = ?3 AND event_id = ?4)";

/// A SQLite file.
#[derive(Debug)]
pub struct Sqlite {
    connection: Connection,
    path: PathBuf,
    /// The file that was opened: another under the same name is not it.
    file: (u64, u64),
}

impl Sqlite {
    /// Opens or makes the file.
    ///
    /// # Errors
    /// [`Failure::Config`] where it cannot be written.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let deadline = Instant::now() + BUSY;
        loop {
            match Self::try_open(path) {
                Ok(writer) => return Ok(writer),
                // Another sink is making the same new file: SQLite's own time-out does not cover the change to WAL.
                Err(error) if is_busy(&error) && Instant::now() < deadline => std::thread::park_timeout(OPEN_AGAIN),
                Err(error) => {
                    return Err(Failure::Config(format!(
                        "the SQLite file {} cannot be written: {error}; give a place that this user may write with \
                         --sqlite-file or WIKI_SQLITE_FILE",
                        path.display()
                    )));
                }
            }
        }
    }

    fn try_open(path: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        let file = identity(path).unwrap_or_default();
        let mut writer = Self { connection, path: path.to_owned(), file };
        writer.migrate()?;
        Ok(writer)
    }

    fn migrate(&mut self) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let version: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let version = usize::try_from(version).unwrap_or(usize::MAX);
        for (number, step) in (1_i32..).zip(SCHEMA).skip(version) {
            transaction.execute_batch(step)?;
            transaction.pragma_update(None, "user_version", number)?;
        }
        transaction.commit()
    }

    fn begin(&mut self) -> Result<Transaction<'_>, WriteError> {
        if identity(&self.path) != Some(self.file) {
            return Err(WriteError::Stop(format!(
                "the SQLite file {} was removed or replaced while it was written: put it back, or give another with \
                 --sqlite-file or WIKI_SQLITE_FILE",
                self.path.display()
            )));
        }
        self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(retry("begin a transaction"))
    }
}

/// Device and number of a file.
fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

fn retry(doing: &'static str) -> impl FnOnce(rusqlite::Error) -> WriteError {
    move |source| match source.sqlite_error_code() {
        // A column, a table or a rule that is not as this program made it: our own rows satisfy those.
        Some(ErrorCode::ConstraintViolation | ErrorCode::Unknown | ErrorCode::SchemaChanged) => {
            WriteError::Refused(format!("{doing}: {source}"))
        }
        _ => WriteError::Retry { doing, source: Box::new(source) },
    }
}

impl Drop for Sqlite {
    /// The last one out leaves one plain file: a reader who may not write beside it could not open a WAL's.
    fn drop(&mut self) {
        let _ = self.connection.busy_timeout(Duration::ZERO);
        // Another sink still has it, or the disk is full: it stays as it is, and whole.
        let _ = self.connection.pragma_update(None, "journal_mode", "DELETE");
    }
}

impl Writer for Sqlite {
    fn claim(&mut self, claims: &[Claim<'_>]) -> Result<Vec<Position>, WriteError> {
        let transaction = self.begin()?;
        let mut positions = Vec::new();
        for claim in claims {
            refuse_other_topic(&transaction, claim)?;
            transaction
                .execute(
                    "INSERT INTO sink_progress VALUES (?1, ?2, ?3, ?4, ?4, ?5, -1, ?6, 1) ON CONFLICT DO UPDATE \
                     SET epoch = epoch + 1, owner = excluded.owner",
                    params![
                        claim.topic_id.to_string(),
                        claim.partition,
                        claim.topic,
                        claim.base.seq,
                        claim.base.offset,
                        claim.owner
                    ],
                )
                .map_err(retry("claim a partition"))?;
            let position = transaction
                .query_row(
                    "SELECT epoch, next_seq, next_offset, last_raw_offset FROM sink_progress \
                     WHERE topic_id = ?1 AND partition = ?2",
                    params![claim.topic_id.to_string(), claim.partition],
                    |row| {
                        Ok(Position {
                            epoch: row.get(0)?,
                            next_seq: Some(row.get(1)?).filter(|next| *next != UNKNOWN),
                            next_offset: row.get(2)?,
                            last_raw_offset: row.get(3)?,
                        })
                    },
                )
                .map_err(retry("claim a partition"))?;
            positions.push(position);
        }
        transaction.commit().map_err(retry("claim partitions"))?;
        Ok(positions)
    }

    fn write(&mut self, batch: &Batch) -> Result<Written, WriteError> {
        let transaction = self.begin()?;
        let mut written = Written::default();
        let mut fenced = Vec::new();
        for (partition, part) in &batch.parts {
            let standing: Option<(i64, i64)> = transaction
                .query_row(
                    "SELECT epoch, next_seq FROM sink_progress WHERE topic_id = ?1 AND partition = ?2",
                    params![batch.topic_id.to_string(), partition],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )
                .optional()
                .map_err(retry("read the position"))?;
            let Some((_, next_seq)) = standing.filter(|(epoch, _)| *epoch == part.epoch) else {
                fenced.push(*partition);
                continue;
            };
            match part.due(next_seq) {
                Ok(due) => {
                    written.repeats += (part.rows.len() - due.rows.len()) as u64;
                    insert(&transaction, batch.topic_id, *partition, &due, &mut written)?;
                }
                Err(hole) => written.holes.push((*partition, hole)),
            }
        }
        if !fenced.is_empty() {
            return Err(WriteError::Fenced { partitions: fenced });
        }
        transaction.commit().map_err(retry("commit a write"))?;
        Ok(written)
    }

    fn holds(&mut self, topic_id: Uuid, place: Place<'_>) -> Result<bool, WriteError> {
        let Place { partition, seq, id } = place;
        self.connection
            .query_row(HOLDS, params![topic_id.to_string(), partition, seq, id], |row| row.get(0))
            .map_err(retry("look for a row"))
    }

    fn outbox(&mut self, topic_id: Uuid, partitions: &[i32]) -> Result<Vec<Rejected>, WriteError> {
        let numbers: Vec<String> = partitions.iter().map(ToString::to_string).collect();
        let mut query = self
            .connection
            .prepare(&format!(
                "SELECT id, partition, seq, \"offset\", reason, detail, value FROM edits_rejected \
                 WHERE told = 0 AND topic_id = ?1 AND partition IN ({}) ORDER BY id LIMIT ?2",
                numbers.join(",")
            ))
            .map_err(retry("read the outbox"))?;
        let rows = query
            .query_map(params![topic_id.to_string(), OUTBOX], |row| {
                let reason: String = row.get(4)?;
                let reason = Reason::ALL.into_iter().find(|known| known.as_str() == reason);
                Ok(Rejected {
                    id: row.get(0)?,
                    partition: row.get(1)?,
                    seq: row.get(2)?,
                    offset: row.get(3)?,
                    rejection: Rejection::new(reason.unwrap_or(Reason::RefusedByWriter), row.get::<_, String>(5)?),
                    value: row.get(6)?,
                })
            })
            .and_then(Iterator::collect::<rusqlite::Result<Vec<Rejected>>>)
            .map_err(retry("read the outbox"))?;
        Ok(rows)
    }

    fn told(&mut self, ids: &[i64]) -> Result<(), WriteError> {
        let transaction = self.begin()?;
        for id in ids {
            transaction
                .execute("UPDATE edits_rejected SET told = 1 WHERE id = ?1", params![id])
                .map_err(retry("note a dead letter"))?;
        }
        transaction.commit().map_err(retry("note dead letters"))
    }
}

/// A topic that was made anew under the same name is another topic: its offsets mean nothing here.
fn refuse_other_topic(transaction: &Transaction<'_>, claim: &Claim<'_>) -> Result<(), WriteError> {
    let other: Option<String> = transaction
        .query_row(
            "SELECT topic_id FROM sink_progress WHERE topic = ?1 AND partition = ?2 AND topic_id <> ?3",
            params![claim.topic, claim.partition, claim.topic_id.to_string()],
            |row| row.get(0),
        )
        .optional()
        .map_err(retry("look for another topic"))?;
    match other {
        None => Ok(()),
        Some(other) => Err(WriteError::Stop(format!(
            "this database holds edits of another topic {} (id {other}; the present one has {}): give each its own file",
            claim.topic, claim.topic_id
        ))),
    }
}

fn insert(
    transaction: &Transaction<'_>,
    topic_id: Uuid,
    partition: i32,
    due: &Due<'_>,
    written: &mut Written,
) -> Result<(), WriteError> {
    let Due { rows, lost } = due;
    let (Some(first), Some(last), topic_id) = (rows.first(), rows.last(), topic_id.to_string()) else {
        return Ok(());
    };
    for (from, to) in lost {
        transaction
            .execute("INSERT INTO sink_stretches VALUES (?1, ?2, ?3, ?4)", params![topic_id, partition, from, to])
            .map_err(retry("note a loss"))?;
        written.lost.push((partition, (*from, *to)));
    }
    let stored_at = now_ms();
    for row in *rows {
        let refused = match &row.fate {
            Fate::Store(edit) => insert_edit(transaction, &topic_id, partition, row, edit, stored_at)?
                .map(|rejection| (rejection, edit.to_json(), Some(edit.event_id.as_ref()))),
            Fate::Reject(rejection, value) => Some((rejection.clone(), value.clone(), None)),
        };
        let Some((rejection, value, id)) = refused else {
            written.inserted += 1;
            continue;
        };
        transaction
            .prepare_cached(REJECT)
            .and_then(|mut statement| {
                let Rejection { reason, detail } = &rejection;
                statement.execute(params![topic_id, partition, row.seq, row.offset, reason.as_str(), detail, value, id])
            })
            .map_err(retry("set a row aside"))?;
        written.rejected.push(rejection.reason);
    }
    transaction
        .execute(
            "UPDATE sink_progress SET next_seq = ?3, next_offset = ?4, last_raw_offset = ?5, \
             base_seq = CASE base_seq WHEN -1 THEN ?6 ELSE base_seq END WHERE topic_id = ?1 AND partition = ?2",
            params![topic_id, partition, last.seq + 1, last.offset + 1, last.raw_offset, first.seq],
        )
        .map_err(retry("write the position"))?;
    Ok(())
}

/// Inserts one row; says why where the table refuses this row and would take others.
fn insert_edit(
    transaction: &Transaction<'_>,
    topic_id: &str,
    partition: i32,
    row: &Row,
    edit: &Edit<'_>,
    stored_at: i64,
) -> Result<Option<Rejection>, WriteError> {
    let inserted = transaction.prepare_cached(INSERT).and_then(|mut statement| {
        statement.execute(named_params! {
            ":event_id": edit.event_id, ":id": edit.id, ":domain": edit.domain, ":namespace": edit.namespace,
            ":title": edit.title, ":timestamp": edit.timestamp, ":user_name": edit.user_name,
            ":user_type": edit.user_type.as_str(), ":old_length": edit.old_length, ":new_length": edit.new_length,
            ":type": edit.change_type, ":wiki": edit.wiki, ":namespace_id": edit.namespace_id,
            ":namespace_local": edit.namespace_local, ":user_kind": edit.user_kind.as_str(),
            ":revision_old": edit.revision_old, ":revision_new": edit.revision_new, ":minor": edit.minor,
            ":patrolled": edit.patrolled, ":comment": edit.comment, ":topic_id": topic_id, ":partition": partition,
            ":seq": row.seq, ":received_at": row.received_at_ms, ":stored_at": stored_at,
        })
    });
    match inserted {
        Ok(_) => Ok(None),
        Err(rusqlite::Error::SqliteFailure(error, text)) => {
            let text = text.unwrap_or_default();
            match error.code {
                ErrorCode::TooBig | ErrorCode::TypeMismatch => Ok(Some(Rejection::new(Reason::RefusedByWriter, text))),
                // Which key was hit is looked up: names of constraints are the table owner's.
                ErrorCode::ConstraintViolation if is_stored(transaction, &edit.event_id)? => {
                    Ok(Some(Rejection::new(Reason::DuplicateId, text)))
                }
                _ => Err(retry("insert a row")(rusqlite::Error::SqliteFailure(error, Some(text)))),
            }
        }
        Err(error) => Err(retry("insert a row")(error)),
    }
}

fn is_stored(transaction: &Transaction<'_>, id: &str) -> Result<bool, WriteError> {
    transaction
        .query_row("SELECT EXISTS (SELECT 1 FROM edits WHERE event_id = ?1)", params![id], |row| row.get(0))
        .map_err(retry("look for a row"))
}

/// Unix milliseconds.
fn now_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}
