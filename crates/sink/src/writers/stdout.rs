//! Standard output, one JSON object a line.
//!
//! It cannot be exact: a line that is out cannot be taken back. Each carries its partition and sequence number, so
//! that a reader can drop what it has seen.

use std::io::Write;

use schema::Edit;
use serde::Serialize;
use uuid::Uuid;

use crate::batch::{Batch, Fate};
use crate::error::WriteError;
use crate::writer::{Claim, Place, Position, Rejected, Writer, Written};

/// Lines on a stream of bytes.
#[derive(Debug)]
pub struct Stdout<W> {
    out: W,
    rejected: Vec<Rejected>,
    told: i64,
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    edit: &'a Edit<'static>,
    partition: i32,
    seq: i64,
}

impl<W: Write> Stdout<W> {
    /// Writes to `out`.
    pub const fn new(out: W) -> Self {
        Self { out, rejected: Vec::new(), told: 0 }
    }
}

impl<W: Write + Send> Writer for Stdout<W> {
    fn claim(&mut self, claims: &[Claim<'_>]) -> Result<Vec<Position>, WriteError> {
        let position = |claim: &Claim<'_>| Position {
            epoch: 0,
            next_seq: None,
            next_offset: claim.base.offset,
            last_raw_offset: -1,
        };
        Ok(claims.iter().map(position).collect())
    }

    fn write(&mut self, batch: &Batch) -> Result<Written, WriteError> {
        let failed = |source: std::io::Error| WriteError::Stop(format!("standard output is gone: {source}"));
        let mut written = Written::default();
        for (partition, part) in &batch.parts {
            for row in &part.rows {
                match &row.fate {
                    Fate::Store(edit) => {
                        let line = Line { edit, partition: *partition, seq: row.seq };
                        // Strings and integers only: this cannot fail.
                        let text = serde_json::to_string(&line).unwrap_or_default();
                        writeln!(self.out, "{text}").map_err(failed)?;
                        written.inserted += 1;
                    }
                    Fate::Reject(rejection, value) => {
                        self.told += 1;
                        self.rejected.push(Rejected {
                            id: self.told,
                            partition: *partition,
                            seq: row.seq,
                            offset: row.offset,
                            rejection: rejection.clone(),
                            value: value.clone(),
                        });
                        written.rejected.push(rejection.reason);
                    }
                }
            }
        }
        self.out.flush().map_err(failed)?;
        Ok(written)
    }

    fn holds(&mut self, _: Uuid, _: Place<'_>) -> Result<bool, WriteError> {
        // It keeps no position: Kafka's offsets say where it goes on, and a repeat is written again.
        Ok(true)
    }

    fn outbox(&mut self, _: Uuid, partitions: &[i32]) -> Result<Vec<Rejected>, WriteError> {
        Ok(self.rejected.iter().filter(|rejected| partitions.contains(&rejected.partition)).cloned().collect())
    }

    fn told(&mut self, ids: &[i64]) -> Result<(), WriteError> {
        self.rejected.retain(|rejected| !ids.contains(&rejected.id));
        Ok(())
    }
}
