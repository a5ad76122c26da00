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
    /// Its sequence continues behind a log that was emptied: what is missing before it is lost.
    pub is_base: bool,
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

/// Sequence numbers that no row has: from the first up to, not including, the second.
pub type Stretch = (i64, i64);

/// What of a part is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due<'a> {
    /// The rows, in order.
    pub rows: &'a [Row],
    /// What is lost before rows whose sequence continues behind a log that was emptied.
    pub lost: Vec<Stretch>,
}

/// The position of a partition of which nothing was ever stored: its first record is the base.
pub const UNKNOWN: i64 = -1;

impl Part {
    /// The rows that are not stored yet, given what is due.
    ///
    /// # Errors
    /// [`Hole`] where the first of them is not the one that is due, or one is missing between.
    pub fn due(&self, next_seq: i64) -> Result<Due<'_>, Hole> {
        let from = self.rows.partition_point(|row| row.seq < next_seq);
        let rows = self.rows.get(from..).unwrap_or_default();
        let mut lost = Vec::new();
        let mut expected = match rows.first() {
            Some(first) if next_seq == UNKNOWN => first.seq,
            _ => next_seq,
        };
        for row in rows {
            if row.seq > expected && row.is_base {
                lost.push((expected, row.seq));
            } else if row.seq != expected {
                return Err(Hole { expected, found: row.seq });
            }
            expected = row.seq + 1;
        }
        Ok(Due { rows, lost })
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

    /// Keeps the first `most` rows, by partition, and gives the others.
    pub fn split_off(&mut self, most: usize) -> BTreeMap<i32, Part> {
        let mut left = most;
        let mut rest = BTreeMap::new();
        for (partition, part) in &mut self.parts {
            let kept = left.min(part.rows.len());
            left -= kept;
            if kept < part.rows.len() {
                rest.insert(*partition, Part { epoch: part.epoch, rows: part.rows.split_off(kept) });
            }
        }
        self.parts.retain(|_, part| !part.rows.is_empty());
        rest
    }

    /// Takes back what was split off.
    pub fn append(&mut self, rest: BTreeMap<i32, Part>) {
        for (partition, mut part) in rest {
            let own = self.parts.entry(partition).or_default();
            own.epoch = part.epoch;
            own.rows.append(&mut part.rows);
        }
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
            is_base: false,
            fate: Fate::Reject(rejection(), Vec::new()),
        };
        Part { epoch: 1, rows: seqs.iter().map(row).collect() }
    }

    #[test]
    fn what_is_stored_already_is_left_out() {
        let part = part(&[3, 4, 5, 6]);
        let seqs = |next| part.due(next).map(|due| due.rows.iter().map(|row| row.seq).collect::<Vec<_>>());
        assert_eq!(seqs(3), Ok(vec![3, 4, 5, 6]));
        assert_eq!(seqs(5), Ok(vec![5, 6]));
        assert_eq!(seqs(9), Ok(vec![]));
    }

    #[test]
    fn a_hole_before_or_between_rows_is_named() {
        assert_eq!(part(&[5]).due(4), Err(Hole { expected: 4, found: 5 }));
        assert_eq!(part(&[4, 6]).due(4), Err(Hole { expected: 5, found: 6 }));
    }

    #[test]
    fn a_jump_is_a_loss_where_the_row_says_so_and_a_first_row_is_the_base() {
        let mut jumped = part(&[4, 9, 10]);
        assert_eq!(jumped.due(4), Err(Hole { expected: 5, found: 9 }));
        jumped.rows[1].is_base = true;
        assert_eq!(jumped.due(4).map(|due| (due.rows.len(), due.lost)), Ok((3, vec![(5, 9)])));
        assert_eq!(part(&[7, 8]).due(UNKNOWN).map(|due| (due.rows.len(), due.lost)), Ok((2, vec![])));
    }

    #[test]
    fn a_batch_is_split_and_put_together_again() {
        let mut batch = Batch { topic_id: Uuid::nil(), parts: [(0, part(&[1, 2, 3])), (1, part(&[5, 6]))].into() };
        let whole = batch.clone();
        let rest = batch.split_off(4);
        assert_eq!((batch.len(), rest[&1].rows[0].seq), (4, 6));
        batch.append(rest);
        assert_eq!(batch, whole);
        let all = batch.split_off(0);
        assert!(batch.is_empty());
        batch.append(all);
        assert_eq!(batch, whole);
    }
}
