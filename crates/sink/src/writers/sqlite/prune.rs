//! Old rows taken out of a SQLite file.

use rusqlite::params;
use uuid::Uuid;

use super::{Sqlite, retry};
use crate::error::WriteError;
use crate::prune::{Prune, Pruned, Stored, cut};

const FIRST: &str = "SELECT seq, received_at FROM edits WHERE topic_id = ?1 AND partition = ?2 ORDER BY seq LIMIT ?3";
const UNDELIVERED: &str = "SELECT min(seq) FROM edits_rejected WHERE topic_id = ?1 AND partition = ?2 AND told = 0";
const STEPS: [&str; 3] = [
    "DELETE FROM edits_rejected WHERE topic_id = ?1 AND partition = ?2 AND seq < ?3",
    "DELETE FROM sink_stretches WHERE topic_id = ?1 AND partition = ?2 AND to_seq <= ?3",
    "UPDATE sink_progress SET base_seq = ?3 WHERE topic_id = ?1 AND partition = ?2 AND base_seq < ?3",
];

impl Prune for Sqlite {
    fn stored(&mut self) -> Result<Vec<Stored>, WriteError> {
        let mut query = self
            .connection
            .prepare("SELECT topic_id, partition FROM sink_progress ORDER BY 1, 2")
            .map_err(retry("read the positions"))?;
        let rows = query.query_map([], |row| {
            let topic_id = row.get::<_, String>(0)?.parse::<Uuid>().unwrap_or_default();
            Ok(Stored { topic_id, partition: row.get(1)? })
        });
        rows.and_then(Iterator::collect).map_err(retry("read the positions"))
    }

    fn prune(&mut self, of: Stored, before_ms: i64, most: i64) -> Result<Pruned, WriteError> {
        let (topic_id, partition) = (of.topic_id.to_string(), of.partition);
        let transaction = self.begin()?;
        let first: Vec<(i64, i64)> = {
            let mut query = transaction.prepare(FIRST).map_err(retry("read old rows"))?;
            let rows = query.query_map(params![topic_id, partition, most], |row| Ok((row.get(0)?, row.get(1)?)));
            rows.and_then(Iterator::collect).map_err(retry("read old rows"))?
        };
        let undelivered = transaction.query_row(UNDELIVERED, params![topic_id, partition], |row| row.get(0));
        let undelivered: Option<i64> = undelivered.map_err(retry("read rejected rows"))?;
        let Some(begin) = cut(&first, before_ms, undelivered) else { return Ok(Pruned::default()) };
        let delete = "DELETE FROM edits WHERE topic_id = ?1 AND partition = ?2 AND seq < ?3";
        let rows = transaction.execute(delete, params![topic_id, partition, begin]).map_err(retry("delete rows"))?;
        for step in STEPS {
            transaction.execute(step, params![topic_id, partition, begin]).map_err(retry("delete old rows"))?;
        }
        transaction.commit().map_err(retry("delete old rows"))?;
        let is_full = i64::try_from(first.len()).is_ok_and(|found| found == most);
        let has_more = is_full && first.last().is_some_and(|(seq, _)| *seq < begin);
        Ok(Pruned { rows: rows as u64, has_more })
    }
}
