//! Partitions claimed and given back. A claim locks the position in the destination, under a new epoch.

use std::collections::BTreeMap;

use kafka::{Error, GroupMember, Tail, TopicPartition};
use schema::record::EventHeaders;
use service::Failure;
use uuid::Uuid;

use crate::batch::UNKNOWN;
use crate::error::WriteError;
use crate::writer::{Base, Claim, Position, Writer};

/// A partition that this sink owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    /// The epoch under which it may be written.
    pub epoch: i64,
    /// Sequence number of the next record; `None` where the first one found is taken.
    pub next_seq: Option<i64>,
    /// Offset behind the last record stored.
    pub next_offset: i64,
    /// Raw offset of the last record taken, for healing.
    pub last_raw_offset: i64,
    /// A hole that could not be healed: nothing more is taken.
    pub is_halted: bool,
    /// When ingest read the last record taken.
    pub last_received_at_ms: Option<i64>,
}

impl Owned {
    const fn at(position: &Position) -> Self {
        Self {
            epoch: position.epoch,
            next_seq: position.next_seq,
            next_offset: position.next_offset,
            last_raw_offset: position.last_raw_offset,
            is_halted: false,
            last_received_at_ms: None,
        }
    }
}

/// What can go wrong with a claim, by what the sink must do.
#[derive(Debug)]
pub enum ClaimError {
    /// Try again.
    Again(String),
    /// A person must act.
    Stop(Failure),
}

impl From<Error> for ClaimError {
    fn from(error: Error) -> Self {
        match error {
            Error::Stop(sentence) => Self::Stop(Failure::Runtime(sentence)),
            doubt @ (Error::Doubt { .. } | Error::TimedOut { .. }) => Self::Again(doubt.sentence()),
        }
    }
}

impl From<WriteError> for ClaimError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Stop(sentence) => Self::Stop(Failure::Runtime(sentence)),
            other @ (WriteError::Retry { .. }
            | WriteError::TooSlow { .. }
            | WriteError::Refused(_)
            | WriteError::Fenced { .. }) => Self::Again(other.to_string()),
        }
    }
}

/// The topic that is stored.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its name.
    pub topic: String,
    /// Its id.
    pub topic_id: Uuid,
    /// Who stores it.
    pub owner: String,
}

/// Claims partitions and gives where each goes on.
///
/// # Errors
/// [`ClaimError`]; nothing was claimed.
pub fn claim(
    source: &Source,
    partitions: &[i32],
    writer: &mut dyn Writer,
    tail: &Tail,
    member: &GroupMember,
) -> Result<BTreeMap<i32, (Owned, i64)>, ClaimError> {
    let mut claims = Vec::new();
    let mut bounds = BTreeMap::new();
    for partition in partitions {
        let found = tail.bounds(&source.topic, *partition)?;
        let base = base(source, *partition, found.start, tail)?;
        bounds.insert(*partition, found);
        let (topic, topic_id, owner) = (source.topic.as_str(), source.topic_id, source.owner.as_str());
        claims.push(Claim { topic, topic_id, partition: *partition, owner, base });
    }
    let positions = writer.claim(&claims)?;
    let mut owned = BTreeMap::new();
    for (partition, position) in partitions.iter().zip(positions) {
        let mut taken = Owned::at(&position);
        if taken.next_seq.is_none() {
            let at = TopicPartition { topic: source.topic.clone(), partition: *partition };
            if let Some((_, offset, _)) = member.committed(&[at])?.first() {
                taken.next_offset = *offset;
            }
        }
        let Some(found) = bounds.get(partition) else { continue };
        // Until the claim was made the owner before us may have stored what came since we looked.
        let is_cut = taken.next_offset > found.end && taken.next_offset > tail.bounds(&source.topic, *partition)?.end;
        if is_cut {
            return Err(ClaimError::Stop(Failure::Runtime(format!(
                "{} partition {partition} ends at offset {}, but {} is due next: the topic was cut or made anew; \
                 restore it, or give the sink a fresh destination",
                source.topic, found.end, taken.next_offset
            ))));
        }
        // What retention took before it was stored shows as a hole, and is healed from the raw topic.
        let start = taken.next_offset.max(found.start);
        owned.insert(*partition, (taken, start));
    }
    Ok(owned)
}

/// Where a partition begins for a destination that never saw it: with 0, with the first record that is left, or, where
/// none is left, with the first that comes.
fn base(source: &Source, partition: i32, start: i64, tail: &Tail) -> Result<Base, ClaimError> {
    if start == 0 {
        return Ok(Base { seq: 0, offset: 0 });
    }
    // What others wrote there is stepped over.
    let first = tail.first_own_record(&source.topic, partition, start, EventHeaders::is_on)?;
    let headers = first.as_ref().and_then(|first| EventHeaders::read(first).ok());
    Ok(Base { seq: headers.map_or(UNKNOWN, |headers| headers.seq), offset: start })
}
