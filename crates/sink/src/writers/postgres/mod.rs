//! PostgreSQL: rows and position in one transaction.
//!
//! The progress rows are locked in partition order and must carry this sink's epoch; the edits go in by binary COPY.
//! An answer that does not come is no answer: the connection is dropped, and the next write reads what is stored.

mod aside;
pub mod connection;
mod copy;
pub mod migrations;
mod prune;
mod rows;
mod tls;

use std::collections::BTreeMap;

use postgres::{Client, Error, Transaction};
use schema::{Reason, Rejection};
use service::Failure;
use uuid::Uuid;

use crate::batch::{Batch, Due, Row, UNKNOWN};
use crate::error::WriteError;
use crate::writer::{Claim, Place, Position, Rejected, Writer, Written};
use connection::{DatabaseConfig, POOLED, Target, Verdict, failed, is_pooled, judge, sentence};
use copy::{Insert, Reject, copy_or_refuse};
use migrations::Standing;

/// Dead letters told at once.
const OUTBOX: i64 = 500;

const CLAIM: &str = "INSERT INTO sink_progress AS p \
    (topic_id, partition, topic, base_seq, next_seq, next_offset, last_raw_offset, owner, epoch) \
    VALUES ($1, $2, $3, $4, $4, $5, -1, $6, 1) \
    ON CONFLICT (topic_id, partition) DO UPDATE SET epoch = p.epoch + 1, owner = excluded.owner \
    RETURNING epoch, next_seq, next_offset, last_raw_offset";
const LOCK: &str = "SELECT partition, epoch, next_seq FROM sink_progress \
    WHERE topic_id = $1 AND partition = ANY($2) ORDER BY partition FOR UPDATE";
const MOVE: &str = "UPDATE sink_progress p SET next_seq = n.next_seq, next_offset = n.next_offset, \
    last_raw_offset = n.last_raw_offset, base_seq = CASE p.base_seq WHEN -1 THEN n.first_seq ELSE p.base_seq END \
    FROM unnest($2::integer[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[]) \
        AS n (partition, next_seq, next_offset, last_raw_offset, first_seq) \
    WHERE p.topic_id = $1 AND p.partition = n.partition";
const REJECT: &str = "INSERT INTO edits_rejected (topic_id, partition, seq, \"offset\", reason, detail, value, event_id) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
const HOLDS: &str = "SELECT EXISTS (SELECT 1 FROM edits WHERE topic_id = $1 AND partition = $2 AND seq = $3 AND event_id = $4) \
    OR EXISTS (SELECT 1 FROM edits_rejected WHERE topic_id = $1 AND partition = $2 AND seq = $3 AND event_id = $4)";
const STRETCH: &str = "INSERT INTO sink_stretches (topic_id, partition, from_seq, to_seq) VALUES ($1, $2, $3, $4)";
const UNTOLD: &str = "SELECT id, partition, seq, \"offset\", reason, detail, value FROM edits_rejected \
    WHERE NOT told AND topic_id = $1 AND partition = ANY($2) ORDER BY id LIMIT $3";

/// A PostgreSQL database.
pub struct Postgres {
    target: Target,
    owner: Option<Target>,
    client: Option<Client>,
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Postgres").field("target", &self.target).finish_non_exhaustive()
    }
}

impl Postgres {
    /// Prepares connections; none is made yet.
    ///
    /// # Errors
    /// [`Failure::Config`] naming the setting.
    pub fn new(config: &DatabaseConfig) -> Result<Self, Failure> {
        let (target, owner) = (config.target()?, config.owner()?);
        if let Some(weakness) = target.weakness() {
            tracing::warn!(database = target.name(), "{weakness}");
        }
        Ok(Self { target, owner, client: None })
    }

    /// Connects and sees to it that the tables are there.
    fn connect(&self) -> Result<Client, WriteError> {
        let mut client = self.target.connect_limited().map_err(|error| cannot(&self.target, error))?;
        if migrations::standing(&mut client).map_err(failed("read the version of the tables"))? != Standing::Current {
            let owner = self.owner.as_ref().map(|role| role.connect().map_err(|error| cannot(role, error)));
            let mut owner = owner.transpose()?;
            make_tables(&self.target, owner.as_mut().unwrap_or(&mut client))?;
        }
        Ok(client)
    }

    /// Runs `work` in a transaction. Whatever goes wrong leaves nothing behind, and a connection in doubt is dropped.
    fn transact<T>(
        &mut self,
        work: impl FnOnce(&mut Transaction<'_>) -> Result<T, WriteError>,
    ) -> Result<T, WriteError> {
        let mut client = match self.client.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => self.connect()?,
        };
        let mut transaction = client.transaction().map_err(failed("begin a transaction"))?;
        let mut is_whole = true;
        let done = match work(&mut transaction) {
            Ok(done) => transaction.commit().map_err(failed("commit")).map(|()| done),
            // Where it cannot be rolled back the connection is gone, and the first error says why.
            Err(error) => {
                is_whole = transaction.rollback().is_ok();
                Err(error)
            }
        };
        // After a failed commit nobody knows what is stored: a new connection asks.
        if done.is_ok() || (is_whole && matches!(done, Err(WriteError::Fenced { .. } | WriteError::Refused(_)))) {
            self.client = Some(client);
        }
        done
    }
}

/// Makes the tables, or brings them up to date, as this role.
///
/// # Errors
/// What the database said.
pub fn migrate(owner: &Target) -> Result<(), WriteError> {
    let mut client = owner.connect().map_err(|error| cannot(owner, error))?;
    make_tables(owner, &mut client)
}

fn make_tables(target: &Target, owner: &mut Client) -> Result<(), WriteError> {
    let made = migrations::migrate(owner).and_then(|()| migrations::standing(owner));
    match made {
        Ok(Standing::Current) => Ok(()),
        Ok(Standing::Behind(_)) => Err(WriteError::Stop("the tables could not be made".to_owned())),
        Ok(Standing::Newer(version)) => Err(WriteError::Stop(format!(
            "the tables in {} are of version {version}, made by a newer program: run that one",
            target.name()
        ))),
        Err(error) if is_pooled(&error) => Err(WriteError::Stop(POOLED.to_owned())),
        Err(error) if judge(&error) == Verdict::Stop => Err(WriteError::Stop(format!(
            "the tables are not there, and this role may not make them in {}: {}; name one that may with \
             WIKI_DATABASE_OWNER_URL",
            target.name(),
            sentence(&error)
        ))),
        Err(error) => Err(failed("make the tables")(error)),
    }
}

/// Why there is no connection, in a sentence.
fn cannot(role: &Target, error: Error) -> WriteError {
    match judge(&error) {
        Verdict::Stop if is_pooled(&error) => WriteError::Stop(POOLED.to_owned()),
        Verdict::Stop => WriteError::Stop(format!(
            "PostgreSQL ({}) refuses: {}; check the address and the password",
            role.name(),
            sentence(&error)
        )),
        Verdict::Retry | Verdict::TooSlow | Verdict::BadRow | Verdict::Refused => WriteError::Retry {
            doing: "connect",
            source: format!("PostgreSQL ({}) does not answer: {}", role.name(), sentence(&error)).into(),
        },
    }
}

impl Writer for Postgres {
    fn prepare(&mut self) -> Result<(), WriteError> {
        self.transact(|_| Ok(()))
    }

    fn claim(&mut self, claims: &[Claim<'_>]) -> Result<Vec<Position>, WriteError> {
        self.transact(|transaction| {
            let mut order: Vec<(usize, &Claim<'_>)> = claims.iter().enumerate().collect();
            // Whoever locks progress rows does it in this order.
            order.sort_by_key(|(_, claim)| claim.partition);
            let mut positions = BTreeMap::new();
            for (place, claim) in order {
                refuse_other_topic(transaction, claim)?;
                positions.insert(place, claim_one(transaction, claim).map_err(failed("claim a partition"))?);
            }
            Ok(positions.into_values().collect())
        })
    }

    fn write(&mut self, batch: &Batch) -> Result<Written, WriteError> {
        self.transact(|transaction| store(transaction, batch))
    }

    fn holds(&mut self, topic_id: Uuid, place: Place<'_>) -> Result<bool, WriteError> {
        let Place { partition, seq, id } = place;
        self.transact(|transaction| {
            let row = transaction.query_one(HOLDS, &[&topic_id, &partition, &seq, &id]);
            row.map(|row| row.get(0)).map_err(failed("look for a row"))
        })
    }

    fn outbox(&mut self, topic_id: Uuid, partitions: &[i32]) -> Result<Vec<Rejected>, WriteError> {
        self.transact(|transaction| {
            let rows =
                transaction.query(UNTOLD, &[&topic_id, &partitions, &OUTBOX]).map_err(failed("read the outbox"))?;
            Ok(rows.iter().map(rejected).collect())
        })
    }

    fn told(&mut self, ids: &[i64]) -> Result<(), WriteError> {
        self.transact(|transaction| {
            let note = "UPDATE edits_rejected SET told = true WHERE id = ANY($1)";
            transaction.execute(note, &[&ids]).map(|_| ()).map_err(failed("note dead letters"))
        })
    }
}

/// A topic that was made anew under the same name is another topic: its offsets mean nothing here.
fn refuse_other_topic(transaction: &mut Transaction<'_>, claim: &Claim<'_>) -> Result<(), WriteError> {
    let others = "SELECT topic_id FROM sink_progress WHERE topic = $1 AND partition = $2 AND topic_id <> $3";
    let other = transaction
        .query_opt(others, &[&claim.topic, &claim.partition, &claim.topic_id])
        .map_err(failed("look for another topic"))?;
    match other {
        None => Ok(()),
        Some(row) => Err(WriteError::Stop(format!(
            "this database holds edits of another topic {} (id {}; the present one has {}): give each its own database",
            claim.topic,
            row.get::<_, Uuid>(0),
            claim.topic_id
        ))),
    }
}

fn claim_one(transaction: &mut Transaction<'_>, claim: &Claim<'_>) -> Result<Position, Error> {
    let Claim { topic, topic_id, partition, owner, base } = claim;
    let row = transaction.query_one(CLAIM, &[topic_id, partition, topic, &base.seq, &base.offset, owner])?;
    let next_seq = Some(row.get(1)).filter(|next| *next != UNKNOWN);
    Ok(Position { epoch: row.get(0), next_seq, next_offset: row.get(2), last_raw_offset: row.get(3) })
}

/// Writes a batch: what is due of it, under its epochs.
fn store(transaction: &mut Transaction<'_>, batch: &Batch) -> Result<Written, WriteError> {
    let stored = lock(transaction, batch).map_err(failed("lock the positions"))?;
    let mut written = Written::default();
    let mut due: Vec<(i32, Due<'_>)> = Vec::new();
    let mut fenced = Vec::new();
    for (partition, part) in &batch.parts {
        match stored.get(partition) {
            Some((epoch, next_seq)) if *epoch == part.epoch => match part.due(*next_seq) {
                Ok(found) => {
                    written.repeats += (part.rows.len() - found.rows.len()) as u64;
                    due.push((*partition, found));
                }
                Err(hole) => written.holes.push((*partition, hole)),
            },
            Some(_) | None => fenced.push(*partition),
        }
    }
    if !fenced.is_empty() {
        return Err(WriteError::Fenced { partitions: fenced });
    }
    let (mut inserts, mut rejects) = (Vec::new(), Vec::new());
    for (partition, row) in due.iter().flat_map(|(partition, due)| due.rows.iter().map(|row| (*partition, row))) {
        match Insert::of(partition, row) {
            Ok(insert) => inserts.push(insert),
            Err(reject) => rejects.push(reject),
        }
    }
    let refused = copy_or_refuse(transaction, batch.topic_id, &inserts).map_err(failed("copy rows"))?;
    written.inserted = (inserts.len() - refused.len()) as u64;
    rejects.extend(refused);
    rejects.sort_by_key(|reject| (reject.partition, reject.row.seq));
    set_aside(transaction, batch.topic_id, &rejects).map_err(failed("set rows aside"))?;
    written.rejected = rejects.iter().map(|reject| reject.rejection.reason).collect();
    for (partition, (from, to)) in due.iter().flat_map(|(at, due)| due.lost.iter().map(|lost| (*at, *lost))) {
        transaction.execute(STRETCH, &[&batch.topic_id, &partition, &from, &to]).map_err(failed("note a loss"))?;
        written.lost.push((partition, (from, to)));
    }
    move_on(transaction, batch.topic_id, &due).map_err(failed("write the positions"))?;
    Ok(written)
}

/// Epoch and next sequence number of the batch's partitions, locked until the transaction ends.
fn lock(transaction: &mut Transaction<'_>, batch: &Batch) -> Result<BTreeMap<i32, (i64, i64)>, Error> {
    let partitions: Vec<i32> = batch.parts.keys().copied().collect();
    let rows = transaction.query(LOCK, &[&batch.topic_id, &partitions])?;
    Ok(rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect())
}

fn set_aside(transaction: &mut Transaction<'_>, topic_id: Uuid, rejects: &[Reject<'_>]) -> Result<(), Error> {
    if rejects.is_empty() {
        return Ok(());
    }
    let statement = transaction.prepare(REJECT)?;
    for reject in rejects {
        let Reject { partition, row, rejection, value } = reject;
        let id = reject.id();
        // PostgreSQL's text holds no NUL, and a detail may quote one.
        let (reason, detail) = (rejection.reason.as_str(), rejection.detail.replace('\0', "\u{fffd}"));
        transaction
            .execute(&statement, &[&topic_id, partition, &row.seq, &row.offset, &reason, &detail, value, &id])?;
    }
    Ok(())
}

fn move_on(transaction: &mut Transaction<'_>, topic_id: Uuid, due: &[(i32, Due<'_>)]) -> Result<(), Error> {
    let due = due.iter().filter(|(_, due)| !due.rows.is_empty());
    let firsts: Vec<i64> = due.clone().filter_map(|(_, due)| Some(due.rows.first()?.seq)).collect();
    let lasts: Vec<(i32, &Row)> = due.filter_map(|(partition, due)| Some((*partition, due.rows.last()?))).collect();
    let partitions: Vec<i32> = lasts.iter().map(|(partition, _)| *partition).collect();
    let next_seqs: Vec<i64> = lasts.iter().map(|(_, row)| row.seq + 1).collect();
    let next_offsets: Vec<i64> = lasts.iter().map(|(_, row)| row.offset + 1).collect();
    let raw_offsets: Vec<i64> = lasts.iter().map(|(_, row)| row.raw_offset).collect();
    transaction.execute(MOVE, &[&topic_id, &partitions, &next_seqs, &next_offsets, &raw_offsets, &firsts]).map(|_| ())
}

fn rejected(row: &postgres::Row) -> Rejected {
    let reason: String = row.get(4);
    let reason = Reason::ALL.into_iter().find(|known| known.as_str() == reason);
    Rejected {
        id: row.get(0),
        partition: row.get(1),
        seq: row.get(2),
        offset: row.get(3),
        rejection: Rejection::new(reason.unwrap_or(Reason::RefusedByWriter), row.get::<_, String>(5)),
        value: row.get(6),
    }
}
