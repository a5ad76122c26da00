//! What a destination must do. One contract test stands for all of them.

use uuid::Uuid;

use crate::batch::Batch;
use crate::error::WriteError;

/// Where a partition begins that this destination has never seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    /// The first sequence number there is; [`crate::batch::UNKNOWN`] where there is no record.
    pub seq: i64,
    /// Its offset.
    pub offset: i64,
}

/// A request for a partition.
#[derive(Clone, Debug)]
pub struct Claim<'a> {
    /// The topic's name.
    pub topic: &'a str,
    /// The topic's id.
    pub topic_id: Uuid,
    /// The partition.
    pub partition: i32,
    /// Who asks.
    pub owner: &'a str,
    /// Where a partition begins that was never seen.
    pub base: Base,
}

/// Where a claimed partition stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The epoch under which the claimant may write.
    pub epoch: i64,
    /// The next sequence number; `None` where the destination keeps no position: Kafka's committed offset counts.
    pub next_seq: Option<i64>,
    /// Offset of the next record.
    pub next_offset: i64,
    /// Raw offset of the last record stored, for healing; −1 before the first.
    pub last_raw_offset: i64,
}

/// Where a record should stand.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The partition.
    pub partition: i32,
    /// Its sequence number.
    pub seq: i64,
    /// Its id.
    pub id: &'a str,
}

/// What a write did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Rows inserted.
    pub inserted: u64,
    /// Rows left out because they were stored before.
    pub repeats: u64,
    /// Rows set aside, by reason.
    pub rejected: Vec<schema::Reason>,
    /// Sequence numbers that are lost before a log that was emptied, by partition.
    pub lost: Vec<(i32, crate::batch::Stretch)>,
    /// Holes found, by partition: of those partitions nothing was written.
    pub holes: Vec<(i32, crate::batch::Hole)>,
}

/// A rejected row that no dead letter tells of yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Its row in the outbox.
    pub id: i64,
    /// Where it stands.
    pub partition: i32,
    /// Its sequence number.
    pub seq: i64,
    /// Its offset.
    pub offset: i64,
    /// Why.
    pub rejection: schema::Rejection,
    /// The record's value.
    pub value: Vec<u8>,
}

/// A destination. Calls block; they come from one thread.
pub trait Writer: Send {
    /// Sees to it that the destination is there and fit to be written to.
    ///
    /// # Errors
    /// [`WriteError::Retry`] where it does not answer, [`WriteError::Stop`] where it refuses.
    fn prepare(&mut self) -> Result<(), WriteError> {
        Ok(())
    }

    /// Takes partitions over, in one transaction: raises each epoch, so that whoever had it can write no more.
    ///
    /// # Errors
    /// [`WriteError::Retry`], or [`WriteError::Stop`] where the topic under this name was made anew.
    fn claim(&mut self, claims: &[Claim<'_>]) -> Result<Vec<Position>, WriteError>;

    /// Writes rows and positions, all or nothing. One bad row costs that row.
    ///
    /// # Errors
    /// [`WriteError::Retry`] where nothing was written, [`WriteError::Fenced`] where another owner is there.
    fn write(&mut self, batch: &Batch) -> Result<Written, WriteError>;

    /// Whether a row of this id stands at this place, stored or set aside.
    ///
    /// # Errors
    /// [`WriteError::Retry`].
    fn holds(&mut self, topic_id: Uuid, place: Place<'_>) -> Result<bool, WriteError>;

    /// Rejected rows of these partitions that are still to be told, oldest first.
    ///
    /// # Errors
    /// [`WriteError::Retry`].
    fn outbox(&mut self, topic_id: Uuid, partitions: &[i32]) -> Result<Vec<Rejected>, WriteError>;

    /// Notes that these were told.
    ///
    /// # Errors
    /// [`WriteError::Retry`].
    fn told(&mut self, ids: &[i64]) -> Result<(), WriteError>;
}
