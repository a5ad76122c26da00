//! Old rows taken out of a PostgreSQL database.

use jiff::Timestamp;

use super::Postgres;
use super::connection::failed;
use crate::error::WriteError;
use crate::prune::{Prune, Pruned, Stored, cut};

const FIRST: &str = "SELECT seq, received_at FROM edits WHERE topic_id = $1 AND partition = $2 ORDER BY seq LIMIT $3";
const UNDELIVERED: &str = "SELECT min(seq) FROM edits_rejected WHERE topic_id = $1 AND partition = $2 AND NOT told";
/// In this order: the table ends as it began, dense.
const STEPS: [(&str, &str); 3] = [
    ("delete rejected rows", "DELETE FROM edits_rejected WHERE topic_id = $1 AND partition = $2 AND seq < $3"),
    ("delete notes of losses", "DELETE FROM sink_stretches WHERE topic_id = $1 AND partition = $2 AND to_seq <= $3"),
    (
        "note where the partition begins",
        "UPDATE sink_progress SET base_seq = $3 WHERE topic_id = $1 AND partition = $2 AND base_seq < $3",
    ),
];

impl Prune for Postgres {
    fn stored(&mut self) -> Result<Vec<Stored>, WriteError> {
        self.transact(|transaction| {
            let rows = transaction.query("SELECT topic_id, partition FROM sink_progress ORDER BY 1, 2", &[]);
            let rows = rows.map_err(failed("read the positions"))?;
            Ok(rows.iter().map(|row| Stored { topic_id: row.get(0), partition: row.get(1) }).collect())
        })
    }

    fn prune(&mut self, of: Stored, before_ms: i64, most: i64) -> Result<Pruned, WriteError> {
        let Stored { topic_id, partition } = of;
        self.transact(|transaction| {
            let rows = transaction.query(FIRST, &[&topic_id, &partition, &most]).map_err(failed("read old rows"))?;
            let row = |row: &postgres::Row| (row.get(0), row.get::<_, Timestamp>(1).as_millisecond());
            let first: Vec<(i64, i64)> = rows.iter().map(row).collect();
            let undelivered = transaction.query_one(UNDELIVERED, &[&topic_id, &partition]);
            let undelivered: Option<i64> = undelivered.map_err(failed("read rejected rows"))?.get(0);
            let Some(begin) = cut(&first, before_ms, undelivered) else { return Ok(Pruned::default()) };
            let delete = "DELETE FROM edits WHERE topic_id = $1 AND partition = $2 AND seq < $3";
            let rows = transaction.execute(delete, &[&topic_id, &partition, &begin]).map_err(failed("delete rows"))?;
            for (doing, step) in STEPS {
                transaction.execute(step, &[&topic_id, &partition, &begin]).map_err(failed(doing))?;
            }
            let is_full = i64::try_from(first.len()).is_ok_and(|found| found == most);
            Ok(Pruned { rows, has_more: is_full && first.last().is_some_and(|(seq, _)| *seq < begin) })
        })
    }
}
