//! Where an assigned partition stands. Pure.

use crate::batch::Row;
use crate::writer::Position;

/// A partition that this sink may write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    /// The epoch under which it may be written.
    pub epoch: i64,
    /// Sequence number of the next record; `None` where the first one found is taken.
    pub next_seq: Option<i64>,
    /// Offset behind the last record stored.
    pub next_offset: i64,
    /// Raw offset of the last record taken: a hole is repaired from behind it.
    pub last_raw_offset: i64,
    /// Nothing more is taken: a person must act.
    pub is_halted: bool,
    /// When ingest read the last record taken, Unix milliseconds.
    pub last_received_at_ms: Option<i64>,
}

impl Owned {
    /// As the destination has it.
    #[must_use]
    pub const fn at(position: &Position) -> Self {
        Self {
            epoch: position.epoch,
            next_seq: position.next_seq,
            next_offset: position.next_offset,
            last_raw_offset: position.last_raw_offset,
            is_halted: false,
            last_received_at_ms: None,
        }
    }

    /// A row was taken into the batch.
    pub const fn take(&mut self, row: &Row) {
        self.next_seq = Some(row.seq + 1);
        self.last_raw_offset = row.raw_offset;
        self.last_received_at_ms = Some(row.received_at_ms);
    }

    /// Everything up to this record is durable.
    pub const fn stored(&mut self, last: &Row) {
        self.next_offset = last.offset + 1;
    }
}
