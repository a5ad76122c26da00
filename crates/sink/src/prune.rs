//! Old rows taken out of the destination: from the front of each partition, so that what is left is still dense.

use uuid::Uuid;

use crate::error::WriteError;

/// A partition of a topic, as the destination knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The topic's id.
    pub topic_id: Uuid,
    /// The partition.
    pub partition: i32,
}

/// One step of pruning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Rows that were deleted.
    pub rows: u64,
    /// There may be more to delete.
    pub has_more: bool,
}

/// A destination whose old rows can be taken out.
pub trait Prune {
    /// Every partition of which something was stored.
    ///
    /// # Errors
    /// [`WriteError`] where the destination does not answer.
    fn stored(&mut self) -> Result<Vec<Stored>, WriteError>;

    /// Deletes rows from a partition's front, as long as they were received before a time, at most so many; and notes
    /// in the progress row where the partition begins now. One transaction.
    ///
    /// A rejected row whose dead letter is not delivered yet stops it.
    ///
    /// # Errors
    /// [`WriteError`]: nothing was deleted.
    fn prune(&mut self, of: Stored, before_ms: i64, most: i64) -> Result<Pruned, WriteError>;
}

/// Where a partition begins after a step: behind the old ones among its first rows, in order, and not behind a rejected
/// row that is not delivered.
#[must_use]
pub(crate) fn cut(first: &[(i64, i64)], before_ms: i64, undelivered: Option<i64>) -> Option<i64> {
    let old = first.iter().take_while(|(_, received_ms)| *received_ms < before_ms);
    let behind = old.last().map(|(seq, _)| seq + 1)?;
    let cut = undelivered.map_or(behind, |seq| seq.min(behind));
    first.first().is_some_and(|(seq, _)| *seq < cut).then_some(cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_front_of_old_rows_is_cut_off() {
        let rows = [(5, 10), (6, 20), (8, 15), (9, 40), (10, 5)];
        assert_eq!(cut(&rows, 30, None), Some(9), "the last one is old, and behind one that is not");
        assert_eq!(cut(&rows, 10, None), None);
        assert_eq!(cut(&rows, 30, Some(7)), Some(7), "a rejected row waits for its dead letter");
        assert_eq!(cut(&rows, 30, Some(5)), None);
        assert_eq!(cut(&[], 30, None), None);
    }
}
