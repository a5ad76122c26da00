//! Rows that were set aside: looked at, and stored after all once the cause is mended.

use schema::{Edit, Reason};
use uuid::Uuid;

use crate::batch::{Fate, Row};
use crate::error::WriteError;

/// A row of `edits_rejected`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// Its number.
    pub id: i64,
    /// The topic's id.
    pub topic_id: Uuid,
    /// Where it stood.
    pub partition: i32,
    /// Its sequence number.
    pub seq: i64,
    /// Its offset.
    pub offset: i64,
    /// Why it was set aside, as [`Reason::as_str`].
    pub reason: String,
    /// A sentence more.
    pub detail: String,
    /// The record's value.
    pub value: Vec<u8>,
}

/// What became of a row that was tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// It is stored, and set aside no more.
    Stored,
    /// An edit of its id is stored: it stays set aside, as a repeat.
    Repeat,
    /// It is no edit, or the table still refuses it for what it holds.
    Stays,
}

/// A destination that keeps what it sets aside.
pub trait Aside {
    /// Rows behind this number, at most so many, in order.
    ///
    /// # Errors
    /// [`WriteError`] where the destination does not answer.
    fn set_aside(&mut self, behind: i64, most: i64) -> Result<Vec<SetAside>, WriteError>;

    /// Stores one row after all, and forgets that it was set aside, in one transaction.
    ///
    /// # Errors
    /// [`WriteError::Refused`] where the table refuses what it was made for.
    fn replay(&mut self, row: &SetAside) -> Result<Replayed, WriteError>;
}

impl SetAside {
    /// The row to be; none where its value is no edit, or its id is in the table already.
    #[must_use]
    pub fn to_row(&self, now_ms: i64) -> Option<Row> {
        if self.reason == Reason::DuplicateId.as_str() {
            return None;
        }
        let edit = Edit::from_json(&self.value).ok()?.into_owned();
        Some(Row {
            seq: self.seq,
            offset: self.offset,
            raw_offset: -1,
            received_at_ms: now_ms,
            is_base: false,
            fate: Fate::Store(Box::new(edit)),
        })
    }
}
