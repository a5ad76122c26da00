//! Rows of one write. Pure.

use std::collections::BTreeMap;

use schema::{Edit, Rejection};
use uuid::Uuid;

/// What one record became.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// A row of `edits`.
    Store(Box<Edit<'static>>),
    /// A row of `edits_rejected`, with the record's value.
    Reject(Rejection, Vec<u8>),
}

/// One record on its way into the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Dense sequence of its partition.
    pub seq: i64,
    /// Its Kafka offset.
    pub offset: i64,
    /// Offset of the raw record behind it.
    pub raw_offset: i64,
    /// When ingest read it, Unix milliseconds.
    pub received_at_ms: i64,
    /// What becomes of it.
    pub fate: Fate,
}

/// The rows of one partition, in order, without holes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// The epoch under which they may be written.
    pub epoch: i64,
    /// The rows.
    pub rows: Vec<Row>,
}

/// The rows of one write, by partition: locked in this order, whoever writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The topic's id.
    pub topic_id: Uuid,
    /// Per partition.
    pub parts: BTreeMap<i32, Part>,
}

/// Why a part cannot be written at this position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    /// The sequence number that is due.
    pub expected: i64,
    /// The one that is there.
    pub found: i64,
}

impl Part {
    /// The rows that are not stored yet, given what is due.
    ///
    /// # Errors
    /// [`Hole`] where the first of them is not the one that is due, or one is missing between.
    pub fn due(&self, next_seq: i64) -> Result<&[Row], Hole> {
        let from = self.rows.partition_point(|row| row.seq < next_seq);
        let rows = self.rows.get(from..).unwrap_or_default();
        for (row, expected) in rows.iter().zip(next_seq..) {
            if row.seq != expected {
                return Err(Hole { expected, found: row.seq });
            }
        }
        Ok(rows)
    }
}

impl Batch {
    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parts.values().map(|part| part.rows.len()).sum()
    }

    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.values().all(|part| part.rows.is_empty())
    }

    /// Forgets partitions that are not ours any more.
    pub fn forget(&mut self, partitions: &[i32]) {
        self.parts.retain(|partition, _| !partitions.contains(partition));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use schema::Reason;

    fn part(seqs: &[i64]) -> Part {
        let rejection = || Rejection::new(Reason::InvalidJson, "");
        let row = |seq: &i64| Row {
            seq: *seq,
            offset: *seq * 2,
            raw_offset: 0,
            received_at_ms: 0,
            fate: Fate::Reject(rejection(), Vec::new()),
        };
        Part { epoch: 1, rows: seqs.iter().map(row).collect() }
    }

    #[test]
    fn what_is_stored_already_is_left_out() {
        let part = part(&[3, 4, 5, 6]);
        let seqs = |next| part.due(next).map(|rows| rows.iter().map(|row| row.seq).collect::<Vec<_>>());
        assert_eq!(seqs(3), Ok(vec![3, 4, 5, 6]));
        assert_eq!(seqs(5), Ok(vec![5, 6]));
        assert_eq!(seqs(9), Ok(vec![]));
    }

    #[test]
    fn a_hole_before_or_between_rows_is_named() {
        assert_eq!(part(&[5]).due(4), Err(Hole { expected: 4, found: 5 }));
        assert_eq!(part(&[4, 6]).due(4), Err(Hole { expected: 5, found: 6 }));
    }
}
