//! What a PostgreSQL database has set aside.

use jiff::Timestamp;
use schema::Reason;

use super::Postgres;
use super::connection::failed;
use super::copy::{Insert, copy_or_refuse};
use crate::aside::{Aside, Replayed, SetAside};
use crate::error::WriteError;

const ROWS: &str = "SELECT id, topic_id, partition, seq, \"offset\", reason, detail, value FROM edits_rejected \
    WHERE id > $1 ORDER BY id LIMIT $2";

impl Aside for Postgres {
    fn set_aside(&mut self, behind: i64, most: i64) -> Result<Vec<SetAside>, WriteError> {
        self.transact(|transaction| {
            let rows = transaction.query(ROWS, &[&behind, &most]).map_err(failed("read what was set aside"))?;
            let of = |row: &postgres::Row| SetAside {
                id: row.get(0),
                topic_id: row.get(1),
                partition: row.get(2),
                seq: row.get(3),
                offset: row.get(4),
                reason: row.get(5),
                detail: row.get(6),
                value: row.get(7),
            };
            Ok(rows.iter().map(of).collect())
        })
    }

    fn replay(&mut self, aside: &SetAside) -> Result<Replayed, WriteError> {
        let Some(row) = aside.to_row(Timestamp::now().as_millisecond()) else { return Ok(Replayed::Stays) };
        let Ok(insert) = Insert::of(aside.partition, &row) else { return Ok(Replayed::Stays) };
        self.transact(|transaction| {
            let doing = "store what was set aside";
            let refused =
                copy_or_refuse(transaction, aside.topic_id, std::slice::from_ref(&insert)).map_err(failed(doing))?;
            match refused.first().map(|reject| reject.rejection.reason) {
                None => {
                    let forget = "DELETE FROM edits_rejected WHERE id = $1";
                    transaction.execute(forget, &[&aside.id]).map_err(failed("forget what was set aside"))?;
                    Ok(Replayed::Stored)
                }
                Some(Reason::DuplicateId) => Ok(Replayed::Repeat),
                Some(_) => Ok(Replayed::Stays),
            }
        })
    }
}
