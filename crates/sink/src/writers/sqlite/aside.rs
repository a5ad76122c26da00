//! What a SQLite file has set aside.

use rusqlite::params;
use schema::Reason;
use uuid::Uuid;

use super::{Sqlite, insert_edit, now_ms, retry};
use crate::aside::{Aside, Replayed, SetAside};
use crate::batch::Fate;
use crate::error::WriteError;

impl Aside for Sqlite {
    fn set_aside(&mut self, behind: i64, most: i64) -> Result<Vec<SetAside>, WriteError> {
        let mut query = self
            .connection
            .prepare(
                "SELECT id, topic_id, partition, seq, \"offset\", reason, detail, value FROM edits_rejected \
                 WHERE id > ?1 ORDER BY id LIMIT ?2",
            )
            .map_err(retry("read what was set aside"))?;
        let rows = query.query_map(params![behind, most], |row| {
            Ok(SetAside {
                id: row.get(0)?,
                topic_id: row.get::<_, String>(1)?.parse::<Uuid>().unwrap_or_default(),
                partition: row.get(2)?,
                seq: row.get(3)?,
                offset: row.get(4)?,
                reason: row.get(5)?,
                detail: row.get(6)?,
                value: row.get(7)?,
            })
        });
        rows.and_then(Iterator::collect).map_err(retry("read what was set aside"))
    }

    fn replay(&mut self, aside: &SetAside) -> Result<Replayed, WriteError> {
        let Some(row) = aside.to_row(now_ms()) else { return Ok(Replayed::Stays) };
        let Fate::Store(edit) = &row.fate else { return Ok(Replayed::Stays) };
        let transaction = self.begin()?;
        let topic_id = aside.topic_id.to_string();
        // First, so that the edit's place is free.
        let forgotten = transaction.execute("DELETE FROM edits_rejected WHERE id = ?1", params![aside.id]);
        if forgotten.map_err(retry("forget what was set aside"))? == 0 {
            return Ok(Replayed::Repeat);
        }
        match insert_edit(&transaction, &topic_id, aside.partition, &row, edit, now_ms())? {
            None => transaction.commit().map_err(retry("store what was set aside")).map(|()| Replayed::Stored),
            Some(rejection) if rejection.reason == Reason::DuplicateId => Ok(Replayed::Repeat),
            Some(_) => Ok(Replayed::Stays),
        }
    }
}
