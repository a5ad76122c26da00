//! Rows into `edits` by binary COPY. Where the database refuses a batch for one of its rows, the batch is halved
//! until that row stands alone.

use jiff::Timestamp;
use postgres::binary_copy::BinaryCopyInWriter;
use postgres::error::SqlState;
use postgres::types::{ToSql, Type};
use postgres::{Error, Transaction};
use schema::{Edit, Reason, Rejection};
use uuid::Uuid;

use super::connection::{Verdict, judge, sentence};
use crate::batch::{Fate, Row};

/// The columns, in the order of [`Insert::values`].
const COLUMNS: [(&str, Type); 25] = [
    ("event_id", Type::TEXT),
    ("id", Type::INT8),
    ("domain", Type::TEXT),
    ("namespace", Type::TEXT),
    ("title", Type::TEXT),
    ("timestamp", Type::TIMESTAMPTZ),
    ("user_name", Type::TEXT),
    ("user_type", Type::TEXT),
    ("old_length", Type::INT8),
    ("new_length", Type::INT8),
    ("type", Type::TEXT),
    ("wiki", Type::TEXT),
    ("namespace_id", Type::INT8),
    ("namespace_local", Type::TEXT),
    ("user_kind", Type::TEXT),
    ("revision_old", Type::INT8),
    ("revision_new", Type::INT8),
    ("minor", Type::BOOL),
    ("patrolled", Type::BOOL),
    ("comment", Type::TEXT),
    ("topic_id", Type::UUID),
    ("partition", Type::INT4),
    ("seq", Type::INT8),
    ("received_at", Type::TIMESTAMPTZ),
    ("stored_at", Type::TIMESTAMPTZ),
];

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
        let timestamp: Timestamp = edit.timestamp.parse().map_err(|error| {
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

    fn values<'b>(
        &'b self,
        topic_id: &'b Uuid,
        stored_at: &'b Timestamp,
        texts: &'b [&'static str; 2],
    ) -> [&'b (dyn ToSql + Sync); 25] {
        let Edit {
            id,
            domain,
            namespace,
            title,
            timestamp: _,
            user_name,
            user_type: _,
            old_length,
            new_length,
            event_id,
            change_type,
            wiki,
            namespace_id,
            namespace_local,
            user_kind: _,
            revision_old,
            revision_new,
            minor,
            patrolled,
            comment,
        } = self.edit;
        let [user_type, user_kind] = texts;
        [
            event_id,
            id,
            domain,
            namespace,
            title,
            &self.timestamp,
            user_name,
            user_type,
            old_length,
            new_length,
            change_type,
            wiki,
            namespace_id,
            namespace_local,
            user_kind,
            revision_old,
            revision_new,
            minor,
            patrolled,
            comment,
            topic_id,
            &self.partition,
            &self.row.seq,
            &self.received_at,
            stored_at,
        ]
    }
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
    let names: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
    let types: Vec<Type> = COLUMNS.iter().map(|(_, kind)| kind.clone()).collect();
    let statement = format!("COPY edits ({}) FROM STDIN (FORMAT binary)", names.join(", "));
    let mut writer = BinaryCopyInWriter::new(transaction.copy_in(&statement)?, &types);
    let stored_at = Timestamp::now();
    for row in rows {
        let texts = [row.edit.user_type.as_str(), row.edit.user_kind.as_str()];
        writer.write(&row.values(&topic_id, &stored_at, &texts))?;
    }
    writer.finish().map(|_| ())
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
