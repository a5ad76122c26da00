//! Rows into `edits` by binary COPY. Where the database refuses a batch for one of its rows, the batch is halved
//! until that row stands alone.

use std::io::Write as _;

use jiff::Timestamp;
use postgres::error::SqlState;
use postgres::{CopyInWriter, Error, Transaction};
use schema::{Edit, Reason, Rejection};
use uuid::Uuid;

use super::connection::{Verdict, judge, sentence};
use super::rows::Rows;
use crate::batch::{Fate, Row};

/// The columns, in the order of [`Insert::encode`].
const COLUMNS: [&str; 25] = [
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
    "topic_id",
    "partition",
    "seq",
    "received_at",
    "stored_at",
];
/// Rows are sent when so many bytes of them are encoded.
const CHUNK_BYTES: usize = 128 << 10;

/// A row of `edits` to be.
pub(super) struct Insert<'a> {
    pub(super) partition: i32,
    pub(super) row: &'a Row,
    edit: &'a Edit<'static>,
    timestamp: Timestamp,
    received_at: Timestamp,
}

/// A row of `edits_rejected` to be.
pub(super) struct Reject<'a> {
    pub(super) partition: i32,
    pub(super) row: &'a Row,
    pub(super) rejection: Rejection,
    pub(super) value: Vec<u8>,
}

impl Reject<'_> {
    /// The edit's id, where it can be read.
    pub(super) fn id(&self) -> Option<&str> {
        match &self.row.fate {
            Fate::Store(edit) => Some(edit.event_id.as_ref()),
            Fate::Reject(..) => None,
        }
    }
}

impl<'a> Insert<'a> {
    /// Sorts a record: into the table, or aside where it cannot be a row.
    pub(super) fn of(partition: i32, row: &'a Row) -> Result<Self, Reject<'a>> {
        let aside = |rejection, value| Reject { partition, row, rejection, value };
        let edit = match &row.fate {
            Fate::Store(edit) => edit,
            Fate::Reject(rejection, value) => return Err(aside(rejection.clone(), value.clone())),
        };
        let timestamp = time_of(&edit.timestamp).map_err(|error| {
            let why = format!("timestamp {:?} is no time: {error}", edit.timestamp);
            aside(Rejection::new(Reason::RefusedByWriter, why), edit.to_json())
        })?;
        let received_at = Timestamp::from_millisecond(row.received_at_ms).unwrap_or_default();
        Ok(Self { partition, row, edit, timestamp, received_at })
    }

    fn refused(&self, error: &Error) -> Reject<'a> {
        let is_repeat = error.code() == Some(&SqlState::UNIQUE_VIOLATION);
        let reason = if is_repeat { Reason::DuplicateId } else { Reason::RefusedByWriter };
        Reject {
            partition: self.partition,
            row: self.row,
            rejection: Rejection::new(reason, sentence(error)),
            value: self.edit.to_json(),
        }
    }

    /// Appends the row, its values in the order of [`COLUMNS`].
    fn encode(&self, to: &mut Rows, topic_id: Uuid, stored_at: Timestamp) {
        let edit = self.edit;
        to.begin(COLUMNS.len());
        to.text(&edit.event_id);
        to.optional(edit.id, Rows::int8);
        to.text(&edit.domain);
        to.text(&edit.namespace);
        to.text(&edit.title);
        to.time(self.timestamp);
        to.optional(edit.user_name.as_deref(), Rows::text);
        to.text(edit.user_type.as_str());
        to.optional(edit.old_length, Rows::int8);
        to.optional(edit.new_length, Rows::int8);
        to.text(&edit.change_type);
        to.text(&edit.wiki);
        to.int8(edit.namespace_id);
        to.text(&edit.namespace_local);
        to.text(edit.user_kind.as_str());
        to.optional(edit.revision_old, Rows::int8);
        to.optional(edit.revision_new, Rows::int8);
        to.optional(edit.minor, Rows::bool);
        to.optional(edit.patrolled, Rows::bool);
        to.optional(edit.comment.as_deref(), Rows::text);
        to.value(topic_id.as_bytes());
        to.value(&self.partition.to_be_bytes());
        to.int8(self.row.seq);
        to.time(self.received_at);
        to.time(stored_at);
    }
}

/// The time of an edit as the table holds it: to the microsecond, the rest cut off.
fn time_of(text: &str) -> Result<Timestamp, jiff::Error> {
    Timestamp::from_microsecond(text.parse::<Timestamp>()?.as_microsecond())
}

fn is_stored(transaction: &mut Transaction<'_>, id: &str) -> Result<bool, Error> {
    transaction.query_one("SELECT EXISTS (SELECT 1 FROM edits WHERE event_id = $1)", &[&id]).map(|row| row.get(0))
}

/// Copies all rows or none.
///
/// # Errors
/// What the database said; the transaction is void then.
fn copy(transaction: &mut Transaction<'_>, topic_id: Uuid, rows: &[Insert<'_>]) -> Result<(), Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let statement = format!("COPY edits ({}) FROM STDIN (FORMAT binary)", COLUMNS.join(", "));
    let mut writer = transaction.copy_in(&statement)?;
    let stored_at = Timestamp::now();
    let mut encoded = Rows::new();
    for row in rows {
        row.encode(&mut encoded, topic_id, stored_at);
        if encoded.bytes().len() >= CHUNK_BYTES {
            send(&mut writer, &mut encoded)?;
        }
    }
    encoded.end();
    send(&mut writer, &mut encoded)?;
    writer.finish().map(|_| ())
}

/// Sends what is encoded.
///
/// # Errors
/// What the database said.
fn send(writer: &mut CopyInWriter<'_>, encoded: &mut Rows) -> Result<(), Error> {
    let sent = writer.write_all(encoded.bytes());
    encoded.clear();
    match sent.map_err(|error| error.into_inner().map(|inner| inner.downcast::<Error>())) {
        Err(Some(Ok(error))) => Err(*error),
        // Anything else is said at the end of the COPY.
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Copies what the database takes and gives what it refuses, row by row.
///
/// # Errors
/// What the database said, where it was not for a row.
pub(super) fn copy_or_refuse<'a>(
    transaction: &mut Transaction<'_>,
    topic_id: Uuid,
    rows: &[Insert<'a>],
) -> Result<Vec<Reject<'a>>, Error> {
    let mut savepoint = transaction.transaction()?;
    let error = match copy(&mut savepoint, topic_id, rows) {
        Ok(()) => return savepoint.commit().map(|()| Vec::new()),
        Err(error) => error,
    };
    // Where it cannot be rolled back the connection is gone, and the first error says why.
    if savepoint.rollback().is_err() || judge(&error) != Verdict::BadRow {
        return Err(error);
    }
    if let [row] = rows {
        // Which key was hit is looked up: names of constraints are the table owner's.
        let is_repeat = error.code() == Some(&SqlState::UNIQUE_VIOLATION);
        if is_repeat && !is_stored(transaction, &row.edit.event_id)? {
            return Err(error);
        }
        return Ok(vec![row.refused(&error)]);
    }
    let (first, second) = rows.split_at(rows.len() / 2);
    let mut refused = copy_or_refuse(transaction, topic_id, first)?;
    refused.extend(copy_or_refuse(transaction, topic_id, second)?);
    Ok(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_an_edit_is_made_in_one_way() {
        for (text, expected) in [
            ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
            ("2026-01-02T03:04:05.678Z", "2026-01-02T03:04:05.678Z"),
            ("2026-01-02T03:04:05.6789999Z", "2026-01-02T03:04:05.678999Z"),
            ("2026-01-02T03:04:05.678+02:00", "2026-01-02T01:04:05.678Z"),
            ("2026-01-02 03:04:05z", "2026-01-02T03:04:05Z"),
            ("1999-12-31T23:59:59.9999999Z", "1999-12-31T23:59:59.999999Z"),
        ] {
            assert_eq!(time_of(text).unwrap().to_string(), expected, "{text}");
        }
        for text in ["", "2026-01-02", "2026-01-02T03:04:05", "yesterday"] {
            assert!(time_of(text).is_err(), "{text}");
        }
    }
}
