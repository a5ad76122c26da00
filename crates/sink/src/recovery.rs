//! Where partitions continue: a claim locks each position in the destination, under a new epoch.

use std::collections::BTreeMap;

use kafka::tail::Bounds;
use kafka::{Error, GroupMember, Tail, TopicPartition};
use schema::record::EventHeaders;
use service::Failure;

use crate::batch::UNKNOWN;
use crate::context::Source;
use crate::error::WriteError;
use crate::position::Owned;
use crate::writer::{Base, Claim, Position, Writer};

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

/// A claim of several partitions, ready to be made.
#[derive(Clone, Debug)]
pub struct Request {
    source: Source,
    partitions: Vec<(i32, Base, Bounds)>,
}

impl Request {
    /// Looks up where the partitions begin and end.
    ///
    /// # Errors
    /// [`ClaimError`].
    pub fn prepare(source: &Source, partitions: &[i32], tail: &Tail) -> Result<Self, ClaimError> {
        let present = tail.topic_id(&source.topic)?;
        if present != source.topic_id {
            return Err(ClaimError::Stop(Failure::Runtime(format!(
                "{} was deleted and created again (its id was {}, and is {present}): its offsets mean other records; end \
                 the sinks, and give them a fresh destination",
                source.topic, source.topic_id
            ))));
        }
        let mut prepared = Vec::new();
        for partition in partitions {
            let bounds = tail.bounds(&source.topic, *partition)?;
            prepared.push((*partition, base(source, *partition, bounds.start, tail)?, bounds));
        }
        Ok(Self { source: source.clone(), partitions: prepared })
    }

    /// Makes the claim. Blocks.
    ///
    /// # Errors
    /// [`WriteError`]: nothing was claimed.
    pub fn make(&self, writer: &mut dyn Writer) -> Result<Vec<Position>, WriteError> {
        let Source { topic, topic_id, owner } = &self.source;
        let claim = |(partition, base, _): &(i32, Base, Bounds)| Claim {
            topic,
            topic_id: *topic_id,
            partition: *partition,
            owner,
            base: *base,
        };
        let claims: Vec<Claim<'_>> = self.partitions.iter().map(claim).collect();
        writer.claim(&claims)
    }

    /// Gives each claimed partition, and the offset to read it from.
    ///
    /// # Errors
    /// [`ClaimError::Stop`] where the topic was cut.
    pub fn begin(
        &self,
        positions: &[Position],
        tail: &Tail,
        member: &GroupMember,
    ) -> Result<BTreeMap<i32, (Owned, i64)>, ClaimError> {
        let topic = &self.source.topic;
        let mut begun = BTreeMap::new();
        for ((partition, _, found), position) in self.partitions.iter().zip(positions) {
            let mut owned = Owned::at(position);
            if owned.next_seq.is_none() {
                let at = TopicPartition { topic: topic.clone(), partition: *partition };
                if let Some((_, offset, _)) = member.committed(&[at])?.first() {
                    owned.next_offset = *offset;
                }
            }
            // Until the claim was made the owner before us may have stored what came since we looked.
            let is_cut = owned.next_offset > found.end && owned.next_offset > tail.bounds(topic, *partition)?.end;
            if is_cut {
                return Err(ClaimError::Stop(Failure::Runtime(format!(
                    "{topic} partition {partition} ends at offset {}, but {} is due next: the topic was cut or created \
                     again; restore it, or give the sink a fresh destination",
                    found.end, owned.next_offset
                ))));
            }
            // What retention took before it was stored shows as a hole, and is repaired from the raw topic.
            let start = owned.next_offset.max(found.start);
            begun.insert(*partition, (owned, start));
        }
        Ok(begun)
    }
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
